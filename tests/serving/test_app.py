"""What the endpoints answer, and how they refuse."""

import logging
import math
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient
from haystack import Document

from trlm_retrieval import Reranker
from trlm_retrieval.errors import PassageIndexError
from trlm_retrieval.index_data import demo_documents, demo_queries
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.calibration import Calibration
from trlm_retrieval.passage_index import index as index_module
from trlm_retrieval.serving.app import create_app
from trlm_retrieval.serving.examples import example_questions
from trlm_retrieval.serving.settings import ServingSettings

QUERY = "how does the with statement call exit"
TEXTS = ["A generator yields values.", "The with statement calls exit.", "Keys keep order."]


def test_retrieval_gives_what_the_pipeline_gives(client):
    answer = client.post("/retrieval/run", json={"query": QUERY, "top_k": 2, "explain": True})
    assert answer.status_code == 200
    result = answer.json()["result"]
    pipeline = client.app.state.engine.retrieval
    inputs = {name: {"query": QUERY} for name in ("bm25", "dense", "ranker")}
    expected = pipeline.run(inputs)["ranker"]["documents"]
    assert result["candidates"] == 3
    assert [found["id"] for found in result["passages"]] == [doc.id for doc in expected[:2]]
    first, document = result["passages"][0], expected[0]
    measured = document.meta["trlm"]
    assert first["score"] == pytest.approx(document.score, abs=1e-3)
    assert first["log_likelihood"] == pytest.approx(measured["log_likelihood"], abs=1e-3)
    assert first["first_stage_rank"] == measured["first_stage_rank"]
    assert first["title"] == document.meta["title"] and first[
        "content"
    ] == document.content.replace("\ud800", "\ufffd")
    assert sum(found["gain"] for found in first["token_gains"]) == pytest.approx(
        first["gain"], abs=1e-3
    )


def test_each_passage_tells_where_the_retrievers_had_it(client):
    sent = {"query": QUERY, "explain": True}
    passages = client.post("/retrieval/run", json=sent).json()["result"]["passages"]
    retrieval = client.app.state.engine.retrieval
    for name in ("bm25", "dense"):
        found = retrieval.get_component(name).run(query=QUERY)["documents"]
        ranks = {document.id: rank for rank, document in enumerate(found, start=1)}
        assert {p["id"]: p[f"{name}_rank"] for p in passages} == {
            passage["id"]: ranks.get(passage["id"]) for passage in passages
        }
    assert any(passage["bm25_rank"] is None for passage in passages)  # shares no word
    assert all(passage["relevance"] is None for passage in passages)  # no calibration


def test_the_snippet_marks_the_words_of_the_question(client):
    [first, *_] = client.post("/retrieval/run", json={"query": "what exit calls"}).json()["result"][
        "passages"
    ]
    assert first["id"] == "with"
    assert "".join(piece for piece, _ in first["snippet"]) == first["content"]
    assert [piece for piece, is_word in first["snippet"] if is_word] == ["calls", "exit"]


def test_the_first_stage_alone_asks_no_language_model(client, monkeypatch):
    both = client.post("/retrieval/run", json={"query": QUERY}).json()["result"]["passages"]
    ranker = client.app.state.engine.retrieval.get_component("ranker")
    monkeypatch.setattr(ranker, "run", lambda **inputs: pytest.fail("the model was asked"))
    answer = client.post("/first_stage/run", json={"query": QUERY, "top_k": 2})
    result = answer.json()["result"]
    expected = sorted(both, key=lambda passage: passage["first_stage_rank"])
    assert result["candidates"] == 3
    assert [found["id"] for found in result["passages"]] == [p["id"] for p in expected[:2]]
    for rank, (found, passage) in enumerate(zip(result["passages"], expected, strict=False), 1):
        assert found["rank"] == passage["first_stage_rank"] == rank
        assert found["score"] == passage["first_stage_score"]
        for same in ("title", "content", "snippet", "bm25_rank", "dense_rank"):
            assert found[same] == passage[same]


