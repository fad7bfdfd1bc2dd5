"""LangChain's client, unchanged, in an environment of its own (it takes an older cohere)."""

import json
import subprocess
from pathlib import Path

import httpx
import pytest

from trlm_retrieval.serving.app import create_app
from trlm_retrieval.serving.settings import ServingSettings

PYTHON = Path(__file__).parents[2] / ".venv-langchain" / "bin" / "python"
QUERY = "how does the with statement call exit"
TEXTS = ["A generator yields values.", "The with statement calls exit.", "Keys keep order."]

ASK = """
import json, sys
from langchain_cohere import CohereRerank
from langchain_core.documents import Document

url, query, *texts = sys.argv[1:]
reranker = CohereRerank(base_url=url, cohere_api_key="s3cret", model="trlm", top_n=2)
documents = [Document(page_content=text, metadata={"n": n}) for n, text in enumerate(texts)]
found = reranker.compress_documents(documents, query)
print(json.dumps([
    [document.metadata["n"], document.page_content, document.metadata["relevance_score"]]
    for document in found
]))
try:
    CohereRerank(base_url=url, cohere_api_key="wrong", model="trlm").rerank(texts, query)
except Exception as error:
    print(json.dumps(type(error).__name__))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON.exists(), reason="no .venv-langchain, which `make test-all` sets up"
    ),
]


def test_cohere_rerank(_tiny, served_index, listen):
    with listen(create_app(ServingSettings(served_index, api_key="s3cret"))) as url:
        answer = httpx.post(
            f"{url}/v1/rerank",
            json={"query": QUERY, "documents": TEXTS, "top_n": 2},
            headers={"authorization": "Bearer s3cret"},
        ).json()
        command = [PYTHON, "-c", ASK, url, QUERY, *TEXTS]
        asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert asked.returncode == 0, asked.stderr
    found, refused = map(json.loads, asked.stdout.splitlines())
    assert [(number, text) for number, text, _ in found] == [
        (hit["index"], TEXTS[hit["index"]]) for hit in answer["results"]
    ]
    assert [score for *_, score in found] == pytest.approx(
        [hit["relevance_score"] for hit in answer["results"]], rel=1e-3
    )
    assert refused == "UnauthorizedError"
