"""Ranks in a Haystack pipeline with what the base alone installs; says how much that is.

Runs as a file, also where the extras that the rest of this folder needs are missing::

    python eval/bench/base_install.py
"""

from importlib.metadata import distributions
from pathlib import Path

from haystack import Document, Pipeline

from trlm_retrieval.components import TRLMRanker


def main() -> None:
    pipeline = Pipeline()
    pipeline.add_component("ranker", TRLMRanker("trlm-small", first_stage_weight=0.0))
    pipeline = Pipeline.loads(pipeline.dumps())
    documents = [
        Document(content="Berlin is a city in Germany."),
        Document(content="Paris is the capital of France."),
    ]
    query = "what is the capital of France?"
    found = pipeline.run({"ranker": {"query": query, "documents": documents}})
    best = found["ranker"]["documents"][0].content
    if best != documents[1].content:
        raise SystemExit(f"ranked first: {best}")
    installed = {found.metadata["Name"]: found for found in distributions()}
    files = {file.locate() for found in installed.values() for file in found.files or ()}
    size = sum(file.stat().st_size for file in map(_path, files) if file.is_file())
    print(f"ranks; {len(installed)} packages, {size / 1e6:,.0f} MB")


def _path(file: object) -> Path:
    return Path(str(file))


if __name__ == "__main__":
    main()