def test_it_tells_what_it_serves_and_what_to_try(client, served_index):
    about = client.get("/about").json()
    assert about["passages"] == 3 and about["index"] == served_index.name
    assert about["examples"] == ["with", "yield", "<i>d</i>"]


def test_examples_are_predicted_queries_else_titles():
    def indexed(*metas):
        return [Document(id=str(n), content="x", meta=meta) for n, meta in enumerate(metas)]

    predicted = {"title": "t", "predicted_queries": ["what is t?", "why t?"]}
    assert example_questions(indexed(predicted, {"title": "a › b"}, {})) == ["what is t?", "b"]
    many = [{"title": str(number // 2)} for number in range(40)]
    assert example_questions(indexed(*many)) == ["0", "5", "10", "15"]
    found = example_questions(demo_documents())
    assert len(found) == 4 and set(found) <= set(demo_queries().values())
    assert example_questions([]) == []


def test_what_no_json_can_carry_is_replaced(client):
    answer = client.post("/retrieval/run", json={"query": "order kept"})
    assert answer.status_code == 200
    [found] = [p for p in answer.json()["result"]["passages"] if p["id"] == "dict"]
    assert found["content"].endswith("\ufffd") and found["meta"]["lone"] == "\ufffd"


def test_without_explain_there_are_no_gains(client):
    [first, *_] = client.post("/retrieval/run", json={"query": QUERY}).json()["result"]["passages"]
    assert first["token_gains"] is None


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_rerank_scores_are_those_of_the_model(client, path):
    answer = client.post(path, json={"query": QUERY, "documents": TEXTS, "model": "any", "x": 1})
    assert answer.status_code == 200
    likelihoods = client.app.state.engine.rerank_ranker.model.score([(QUERY, t) for t in TEXTS])
    results = answer.json()["results"]
    order = sorted(range(3), key=lambda i: -likelihoods[i].sum)
    assert [hit["index"] for hit in results] == order
    for hit in results:
        expected = likelihoods[hit["index"]]
        assert hit["log_likelihood"] == pytest.approx(expected.sum, abs=0.05)
        assert hit["relevance_score"] == pytest.approx(math.exp(expected.mean), rel=0.02)
    assert answer.json()["usage"]["total_tokens"] == 3 * len(likelihoods[0])


def test_a_calibrated_model_gives_probabilities(make_client, make_tiny_lm, tmp_path, monkeypatch):
    lm = make_tiny_lm("both")
    lm.calibration = Calibration(str(lm.template()), (-1.0, 2.0, 0.1), (0.0, 1.0, 0.0))
    lm.save(tmp_path / "tiny")
    monkeypatch.setattr("trlm_retrieval.models.source.resolve", lambda name, hub: tmp_path / "tiny")
    with make_client() as client:
        sent = {"query": QUERY, "documents": [*TEXTS, " "]}
        results = client.post("/v1/rerank", json=sent).json()["results"]
    same = TimeReversedLM.from_pretrained(tmp_path / "tiny")  # in the precision of the server
    expected = Reranker(same, scale_score=True).rank(QUERY, TEXTS)
    assert [hit["index"] for hit in results] == [*(passage.index for passage in expected), 3]
    found = [hit["relevance_score"] for hit in results]
    assert found == pytest.approx([*(passage.score for passage in expected), 0.0], rel=0.02)


def test_rerank_takes_objects_and_returns_them(client):
    documents = [TEXTS[0], {"text": TEXTS[1], "page": 4}]
    sent = {"query": QUERY, "documents": documents, "top_n": 1}
    [hit] = client.post("/v1/rerank", json=sent).json()["results"]
    assert "document" not in hit
    hits = client.post("/v1/rerank", json={**sent, "return_documents": True, "top_n": 9}).json()[
        "results"
    ]
    by_index = {hit["index"]: hit["document"] for hit in hits}
    assert by_index == {0: {"text": TEXTS[0]}, 1: {"text": TEXTS[1]}}


def test_the_rerank_pipeline_does_the_same(client):
    sent = {"query": QUERY, "documents": [{"text": TEXTS[0]}, TEXTS[1]]}
    plain = client.post("/v1/rerank", json=sent).json()["results"]
    found = client.post("/rerank/run", json={**sent, "top_k": 1}).json()["result"]["results"]
    assert [hit["index"] for hit in found] == [plain[0]["index"]]
    assert found[0]["relevance_score"] == pytest.approx(plain[0]["relevance_score"], rel=1e-3)


def test_a_cited_answer(client, say):
    say("It calls both. So it is.")
    answer = client.post("/cited_rag/run", json={"query": QUERY, "top_k": 2})
    result = answer.json()["result"]
    assert len(result["passages"]) == 2 and result["unsupported"] == 0
    ids = [passage["id"] for passage in result["passages"]]
    for sentence in result["sentences"]:
        [citation] = sentence["citations"]
        assert f"[{citation['number']}]" in result["answer"]
        passage = result["passages"][ids.index(citation["document_id"])]
        assert passage["content"][citation["start"] : citation["end"]] == citation["quote"]


def test_a_cited_answer_as_a_page(client, say):
    say("It calls both. <b>So</b> it is.")
    answer = client.post("/cited_rag/page", json={"query": QUERY, "top_k": 2})
    assert answer.headers["content-type"].startswith("text/html")
    assert 'data-s="2"' in answer.text and "Sentence by sentence" in answer.text
    assert "<b>So" not in answer.text and "&lt;b&gt;So" in answer.text


def test_the_heat_map_escapes_what_it_shows(client):
    page = client.post("/explain", json={"query": "<script>alert(1)</script> with"})
    assert page.headers["content-type"].startswith("text/html")
    assert "<script>alert" not in page.text and "&lt;script&gt;" in page.text
    assert "<b>Bold</b>" not in page.text


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/retrieval/run", {"query": " "}, "query"),
        ("/retrieval/run", {"query": "x" * 10_001}, "query"),
        ("/retrieval/run", {"query": "x", "top_k": 0}, "top_k"),
        ("/retrieval/run", {}, "query"),
        ("/cited_rag/run", {"query": "x", "top_k": "many"}, "top_k"),
        ("/v1/rerank", {"query": "x", "documents": []}, "documents"),
        ("/v1/rerank", {"query": "x", "documents": [1]}, "documents"),
        ("/v1/rerank", {"query": "x", "documents": ["a"], "top_n": 0}, "top_n"),
        ("/v1/rerank", {"query": "x", "documents": ["a", {"body": "b"}]}, "needs text"),
        ("/v1/rerank", {"query": "a b c " * 600, "documents": ["a"]}, "query has"),
        ("/retrieval/run", {"query": "a b c " * 600}, "query has"),
    ],
)
def test_bad_input_is_named(client, path, body, named):
    answer = client.post(path, json=body)
    assert answer.status_code == 422 and named in answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/retrieval/run", {"query": QUERY}),
        ("/cited_rag/run", {"query": QUERY}),
        ("/explain", {"query": QUERY}),
        ("/rerank/run", {"query": QUERY, "documents": TEXTS}),
    ],
)
def test_our_own_routes_refuse_a_field_that_they_do_not_know(client, path, body):
    answer = client.post(path, json=body | {"topk": 3})
    assert answer.status_code == 422
    [mistake] = answer.json()["detail"]
    assert mistake["loc"] == ["body", "topk"] and mistake["msg"] == "there is no field 'topk'"


