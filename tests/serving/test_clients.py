"""Clients that people have work with our server as their base URL."""

import cohere
import openai
import pytest
from haystack import Document
from haystack.utils import Secret
from haystack_integrations.components.rankers.cohere import CohereRanker
from haystack_integrations.components.rankers.jina import JinaRanker

from trlm_retrieval.serving.app import create_app
from trlm_retrieval.serving.settings import ServingSettings

QUERY = "how does the with statement call exit"
TEXTS = ["A generator yields values.", "The with statement calls exit.", "Keys keep order."]


@pytest.fixture(scope="module")
def keyed_url(_tiny, served_index, listen):
    with listen(create_app(ServingSettings(served_index, api_key="s3cret"))) as url:
        yield url


@pytest.fixture(scope="module")
def expected(keyed_url):
    """The order that the protocol itself gives."""
    import httpx

    headers = {"authorization": "Bearer s3cret"}
    sent = {"query": QUERY, "documents": TEXTS}
    answer = httpx.post(f"{keyed_url}/v1/rerank", json=sent, headers=headers).json()
    return [hit["index"] for hit in answer["results"]]


@pytest.mark.parametrize("client_type", [cohere.Client, cohere.ClientV2])
def test_cohere(keyed_url, expected, client_type):
    client = client_type(api_key="s3cret", base_url=keyed_url)
    found = client.rerank(model="trlm", query=QUERY, documents=TEXTS, top_n=2)
    assert [hit.index for hit in found.results] == expected[:2]
    assert 0 < found.results[1].relevance_score <= found.results[0].relevance_score <= 1


def test_cohere_is_told_what_is_wrong(keyed_url):
    with pytest.raises(cohere.UnauthorizedError):
        cohere.ClientV2(api_key="wrong", base_url=keyed_url).rerank(
            model="trlm", query=QUERY, documents=TEXTS
        )
    with pytest.raises(cohere.UnprocessableEntityError, match="blank"):
        cohere.ClientV2(api_key="s3cret", base_url=keyed_url).rerank(
            model="trlm", query=" ", documents=TEXTS
        )


def test_openai(keyed_url, expected):
    client = openai.OpenAI(api_key="s3cret", base_url=f"{keyed_url}/v1", max_retries=0)
    [model] = client.models.list()
    assert model.id and model.object == "model"
    asked = {"model": model.id, "text_1": QUERY, "text_2": TEXTS}
    found = client.post("/score", cast_to=dict, body=asked)["data"]  # as vLLM's users do
    assert sorted(range(3), key=lambda index: -found[index]["score"]) == expected
    with pytest.raises(openai.UnprocessableEntityError, match="one for each text") as refused:
        client.post("/score", cast_to=dict, body=asked | {"text_1": [QUERY] * 2})
    assert refused.value.type == "invalid_request_error"
    with pytest.raises(openai.AuthenticationError, match="send the key"):
        openai.OpenAI(api_key="wrong", base_url=f"{keyed_url}/v1").models.list()


def test_text_embeddings_inference(keyed_url, expected):
    rankers = pytest.importorskip("haystack_integrations.components.rankers.huggingface_api")
    ranker = rankers.HuggingFaceTEIRanker(
        url=keyed_url, token=Secret.from_token("s3cret"), top_k=2, raw_scores=True, max_retries=0
    )
    documents = [Document(content=text) for text in TEXTS]
    found = ranker.run(query=QUERY, documents=documents)["documents"]
    assert [document.content for document in found] == [TEXTS[i] for i in expected[:2]]
    assert found[1].score <= found[0].score < 0


def test_jina_is_told_what_is_wrong(keyed_url):
    ranker = JinaRanker(
        api_key=Secret.from_token("s3cret"), base_url=f"{keyed_url}/v1/rerank", top_k=2
    )
    with pytest.raises(RuntimeError, match="blank"):
        ranker.run(query=" ", documents=[Document(content="a")])


@pytest.mark.parametrize(
    "make",
    [
        lambda url, key: CohereRanker(api_key=key, api_base_url=url, top_k=2),
        lambda url, key: JinaRanker(api_key=key, base_url=f"{url}/v1/rerank", top_k=2),
    ],
    ids=["cohere", "jina"],
)
def test_haystack_rankers(keyed_url, expected, make):
    ranker = make(keyed_url, Secret.from_token("s3cret"))
    documents = [Document(content=text) for text in TEXTS]
    found = ranker.run(query=QUERY, documents=documents)["documents"]
    assert [document.content for document in found] == [TEXTS[i] for i in expected[:2]]
