"""What each command prints, writes and returns when all is well."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from haystack import Document

from trlm_retrieval import index_data
from trlm_retrieval.cli import demo as demo_module
from trlm_retrieval.lm.state_folder import StateFolder
from trlm_retrieval.models import store
from trlm_retrieval.passage_index import PassageIndex

Run = Callable[..., Any]
QUESTION = "how does a generator yield values"


def test_search_prints_a_ranking_with_both_ranks(
    run: Run, folder: Path, tiny_lm_folder: Path
) -> None:
    arguments = ["search", QUESTION, "--index", folder, "--model", tiny_lm_folder]
    found = json.loads(run(*arguments, "--json", "--top-k", 4).out)["results"]
    outcome = run(*arguments, "--top-k", 4)
    assert outcome.code == 0
    ranks = re.findall(r"^ *(\d) +was (\d)(?: ([▲▼])(\d))?", outcome.out, re.MULTILINE)
    assert [(int(rank), int(was)) for rank, was, _, _ in ranks] == [
        (result["rank"], result["first_stage_rank"]) for result in found
    ]
    for rank, was, sign, distance in ranks:
        moved = int(was) - int(rank)
        assert (sign, distance) == (
            ("▲" if moved > 0 else "▼", str(abs(moved))) if moved else ("", "")
        )
    assert "The with statement" in outcome.out
    assert re.search(r"4 candidates · BM25 .* · FAISS .* · fusion .* · rerank .*s$", outcome.out)
    assert "\x1b[31m" not in outcome.out


def test_search_as_json(run: Run, folder: Path, tiny_lm_folder: Path) -> None:
    outcome = run(
        "search", QUESTION, "--index", folder, "--model", tiny_lm_folder, "--json", "--top-k", 3
    )
    assert outcome.code == 0
    answer = json.loads(outcome.out)
    assert answer["query"] == QUESTION
    assert answer["candidates"] == 4
    assert set(answer["seconds"]) == {"BM25", "FAISS", "fusion", "rerank"}
    assert all(seconds >= 0 for seconds in answer["seconds"].values())
    assert [result["rank"] for result in answer["results"]] == [1, 2, 3]
    scores = [result["score"] for result in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert {result["first_stage_rank"] for result in answer["results"]} <= {1, 2, 3, 4}
    for result in answer["results"]:
        assert result["log_likelihood"] < 0
        assert "token_gains" not in result and "trlm" not in result["meta"]
    [generator] = [result for result in answer["results"] if result["id"] == "gen"]
    assert generator["first_stage_rank"] == 1
    assert generator["text"] == "A generator yields values one at a time."
    assert (generator["title"], generator["meta"]) == (None, {"page": 4})


def test_search_explained(run: Run, folder: Path, tiny_lm_folder: Path) -> None:
    arguments = ["search", QUESTION, "--index", folder, "--model", tiny_lm_folder, "--explain"]
    [first, *_] = json.loads(run(*arguments, "--json").out)["results"]
    assert "".join(found["token"] for found in first["token_gains"]).strip() == QUESTION
    total = sum(found["gain"] for found in first["token_gains"])
    assert total == pytest.approx(first["gain"], abs=1e-3)
    assert f"gain {first['gain']:+.1f} nats" in run(*arguments).out


def test_the_model_does_rank(
    run: Run, folder: Path, make_tiny_lm: Callable[..., Any], tmp_path: Path
) -> None:
    def likelihoods(seed: int) -> list[float]:
        make_tiny_lm("both", seed=seed).save(tmp_path / f"model-{seed}")
        outcome = run(
            "search", QUESTION, "--index", folder, "--model", tmp_path / f"model-{seed}", "--json"
        )
        return [result["log_likelihood"] for result in json.loads(outcome.out)["results"]]

    assert likelihoods(1) != likelihoods(2)


def test_candidates_bound_what_is_reranked(run: Run, folder: Path, tiny_lm_folder: Path) -> None:
    arguments = ["search", QUESTION, "--index", folder, "--model", tiny_lm_folder, "--json"]
    assert json.loads(run(*arguments, "-c", 2, "-k", 1).out)["candidates"] == 2
    assert len(json.loads(run(*arguments, "-c", 1, "-k", 3).out)["results"]) == 3


def test_a_question_of_bytes_that_are_no_text(run: Run, folder: Path, tiny_lm_folder: Path) -> None:
    outcome = run("search", "caf\udce9", "--index", folder, "--model", tiny_lm_folder, "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["query"] == "caf\ufffd"


def test_the_index_comes_from_the_environment(
    run: Run, folder: Path, tiny_lm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRLM_INDEX", str(folder))
    assert run("search", QUESTION, "--model", tiny_lm_folder).code == 0


def test_states_beside_the_index_are_used(
    run: Run, folder: Path, tiny_lm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ("search", "yields values", "--index", folder, "--model", tiny_lm_folder, "--json")
    expected = json.loads(run(*ask).out)
    done = run("index", "--states", "--index", folder, "--model", tiny_lm_folder, "--json")
    kept = json.loads(done.out)["states"]
    assert kept["states"] == 4 and kept["bytes"] == (folder / "states/states.bin").stat().st_size
    assert f"{kept['tokens']:,} tokens" in done.err
    looked_up = []
    get = StateFolder.get
    monkeypatch.setattr(
        StateFolder, "get", lambda self, key: looked_up.append(get(self, key)) or looked_up[-1]
    )
    found = json.loads(run(*ask).out)
    assert looked_up and None not in looked_up
    for one, other in zip(found["results"], expected["results"], strict=True):
        assert one["log_likelihood"] == pytest.approx(other["log_likelihood"], abs=1e-3)
    (folder / "states/states.bin").write_bytes(b"")
    broken = run(*ask)
    assert broken.code == 2 and "trlm index --states" in broken.err


def test_states_go_with_the_passages_they_are_of(
    run: Run, tmp_path: Path, tiny_lm_folder: Path
) -> None:
    (tmp_path / "note.txt").write_text("A note about generators.")
    made = run("index", "note.txt", "--index", "notes", "--states", "--model", tiny_lm_folder)
    assert made.code == 0 and "states of 1 passage" in made.out
    again = run("index", "note.txt", "--index", "notes")
    assert again.code == 0 and "removed" in again.err
    assert not (tmp_path / "notes" / "states").exists()
    assert run("index", "note.txt", "--states-precision", "int8").code == 2
    assert run("index", "note.txt", "--states", "--states-precision", "int4").code == 2


def test_nothing_found(
    run: Run, folder: Path, tiny_lm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PassageIndex, "search_bm25", lambda *_, **__: [])
    monkeypatch.setattr(PassageIndex, "search_dense", lambda *_, **__: [])
    arguments = [QUESTION, "--index", folder, "--model", tiny_lm_folder]
    outcome = run("search", *arguments)
    assert (outcome.code, outcome.out) == (3, "No passage found.\n")
    outcome = run("search", *arguments, "--json")
    assert outcome.code == 3
    assert json.loads(outcome.out)["results"] == []
    assert run("explain", *arguments, "-o", "page.html").code == 3
    assert not Path("page.html").exists()


def test_explain_writes_a_page(
    run: Run, folder: Path, tiny_lm_folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text("an earlier one")
    arguments = ["explain", QUESTION, "--index", folder, "--model", tiny_lm_folder, "-o", page]
    outcome = run(*arguments, "-k", 2)
    assert outcome.code == 0
    assert str(page) in outcome.out
    html = page.read_text(encoding="utf-8")
    assert html.count("<article") == 2
    assert "generator" in html and str(tiny_lm_folder) in html
    answer = json.loads(run(*arguments, "--json").out)
    assert answer["output"] == str(page)
    assert answer["results"][0]["token_gains"]
    assert sorted(tmp_path.glob("*page*")) == [page]


def test_index_and_what_it_says(run: Run, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "long.txt").write_text("A sentence of words. " * 30)
    (docs / "rows.jsonl").write_text('{"_id": "r1", "text": "one"}\n{"_id": "r2", "text": "two"}\n')
    (docs / "image.png").write_bytes(b"\x89PNG")

    outcome = run("index", docs, "--split-chars", 300)

    assert outcome.code == 0
    assert "3 documents (1 of them cut), 5 passages indexed in " in outcome.out
    assert "image.png: .png files are not read" in outcome.err
    index = PassageIndex.open("trlm-index")
    assert {document.id for document in index.documents()} == {
        *(f"{docs.as_posix()}/long.txt#{n}" for n in (1, 2, 3)),
        "r1",
        "r2",
    }
    assert index.manifest["embedder"]["name"] == "words"
    assert index.manifest["faiss"] == "flat"

    answer = json.loads(run("index", docs, "--faiss", "hnsw", "--json").out)
    assert answer["documents"] == answer["passages"] == answer["passages_in_index"] == 3
    assert answer["skipped"] == [{"path": f"{docs}/image.png", "reason": ".png files are not read"}]
    assert PassageIndex.open("trlm-index").manifest["faiss"] == "hnsw"


def test_append_replaces_documents_and_the_parts_of_documents(run: Run, tmp_path: Path) -> None:
    notes, other = tmp_path / "notes.txt", tmp_path / "other.txt"
    notes.write_text("A sentence of words. " * 30)
    other.write_text("Other words.")
    run("index", notes, "--split-chars", 300)

    notes.write_text("Now it is short.")
    answer = json.loads(run("index", notes, other, "--append", "--json").out)

    assert (answer["passages"], answer["replaced"], answer["passages_in_index"]) == (2, 3, 2)
    contents = {document.content for document in PassageIndex.open("trlm-index").documents()}
    assert contents == {"Now it is short.", "Other words."}


DEMO = [
    Document(id="with", content="The with statement calls enter and exit."),
    Document(id="default", content="A default argument is evaluated once, when defined."),
    Document(id="assign", content="The right side of an assignment is evaluated first."),
    Document(id="close", content="Closing a generator raises GeneratorExit inside."),
]


@pytest.fixture
def demo_documents(monkeypatch: pytest.MonkeyPatch) -> list[Document]:
    """The documents that the demo indexes; change the list to change the demo."""
    documents = list(DEMO)
    monkeypatch.setattr(index_data, "demo_documents", lambda: documents, raising=False)
    monkeypatch.setattr(store, "is_pulled", lambda name: True)
    return documents


def test_index_demo(run: Run, demo_documents: list[Document]) -> None:
    assert run("index", "--demo").code == 0
    assert len(PassageIndex.open("trlm-index")) == len(demo_documents)


def test_the_demo_answers_before_and_after(
    run: Run, demo_documents: list[Document], tiny_lm_folder: Path
) -> None:
    outcome = run("demo", "--model", tiny_lm_folder)
    assert outcome.code == 0
    assert "missing: indexing 4 passages" in outcome.err
    for question in demo_module.QUESTIONS:
        assert question in outcome.out
    assert outcome.out.count("before: BM25 + FAISS") == len(demo_module.QUESTIONS)
    assert len(PassageIndex.open("trlm-index")) == 4


def test_the_demo_indexes_only_what_changed(
    run: Run, demo_documents: list[Document], tiny_lm_folder: Path
) -> None:
    arguments = ["demo", "--model", tiny_lm_folder, "--json"]
    answer = json.loads(run(*arguments).out)
    assert [question["query"] for question in answer["questions"]] == list(demo_module.QUESTIONS)
    for question in answer["questions"]:
        assert len(question["before"]) == len(question["results"]) == 3
        for result in question["results"]:
            if result["first_stage_rank"] <= 3:
                assert question["before"][result["first_stage_rank"] - 1] == result["id"]
    manifest = Path("trlm-index/manifest.json")
    built = manifest.stat().st_mtime_ns
    assert "indexing" not in run(*arguments).err
    assert manifest.stat().st_mtime_ns == built
    demo_documents[0] = Document(id="with", content="A new text about the with statement.")
    assert "out of date: indexing" in run(*arguments).err
    assert PassageIndex.open("trlm-index").get("with").content == demo_documents[0].content


def test_the_demo_leaves_another_index_alone(
    run: Run, folder: Path, demo_documents: list[Document], tiny_lm_folder: Path
) -> None:
    demo_documents[:] = [Document(id="new", content="Demo words.")]
    outcome = run("demo", "--index", folder, "--model", tiny_lm_folder)
    assert outcome.code == 2
    assert "--index" in outcome.err
    assert len(PassageIndex.open(folder)) == 4


def test_the_demo_pulls_what_is_missing(
    run: Run,
    demo_documents: list[Document],
    tiny_lm_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pulled: list[str] = []
    monkeypatch.setattr(store, "is_pulled", lambda name: False)
    monkeypatch.setattr(store, "pull", lambda name, report: pulled.append(name))
    assert run("demo", "--model", tiny_lm_folder).code == 0
    assert pulled == ["minilm"]
    pulled.clear()
    outcome = run("demo")
    assert outcome.code == 0 and pulled == ["minilm"]
    assert "states of 4 passages" in outcome.err
    assert "states" not in run("demo").err
    assert run("search", "what is a block", "--json").code == 0  # with the states' model
