"""TRLMAnswerRanker orders replies by what the query gains from each of them."""

import pytest
from haystack import Pipeline
from haystack.components.builders import AnswerBuilder
from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice

from trlm_retrieval.components import LocalChatGenerator, TRLMAnswerRanker, TRLMCitationAttributor
from trlm_retrieval.components.reply_score import (
    generator_log_prob,
    reply_score,
    reply_template,
)
from trlm_retrieval.text.tokens import count_tokens

QUERY = "how does with call exit"
REPLIES = ["A generator yields values.", "The with statement calls exit at the end.", ""]


def message(text, *log_probs):
    content = [{"token": "x", "logprob": value} for value in log_probs]
    meta = {"model": "m", **({"logprobs": {"content": content}} if log_probs else {})}
    return ChatMessage.from_assistant(text, meta=meta)


def plain(lm, **settings):
    return TRLMAnswerRanker(lm, **{"forward_weight": 0.0, **settings})


def test_orders_by_the_likelihood_of_the_query(tiny_lm):
    found = plain(tiny_lm).run(QUERY, REPLIES)
    likelihoods = tiny_lm.score([(QUERY, reply) for reply in REPLIES], reply_template(True))
    means = {r: likelihood.mean for r, likelihood in zip(REPLIES, likelihoods, strict=True)}
    assert found["replies"] == sorted(REPLIES, key=means.get, reverse=True)
    assert found["scores"] == pytest.approx(sorted(means.values(), reverse=True), abs=1e-3)


def test_reported_likelihoods_count_as_weighed(tiny_lm):
    reported = dict(zip(REPLIES, (-4.0, -8.0, -1.0), strict=True))
    messages = [message(reply, value) for reply, value in reported.items()]
    found = TRLMAnswerRanker(tiny_lm, forward_weight=0.5).run(QUERY, messages)
    for rank, (reply, score) in enumerate(
        zip(found["replies"], found["scores"], strict=True), start=1
    ):
        measured, text = reply.meta["trlm"], reply.text or ""
        [reverse] = tiny_lm.score([(QUERY, text)], reply_template(True))
        [tokens] = count_tokens(tiny_lm.tokenizer, [text])
        expected = reverse.mean + 0.5 * reported[text]
        assert score == measured["score"] == pytest.approx(expected, abs=1e-3)
        assert measured["log_likelihood"] == pytest.approx(reverse.sum, abs=1e-3)
        assert measured["forward_log_likelihood"] == reported[text]
        assert (measured["rank"], measured["reply_tokens"]) == (rank, tokens)
        assert reply.meta["model"] == "m"
    assert found["scores"] == sorted(found["scores"], reverse=True)


def test_log_probabilities_are_needed_of_all_replies_where_they_count(make_tiny_lm):
    ranker = plain(make_tiny_lm("reverse"), forward_weight=1.0)
    replies = [message("A generator.", -1.0, -3.0), message("With calls exit.", -50.0)]
    found = ranker.run(QUERY, replies)["replies"]
    assert [m.text for m in found] == ["A generator.", "With calls exit."]
    assert [m.meta["trlm"]["forward_log_likelihood"] for m in found] == [-2.0, -50.0]
    for others in ([replies[0], message("Bare.")], ["text"]):
        with pytest.raises(ValueError, match=r"1 of \d replies carry no .*forward_weight=0"):
            ranker.run(QUERY, others)


def test_reported_log_probabilities():
    chunk = {"content": [{"logprob": -1.0}, {"logprob": -2}]}
    assert generator_log_prob({"logprobs": chunk}) == -1.5
    assert generator_log_prob({"logprobs": [chunk, {"content": None}]}) == -1.5
    for nothing in (None, {}, {"content": []}, "x", {"content": [{"logprob": None}]}):
        assert generator_log_prob({"logprobs": nothing}) is None
    assert generator_log_prob({}) is None