ONLY_GEN = {"field": "meta.title", "operator": "==", "value": "yield"}


def test_filters_hold_for_both_retrievers(client, say):
    say("It yields.")
    body = {"query": "a generator yields what the with statement calls", "filters": ONLY_GEN}
    for path in ("/retrieval/run", "/cited_rag/run"):
        answer = client.post(path, json=body)
        assert answer.status_code == 200
        assert [found["id"] for found in answer.json()["result"]["passages"]] == ["gen"]
    page = client.post("/explain", json=body)
    assert page.status_code == 200 and 'id="p1"' in page.text and 'id="p2"' not in page.text
    none = {"query": QUERY, "filters": ONLY_GEN | {"value": "nowhere"}}
    assert client.post("/retrieval/run", json=none).json()["result"]["passages"] == []
    assert client.post("/explain", json=none).status_code == 404


def test_no_answer_is_written_where_no_passage_is_found(client, monkeypatch):
    def generate(messages, generation_kwargs=None):
        raise AssertionError("the generator was asked")

    generator = client.app.state.engine.cited_rag.get_component("generator")
    monkeypatch.setattr(generator, "run", generate)
    monkeypatch.setattr(generator, "warm_up", lambda: None)
    none = {"query": QUERY, "filters": ONLY_GEN | {"value": "nowhere"}}
    for path in ("/cited_rag/run", "/cited_rag/page"):
        answer = client.post(path, json=none)
        assert answer.status_code == 404 and answer.json()["detail"] == "no passage found"
        assert client.post(path, json={"query": QUERY}).status_code == 500


