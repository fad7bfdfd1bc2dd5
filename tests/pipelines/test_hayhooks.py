"""The wrappers that ship run in a real Hayhooks, with the pulled models."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from haystack import Document

from trlm_retrieval.passage_index import PassageIndex

pytestmark = pytest.mark.slow
pytest.importorskip("hayhooks")

WRAPPERS = Path(__file__).parents[2] / "pipelines" / "hayhooks"
TEXTS = ["The with statement calls exit.", "A generator yields values.", "Keys keep their order."]
QUERY = "which values does a generator yield"
ONLY_KEYS = {"field": "meta.topic", "operator": "==", "value": "keys"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hayhooks")
    documents = [
        Document(id=topic, content=text, meta={"topic": topic})
        for topic, text in zip(("with", "generator", "keys"), TEXTS, strict=True)
    ]
    PassageIndex.build(folder / "index", documents)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("hayhooks")), "run", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--pipelines-dir", str(WRAPPERS)]
    settings = {"TRLM_INDEX": str(folder / "index"), "TRLM_MODEL": "trlm-small"}
    with subprocess.Popen(command, env={**os.environ, **settings}, cwd=folder) as server:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for_both(url)
            yield url
        finally:
            server.terminate()


def wait_for_both(url):
    for _ in range(480):
        try:
            found = httpx.get(f"{url}/status").json().get("pipelines", [])
            if {"retrieval", "cited_rag"} <= set(found):
                return
        except httpx.TransportError:
            pass  # not listening yet
        time.sleep(0.5)
    raise AssertionError("Hayhooks does not serve both pipelines")


def ask(url, pipeline, **sent):
    return httpx.post(f"{url}/{pipeline}/run", json={"query": QUERY} | sent, timeout=300)


def test_it_answers_with_passages_in_order(url):
    answer = ask(url, "retrieval", top_k=2)
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["result"]
    assert first["content"] == TEXTS[1] and first["score"] > second["score"]
    assert first["meta"]["trlm"]["log_likelihood"] < 0


def test_it_answers_with_citations(url):
    answer = ask(url, "cited_rag", top_k=2)
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    assert result["answer"] and result["passages"][0]["content"] == TEXTS[1]
    assert len(result["passages"]) == 2 and result["sentences"]
    unsupported = [sentence for sentence in result["sentences"] if not sentence["supported"]]
    assert result["unsupported"] == len(unsupported)
    for sentence in result["sentences"]:
        for citation in sentence["citations"]:
            cited = result["passages"][citation["number"] - 1]
            assert cited["id"] == citation["document_id"]
            assert cited["content"][citation["start"] : citation["end"]] == citation["quote"]
            assert f"[{citation['number']}]" in result["answer"]


def test_filters_hold(url):
    [found] = ask(url, "retrieval", filters=ONLY_KEYS).json()["result"]
    assert found["id"] == "keys"
    [found] = ask(url, "cited_rag", filters=ONLY_KEYS).json()["result"]["passages"]
    assert found["id"] == "keys"
    nowhere = ONLY_KEYS | {"value": "nowhere"}
    assert ask(url, "retrieval", filters=nowhere).json()["result"] == []
    nothing = ask(url, "cited_rag", filters=nowhere)
    assert nothing.status_code == 404 and nothing.json()["detail"] == "no passage found"


@pytest.mark.parametrize("pipeline", ["retrieval", "cited_rag"])
@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"filters": "keys"}, "valid dictionary"),
        ({"filters": {"topic": "keys"}}, "filters: 'operator' is missing"),
        ({"filters": ONLY_KEYS | {"operator": "like"}}, "no operator 'like'; give one of ==, !="),
        ({"filters": ONLY_KEYS | {"operator": ">"}}, "filters do not fit document"),
        ({"query": " "}, "query is empty"),
        ({"top_k": 0}, "greater than or equal to 1"),
        ({"top_k": 21}, "less than or equal to 20"),
    ],
)
def test_bad_input_is_told(url, pipeline, sent, reason):
    answer = ask(url, pipeline, **sent)
    assert answer.status_code == 422 and reason in answer.text
