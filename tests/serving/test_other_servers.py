"""The routes of other servers answer, and refuse, in the words of their servers."""

import math
import sys

import pytest

QUERY = "how does the with statement call exit"
TEXTS = ["A generator yields values.", "The with statement calls exit.", "Keys keep order."]
LONG = "word " * 3000


@pytest.fixture(scope="module")
def expected(client):
    """What our own rerank pipeline gives for each text."""
    sent = {"query": QUERY, "documents": TEXTS}
    return client.post("/rerank/run", json=sent).json()["result"]["results"]


def test_rerank_as_tei(client, expected):
    sent = {"query": QUERY, "texts": TEXTS, "unknown": 1}
    ranks = client.post("/rerank", json=sent).json()
    assert [rank["index"] for rank in ranks] == [hit["index"] for hit in expected]
    assert all(rank.keys() == {"index", "score"} for rank in ranks)
    scores = [hit["relevance_score"] for hit in expected]
    assert [rank["score"] for rank in ranks] == pytest.approx(scores, rel=1e-3)
    raw = client.post("/rerank", json=sent | {"raw_scores": True, "return_text": True}).json()
    assert [rank["score"] for rank in raw] == pytest.approx(list(map(math.log, scores)), abs=1e-3)
    assert [rank["text"] for rank in raw] == [TEXTS[rank["index"]] for rank in raw]


def test_tei_blank_texts_come_last_and_their_logarithm_is_a_number(client):
    sent = {"query": QUERY, "texts": [" ", *TEXTS], "raw_scores": True}
    last = client.post("/rerank", json=sent).json()[-1]
    assert last == {"index": 0, "score": pytest.approx(math.log(sys.float_info.min))}


def test_tei_cuts_a_long_text_only_where_it_may(client):
    sent = {"query": QUERY, "texts": [TEXTS[0], LONG]}
    refused = client.post("/rerank", json=sent)
    assert refused.status_code == 413
    assert "texts[1]" in refused.json()["error"] and "truncate" in refused.json()["error"]
    assert len(client.post("/rerank", json=sent | {"truncate": True}).json()) == 2


def test_a_document_that_is_cut_is_told(client):
    sent = {"query": QUERY, "documents": [TEXTS[0], LONG]}
    found = client.post("/v2/rerank", json=sent).json()
    cut = {hit["index"]: hit.get("cut_tokens") for hit in found["results"]}
    assert cut[0] is None and cut[1] > 0
    assert found["meta"]["warnings"] == ["1 of 2 documents are longer than the model reads"]


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_score_as_vllm(client, expected, path):
    by_index = {hit["index"]: hit["relevance_score"] for hit in expected}
    sent = {"model": "any", "text_1": QUERY, "text_2": TEXTS, "priority": 0}
    answer = client.post(path, json=sent).json()
    assert answer["object"] == "list" and answer["id"] and answer["created"] > 0
    assert [one["index"] for one in answer["data"]] == [0, 1, 2]
    assert {one["object"] for one in answer["data"]} == {"score"}
    scores = [one["score"] for one in answer["data"]]
    assert scores == pytest.approx([by_index[index] for index in range(3)], rel=1e-3)
    tokens = client.app.state.engine.rerank_ranker.model.score([(QUERY, TEXTS[0])])[0]
    assert answer["usage"]["total_tokens"] == 3 * len(tokens)


def test_vllm_pairs_keep_their_places(client):
    def scores(text_1, text_2):
        answer = client.post("/score", json={"text_1": text_1, "text_2": text_2})
        return [one["score"] for one in answer.json()["data"]]

    other = "what keeps its order"
    found = scores([QUERY, other, QUERY], [TEXTS[1], TEXTS[2], " "])
    assert found[:2] == pytest.approx(
        [*scores(QUERY, TEXTS[1]), *scores([other], TEXTS[2])], rel=1e-3
    )
    assert found[2] == 0
    answer = client.post("/score", json={"text_1": [QUERY, other], "text_2": TEXTS})
    assert answer.status_code == 422 and "one for each text" in answer.json()["error"]["message"]


def test_the_model_as_openai(client):
    answer = client.get("/v1/models").json()
    [model] = answer["data"]
    assert answer["object"] == "list" and model["object"] == "model"
    assert model["id"] == client.app.state.engine.model and model["created"] > 0


ASKED = {
    "/rerank": {"query": " ", "texts": ["a"]},
    "/v1/rerank": {"query": " ", "documents": ["a"]},
    "/v2/rerank": {"query": " ", "documents": ["a"]},
    "/score": {"text_1": " ", "text_2": "a"},
    "/v1/score": {"text_1": " ", "text_2": "a"},
}


def message(path, answer, kind):
    """The text of a refusal, where the clients of its route read it."""
    body = answer.json()
    if path == "/rerank":
        assert body.keys() == {"error", "error_type"}
        assert body["error_type"] == ("Overloaded" if kind == "busy" else "Validation")
        return body["error"]
    if path in ("/v1/rerank", "/v2/rerank"):
        assert body["message"] == body["detail"]
        return body["message"]
    error = body["error"]
    assert error["type"] == ("server_error" if kind == "busy" else "invalid_request_error")
    assert error["code"] == answer.status_code
    return error["message"]


@pytest.mark.parametrize("path", ASKED)
def test_refusals(client, make_client, monkeypatch, path):
    mistake = client.post(path, json=ASKED[path])
    assert mistake.status_code == 422
    assert "must not be blank" in message(path, mistake, "mistake")
    large = client.post(path, content=b"x" * 20_001)
    assert large.status_code == 413 and "20000 bytes" in message(path, large, "large")
    many = {name: ["a"] * 6 if name in ("texts", "documents", "text_2") else "q"
            for name in ASKED[path]}  # fmt: skip
    refused = client.post(path, json=many)
    assert refused.status_code == 413 and "takes 5" in message(path, refused, "many")
    gate = client.app.state.engine.gate
    monkeypatch.setattr(gate, "_places", _Full())
    good = {name: "a" if value == " " else value for name, value in ASKED[path].items()}
    busy = client.post(path, json=good)
    assert busy.status_code == 503 and busy.headers["retry-after"]
    assert "busy" in message(path, busy, "busy")


class _Full:
    def acquire(self, blocking):
        return False


def test_without_the_key(make_client):
    with make_client(api_key="s3cret") as client:
        for path in ASKED:
            answer = client.post(path, json=ASKED[path])
            assert answer.status_code == 401 and "Bearer" in message(path, answer, "key")
        answer = client.get("/v1/models")
        assert answer.status_code == 401 and "Bearer" in message("/v1/models", answer, "key")