@pytest.mark.parametrize(
    "path", ["/first_stage/run", "/retrieval/run", "/cited_rag/run", "/explain"]
)
@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ("title", "filters"),
        ({"title": "yield"}, "'operator' is missing"),
        (ONLY_GEN | {"operator": "like"}, "no operator 'like'; give one of ==, !="),
        ({"operator": "AND", "conditions": [ONLY_GEN, {"field": "meta.title"}]}, "is missing for"),
        (ONLY_GEN | {"operator": ">"}, "filters do not fit document"),
    ],
)
def test_malformed_filters_are_told(client, path, filters, reason):
    answer = client.post(path, json={"query": QUERY, "filters": filters})
    assert answer.status_code == 422 and reason in answer.text


def test_blank_documents_come_last_and_are_counted(client):
    texts = [" ", "The with statement", {"text": None}, {"title": "A generator", "text": ""}, None]
    body = {"query": "with statement", "documents": texts}
    answer = client.post("/v1/rerank", json=body)
    assert answer.status_code == 200
    found = answer.json()
    assert {hit["index"] for hit in found["results"][:2]} == {1, 3}
    assert [hit["index"] for hit in found["results"][2:]] == [0, 2, 4]
    assert [hit["relevance_score"] for hit in found["results"][2:]] == [0, 0, 0]
    assert found["meta"]["warnings"] == ["3 of 5 documents are blank and come last"]
    alone = client.post("/v1/rerank", json={"query": "x", "documents": ["The with statement"]})
    scored = client.post(
        "/v1/rerank", json={"query": "x", "documents": ["The with statement", " "]}
    )
    [first, _], [only] = scored.json()["results"], alone.json()["results"]
    assert first["index"] == only["index"] == 0
    assert first["log_likelihood"] == pytest.approx(only["log_likelihood"], abs=1e-3)
    assert "meta" not in alone.json()
    [best] = client.post("/v1/rerank", json=body | {"top_n": 1}).json()["results"]
    assert best["index"] == found["results"][0]["index"]
    assert best["log_likelihood"] == pytest.approx(found["results"][0]["log_likelihood"], abs=1e-3)
    nothing = client.post("/v1/rerank", json={"query": "x", "documents": ["", " "]})
    assert [hit["index"] for hit in nothing.json()["results"]] == [0, 1]


