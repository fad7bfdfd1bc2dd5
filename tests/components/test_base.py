"""What all components share: serialisation, and the text of replies that they read."""

from copy import deepcopy

import pytest
from haystack import Document
from haystack.dataclasses import ChatMessage, TextContent
from haystack.utils import ComponentDevice, Secret

from trlm_retrieval import Reranker
from trlm_retrieval.components import (
    BM25Retriever,
    FAISSRetriever,
    LocalChatGenerator,
    PassageIndexWriter,
    QuestionFilter,
    ReplyFilter,
    TRLMAnswerRanker,
    TRLMCitationAttributor,
    TRLMQueryGenerator,
    TRLMRanker,
    TRLMSafetyFilter,
)
from trlm_retrieval.components.base import reply_text

CPU = ComponentDevice.from_str("cpu")
TEXTS = ["Keys keep their order.", "The with statement calls exit."]
WHOLE = "\n".join(TEXTS)


@pytest.fixture
def reply():
    """A message of two texts."""
    message = ChatMessage.from_assistant(TEXTS[0])
    message._content.append(TextContent(TEXTS[1]))
    return message


def test_texts_are_joined(reply):
    assert reply_text(reply) == reply_text(WHOLE) == WHOLE
    assert reply_text(ChatMessage.from_assistant("")) == ""


def test_answers_are_ranked_by_all_of_their_text(tiny_lm, reply):
    ranker = TRLMAnswerRanker(model=tiny_lm)
    [[whole], [same], [part]] = [
        ranker.run("what keeps order?", [one])["scores"] for one in (reply, WHOLE, TEXTS[0])
    ]
    assert whole == pytest.approx(same, abs=1e-4) and abs(whole - part) > 1e-2


def test_all_sentences_are_attributed(tiny_lm, reply):
    attributor = TRLMCitationAttributor(model=tiny_lm)
    result = attributor.run(
        query="what?", documents=[Document(content="Keys keep order.")], replies=[reply]
    )
    assert result["answers"][0].data.startswith(TEXTS[0])
    assert TEXTS[1].rstrip(".") in result["answers"][0].data


def test_questions_are_written_for_all_of_it(tiny_lm, reply):
    generator = TRLMQueryGenerator(model=tiny_lm, number=2, max_tokens=6)
    found = [generator.run(replies=[one])["queries"] for one in (reply, WHOLE, TEXTS[0])]
    assert found[0] == found[1] != found[2]


def test_all_of_it_is_judged(tiny_lm, reply):
    def harmless(texts):
        return [0.0 for _ in texts]

    safety = TRLMSafetyFilter(harmless, model=tiny_lm, reply_filter=harmless, number=2)
    found = [safety.run("", [one])["decisions"] for one in (reply, WHOLE, TEXTS[0])]
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    "component",
    [
        TRLMRanker(device=CPU, states_folder="states"),
        TRLMRanker("owner/model", revision="v2", model_kwargs={"device_map": "auto"}),
        LocalChatGenerator(token=Secret.from_env_var("MY_KEY"), revision="v2"),
        TRLMAnswerRanker(device=CPU),
        TRLMCitationAttributor(device=CPU),
        TRLMQueryGenerator(device=CPU),
        TRLMSafetyFilter(device=CPU),
        LocalChatGenerator(device=CPU),
        QuestionFilter(),
        ReplyFilter(),
        PassageIndexWriter(),
        BM25Retriever(),
        FAISSRetriever(),
    ],
)
def test_the_same_dict_is_read_twice_and_stays_as_it_is(component):
    written = component.to_dict()
    kept = deepcopy(written)
    for _ in range(2):
        assert type(component).from_dict(written).to_dict() == kept
        assert written == kept


def test_a_loaded_model_comes_with_nothing_that_loading_needs(tiny_lm):
    for more in ({"revision": "v2"}, {"model_kwargs": {"device_map": "cpu"}}):
        with pytest.raises(ValueError, match="is for a model that is loaded here"):
            TRLMRanker(tiny_lm, **more)
        with pytest.raises(ValueError, match="for a model that is loaded here"):
            Reranker(tiny_lm, **more)


def test_a_key_is_never_written_down():
    ranker = TRLMRanker("owner/model", token=Secret.from_token("s3cret"))
    with pytest.raises(ValueError, match="token"):
        ranker.to_dict()
