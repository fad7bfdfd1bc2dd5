"""No JSON, and nothing else, makes the server fail."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(st.characters(), max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["text", "a", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)
BODY = st.fixed_dictionaries(
    {},
    optional={
        "query": ANY,
        "documents": st.lists(ANY, max_size=4) | ANY,
        "texts": st.lists(ANY, max_size=4) | ANY,
        "text_1": st.lists(ANY, max_size=3) | ANY,
        "text_2": st.lists(ANY, max_size=3) | ANY,
        "raw_scores": ANY,
        "return_text": ANY,
        "filters": st.dictionaries(
            st.sampled_from(["field", "operator", "value", "conditions"]),
            st.sampled_from(["AND", "==", ">", "in", "meta.title"]) | ANY,
        ),
        "top_k": st.integers(-2, 5) | ANY,
        "top_n": st.integers(-2, 5) | ANY,
        "explain": ANY,
        "return_documents": ANY,
    },
)
PATHS = ["/retrieval/run", "/rerank/run", "/v1/rerank", "/rerank", "/score", "/explain"]
fuzz = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def post(client, path, content):
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    # 404: nothing found to explain. 413: more documents than this server takes.
    assert answer.status_code in (200, 400, 404, 413, 422), answer.text
    return answer.status_code


@pytest.mark.parametrize("path", PATHS)
@fuzz
@given(body=ANY | BODY)
def test_json(client, path, body):
    post(client, path, json.dumps(body).encode())


@fuzz
@example(query="\ud800", documents=["\udfff x"])
@given(
    query=st.text(st.characters(), min_size=1, max_size=40),
    documents=st.lists(st.text(st.characters(), max_size=40), min_size=1, max_size=5),
)
def test_texts_are_reranked_and_a_blank_question_refused(client, query, documents):
    body = json.dumps({"query": query, "documents": documents}).encode()
    assert post(client, "/v1/rerank", body) == (200 if query.strip() else 422)


@fuzz
@given(path=st.sampled_from(PATHS), content=st.binary(max_size=60))
def test_bytes(client, path, content):
    assert post(client, path, content) in (400, 422)