@pytest.mark.parametrize(
    ("path", "body", "optional"),
    [
        ("/v1/rerank", {"query": "x", "documents": ["a"]}, ["top_n", "return_documents", "model"]),
        ("/v1/rerank", {"query": "x", "documents": [{"text": "a"}]}, ["top_n"]),
        ("/rerank/run", {"query": "x", "documents": ["a"]}, ["top_k"]),
        ("/retrieval/run", {"query": "with"}, ["top_k", "explain"]),
    ],
)
def test_null_is_as_if_left_out(client, path, body, optional):
    with_null = client.post(path, json=body | dict.fromkeys(optional))
    assert with_null.status_code == 200, with_null.text
    left_out = client.post(path, json=body).json()
    once = {"id": 0, "result": 0}  # differ between any two answers
    # Scores are computed twice, so they are equal but for rounding.
    assert _values(with_null.json() | once) == pytest.approx(_values(left_out | once), abs=1e-3)


def _values(answer, place=()):
    """All values of an answer by their place."""
    if isinstance(answer, dict | list):
        inside = answer.items() if isinstance(answer, dict) else enumerate(answer)
        return {k: v for n, found in inside for k, v in _values(found, (*place, n)).items()}
    return {place: answer}


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz"])
def test_monitors_that_ask_with_head_are_answered(client, path):
    head, get = client.head(path), client.get(path)
    assert head.status_code == get.status_code == 200 and head.content == b""


@pytest.mark.parametrize(("top_n", "given"), [(1, 1), (2, 2), (50, 2)])
def test_more_may_be_asked_for_than_there_is(client, top_n, given):
    body = {"query": "with", "documents": ["The with statement", "A generator"], "top_n": top_n}
    assert len(client.post("/v1/rerank", json=body).json()["results"]) == given


def test_the_limits_on_documents_and_bytes(client):
    most = client.post("/v1/rerank", json={"query": "x", "documents": ["a"] * 5})
    assert most.status_code == 200
    many = client.post("/v1/rerank", json={"query": "x", "documents": ["a"] * 6})
    assert many.status_code == 413 and "takes 5" in many.json()["detail"]
    large = client.post("/v1/rerank", json={"query": "x", "documents": ["a" * 20_000]})
    assert large.status_code == 413 and "20000 bytes" in large.json()["detail"]

    def chunks():  # sent without a Content-Length
        yield b'{"query": "x", "documents": ["'
        for _ in range(30):
            yield b"a" * 1000
        yield b'"]}'

    chunked = client.post("/v1/rerank", content=chunks())
    assert chunked.status_code == 413


def test_hostile_texts_are_data(client):
    texts = ["\x00 NUL", "\u202e rtl", "<|start|><|end|>", "\U0001f600"]
    answer = client.post("/v1/rerank", json={"query": "\u202e<|end|>", "documents": texts})
    assert answer.status_code == 200 and len(answer.json()["results"]) == 4
    lone = client.post(
        "/v1/rerank",
        content=b'{"query": "x", "documents": ["\\ud800 lone"]}',
        headers={"content-type": "application/json"},
    )
    assert lone.status_code == 200


def test_only_what_is_meant_is_served(client):
    description = client.get("/openapi.json").json()
    assert set(description["paths"]) == {
        "/about",
        "/first_stage/run",
        "/retrieval/run",
        "/cited_rag/run",
        "/cited_rag/page",
        "/rerank/run",
        "/v1/rerank",
        "/v2/rerank",
        "/rerank",
        "/score",
        "/v1/score",
        "/v1/models",
        "/explain",
        "/healthz",
        "/readyz",
        "/metrics",
    }
    for path in ("/deploy_files", "/deploy-yaml", "/undeploy/retrieval", "/draw/retrieval"):
        assert client.post(path, json={}).status_code == 404
        assert client.get(path).status_code == 404
    schemas = description["components"]["schemas"]
    assert {"RetrievalResult", "CitedAnswer", "RerankResult", "Passage"} <= set(schemas)
    other = client.get("/healthz", headers={"origin": "https://elsewhere.example"})
    assert "access-control-allow-origin" not in other.headers