def test_a_score_does_not_depend_on_the_other_replies(tiny_lm):
    ranker = TRLMAnswerRanker(tiny_lm)
    together = dict(zip(*ranker.run(QUERY, REPLIES).values(), strict=True))
    for reply in REPLIES:
        assert ranker.run(QUERY, [reply])["scores"] == pytest.approx([together[reply]], abs=1e-3)
    assert reply_score(-1.0) == reply_score(-1.0, None, 2.0)


def test_top_k_and_nothing_lost(tiny_lm):
    ranker = plain(tiny_lm, top_k=2)
    assert len(ranker.run(QUERY, REPLIES)["replies"]) == 2
    everything = ranker.run(QUERY, [*REPLIES, REPLIES[0]], top_k=9)
    assert sorted(everything["replies"]) == sorted([*REPLIES, REPLIES[0]])
    assert ranker.run(QUERY, []) == {"replies": [], "scores": []}


def test_messages_are_copies(tiny_lm):
    original = message(REPLIES[0])
    TRLMAnswerRanker(tiny_lm).run(QUERY, [original])
    assert "trlm" not in original.meta


@pytest.mark.parametrize("reply", ["我们在这里。", "\ud800 \x00 <|end|>", "word " * 5000])
def test_odd_replies(tiny_lm, reply):
    found = TRLMAnswerRanker(tiny_lm).run(QUERY, [message(reply), message("short")])
    by_text = {m.text: m.meta["trlm"] for m in found["replies"]}
    assert (by_text[reply]["cut_tokens"] > 0) == (len(reply) > 5000)


async def test_runs_async(tiny_lm):
    ranker = TRLMAnswerRanker(tiny_lm)
    found, expected = await ranker.run_async(QUERY, REPLIES), ranker.run(QUERY, REPLIES)
    assert found["scores"] == pytest.approx(expected["scores"], abs=1e-3)
    assert sorted(found["replies"]) == sorted(expected["replies"])


def test_bad_input(tiny_lm):
    with pytest.raises(ValueError, match="query must not be empty"):
        TRLMAnswerRanker(tiny_lm).run(" ", REPLIES)
    with pytest.raises(ValueError, match="leaves no room"):
        TRLMAnswerRanker(tiny_lm).run("word " * 5000, REPLIES)
    for settings in ({"top_k": 0}, {"max_passage_tokens": 0}):
        with pytest.raises(ValueError, match="must be positive"):
            TRLMAnswerRanker(tiny_lm, **settings)
    with pytest.raises(ValueError, match="top_k must be positive"):
        TRLMAnswerRanker(tiny_lm).run(QUERY, REPLIES, top_k=-1)


def test_stands_between_generator_and_attributor(tiny_lm):
    pipeline = Pipeline()
    pipeline.add_component("generator", LocalChatGenerator())
    pipeline.add_component("best", TRLMAnswerRanker(tiny_lm))
    pipeline.add_component("answer", AnswerBuilder())
    pipeline.add_component("citations", TRLMCitationAttributor(tiny_lm))
    pipeline.connect("generator.replies", "best.replies")
    pipeline.connect("best.replies", "answer.replies")
    pipeline.connect("answer.answers", "citations.answers")


def test_survives_serialisation(tiny_lm, tiny_lm_folder):
    ranker = TRLMAnswerRanker(
        str(tiny_lm_folder),
        top_k=1,
        forward_weight=0.3,
        max_passage_tokens=77,
        device=ComponentDevice.from_str("cpu"),
        dtype="float32",
    )
    pipeline = Pipeline()
    pipeline.add_component("best", ranker)
    again = Pipeline.loads(pipeline.dumps()).get_component("best")
    assert again.to_dict() == ranker.to_dict()
    found = pipeline.run({"best": {"query": QUERY, "replies": [message(r, -1) for r in REPLIES]}})
    assert len(found["best"]["replies"]) == 1
    with pytest.raises(ValueError, match="loaded model cannot be serialised"):
        TRLMAnswerRanker(tiny_lm).to_dict()