def test_the_page_of_routes_names_them_all_and_loads_nothing(client):
    answer = client.get("/docs")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    description = client.get("/openapi.json").json()
    for path in description["paths"]:
        assert f" {path}<" in answer.text
    for name, schema in description["components"]["schemas"].items():
        assert f'id="{name}"' in answer.text
        for field in schema.get("properties", {}):
            assert f">{field}</th>" in answer.text
    assert "log P(question | passage), in nats" in answer.text
    assert "list of Passage" in answer.text
    assert "422" in description["paths"]["/rerank"]["post"]["responses"]
    assert "told as the route&#39;s own server tells it" in answer.text
    assert answer.text.count("<link") == answer.text.count('<link rel="icon" href="data:,">') == 1
    for loading in ("<script", "src=", "http:", "https:", "@import", "url("):
        assert loading not in answer.text
    assert client.get("/redoc").status_code == 404


def test_metrics_count_requests_by_route_and_status(client):
    def value(line):
        rows = client.get("/metrics").text.splitlines()
        return next((float(row.split()[-1]) for row in rows if row.startswith(line)), 0.0)

    good = 'trlm_requests_total{method="POST",route="/v1/rerank",status="200"}'
    unmatched = 'trlm_requests_total{method="GET",route="unmatched",status="404"}'
    before, stray = value(good), value(unmatched)
    client.post("/v1/rerank", json={"query": "x", "documents": ["a"]})
    client.get("/some/path")
    client.get("/another/path")
    assert value(good) == before + 1 and value(unmatched) == stray + 2
    assert value("trlm_work_in_progress") == 0
    assert value('trlm_request_seconds_count{route="/v1/rerank"}') > 0


def test_the_log_tells_the_request_but_not_its_text(client, caplog):
    with caplog.at_level(logging.INFO):
        answer = client.post("/v1/rerank", json={"query": "my secret", "documents": ["a"]})
    [record] = [record for record in caplog.records if record.name == "trlm.access"]
    fields = record.fields
    assert fields["path"] == "/v1/rerank" and fields["status"] == 200
    assert fields["request_id"] == answer.headers["x-request-id"]
    assert "secret" not in caplog.text and "secret" not in str(fields)


def test_a_full_server_says_503_and_when_to_come_back(make_client, monkeypatch):
    with make_client(workers=1, queue=0) as client:
        began, go_on = threading.Event(), threading.Event()

        def slow(*arguments):
            began.set()
            assert go_on.wait(10)
            return {"documents": [*arguments[1]]}

        engine = client.app.state.engine
        run = engine.rerank_ranker.run
        monkeypatch.setattr(
            engine.rerank_ranker, "run", lambda *given: slow(*given) and run(*given)
        )
        body = {"query": "x", "documents": ["a"]}
        with ThreadPoolExecutor(1) as other:
            first = other.submit(client.post, "/v1/rerank", json=body)
            assert began.wait(10)
            refused = [client.post("/v1/rerank", json=body), client.get("/readyz")]
            assert client.get("/healthz").status_code == 200
            go_on.set()
            assert first.result().status_code == 200
        for answer in refused:
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
        assert client.get("/readyz").json() == {"status": "ready"}


def test_it_is_ready_only_when_all_is_loaded(tmp_path, served_index, monkeypatch, word_embedder):
    class Noting:
        name, dimension, read = word_embedder.name, word_embedder.dimension, []

        def embed(self, texts, show_progress=False):
            self.read += texts
            return word_embedder.embed(texts)

    embedder = Noting()
    monkeypatch.setattr(index_module, "shared_embedder", lambda name: embedder)
    folder = tmp_path / "index"  # one that no other server has opened
    shutil.copytree(served_index, folder)
    with TestClient(create_app(ServingSettings(folder))) as client:
        assert client.get("/readyz").json() == {"status": "ready"}
        assert embedder.read == ["warm up"]

        def late(*given, **named):
            raise AssertionError("loaded after the server said that it is ready")

        monkeypatch.setattr(TimeReversedLM, "from_pretrained", late)
        monkeypatch.setattr(index_module.PassageIndex, "open", late)
        for path, body in (
            ("/retrieval/run", {"query": QUERY}),
            ("/v1/rerank", {"query": QUERY, "documents": TEXTS}),
        ):
            assert client.post(path, json=body).status_code == 200
        assert embedder.read == ["warm up", QUERY]


def test_slow_work_is_answered_504(make_client, monkeypatch):
    with make_client(timeout=0.2) as client:
        done = threading.Event()
        engine = client.app.state.engine
        monkeypatch.setattr(engine.rerank_ranker, "run", lambda *given: done.wait(10))
        answer = client.post("/v1/rerank", json={"query": "x", "documents": ["a"]})
        assert answer.status_code == 504 and "0.2 seconds" in answer.json()["detail"]
        done.set()


@pytest.mark.parametrize("path", ["/retrieval/run", "/explain"])
def test_our_own_errors_are_told_and_others_are_not(client, monkeypatch, caplog, path):
    engine = client.app.state.engine

    def fail(error):
        def run(*arguments, **named):
            raise RuntimeError("wrapped") from error

        monkeypatch.setattr(engine.retrieval, "run", run)
        return client.post(path, json={"query": QUERY})

    told = fail(PassageIndexError("the index at x is damaged: build it again"))
    assert told.status_code == 500 and "build it again" in told.text
    hidden = fail(KeyError("/etc/private"))
    assert hidden.status_code == 500 and "private" not in hidden.text
    assert "private" in caplog.text  # the traceback is for the log


def test_without_the_key_only_health_and_pages_answer(make_client):
    with make_client(api_key="s3cret-ü") as client:
        body = {"query": "x", "documents": ["a"]}
        for path in ("/v1/rerank", "/retrieval/run", "/explain"):
            assert client.post(path, json=body).status_code == 401
        for path in ("/metrics", "/about"):
            assert client.get(path).status_code == 401
        for path in ("/", "/docs", "/openapi.json", "/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        for wrong in ("s3cret", "Bearer s3cre", "Bearer", "Bearers3cret-ü", "Basic s3cret-ü"):
            given = {"authorization": wrong.encode()}
            assert client.post("/v1/rerank", json=body, headers=given).status_code == 401
        for scheme in ("Bearer", "bearer", "BEARER", "bEaReR "):
            right = {"authorization": f"{scheme} s3cret-ü".encode()}
            assert client.post("/v1/rerank", json=body, headers=right).status_code == 200


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"workers": 0}, "workers"),
        ({"queue": -1}, "queue"),
        ({"states_megabytes": -1}, "states_megabytes"),
        ({"timeout": 0}, "timeout"),
        ({"max_body": 0}, "max_body"),
        ({"api_key": " "}, "TRLM_API_KEY"),
    ],
)
def test_settings_out_of_range(tmp_path, settings, named):
    with pytest.raises(ValueError, match=named):
        ServingSettings(tmp_path, **settings)


def test_all_endpoints_share_one_model_and_one_bounded_store_of_states(make_client):
    with make_client(states_megabytes=1) as client:
        engine = client.app.state.engine
        ranker = engine.retrieval.get_component("ranker")
        others = [engine.rerank_ranker]
        others += [engine.cited_rag.get_component(name) for name in ("ranker", "citations")]
        assert all(other._lm is ranker._lm for other in others)
        assert ranker._lm.states.max_bytes == 1024**2


def test_the_key_is_not_shown(tmp_path):
    assert "s3cret" not in repr(ServingSettings(tmp_path, api_key="s3cret"))
