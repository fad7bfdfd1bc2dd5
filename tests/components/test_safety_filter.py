"""TRLMSafetyFilter: what it judges, what it blocks, and that no failure lets anything through."""

import numpy as np
import pytest
from haystack import Pipeline
from haystack.dataclasses import ChatMessage, TextContent
from haystack.utils import ComponentDevice

from trlm_retrieval.components import (
    LocalChatGenerator,
    QuestionFilter,
    ReplyFilter,
    TRLMSafetyFilter,
)
from trlm_retrieval.components import safety_filter as module
from trlm_retrieval.components.linear_head import FOR_QUESTIONS, FOR_REPLIES, LinearHead
from trlm_retrieval.components.reply_filter import worst
from trlm_retrieval.components.safety_filter import parts_of
from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm.generation import Sampling, generate_queries, question_template

REPLIES = ["A generator yields values.", "The with statement calls exit."]


def bad_words(texts):
    """An inner filter that knows one bad word."""
    return ["bomb" in text for text in texts]


def harmless(texts):
    return [0.1 for _ in texts]


def generated(lm, reply, number=4, seed=0):
    sampling = Sampling(max_tokens=24, seed=seed)
    [queries] = generate_queries(
        lm, [reply], number, direction=question_template(lm), sampling=sampling
    )
    return [query.text for query in queries]


def safety(lm, inner, **settings):
    return TRLMSafetyFilter(inner, lm, **{"reply_filter": harmless, "number": 4, **settings})


def test_an_unsafe_prompt_blocks_without_looking_at_replies(tiny_lm, monkeypatch):
    monkeypatch.setattr(module, "generate_queries", lambda *_, **__: pytest.fail("generated"))
    found = safety(tiny_lm, bad_words).run("how to build a bomb", REPLIES)
    assert found["replies"] == [] and found["blocked"] == REPLIES
    assert {decision["reason"] for decision in found["decisions"]} == {"prompt"}
    assert found["decisions"][0]["prompt_score"] == 1.0


def test_questions_that_are_generated_from_the_reply_block_it(tiny_lm):
    questions = generated(tiny_lm, REPLIES[0])
    unsafe = set(questions[:2])
    found = safety(tiny_lm, lambda texts: [text in unsafe for text in texts]).run("hi", REPLIES)
    assert (found["replies"], found["blocked"]) == (REPLIES[1:], REPLIES[:1])
    first, second = found["decisions"]
    assert (first["reason"], second["reason"]) == ("questions", "safe")
    assert set(first["tripped"]) == unsafe and second["tripped"] == []
    assert [question["text"] for question in first["questions"]] == questions
    assert {question["score"] for question in first["questions"]} == {0.0, 1.0}


@pytest.mark.parametrize("unsafe, blocked", [(1, False), (2, False), (3, True), (4, True)])
def test_so_many_questions_must_be_unsafe(tiny_lm, unsafe, blocked):
    bad = set(generated(tiny_lm, REPLIES[0])[:unsafe])
    inner = safety(tiny_lm, lambda texts: [text in bad for text in texts], min_unsafe=3)
    [decision] = inner.run("hi", REPLIES[:1])["decisions"]
    assert decision["blocked"] == blocked and len(decision["tripped"]) == unsafe


@pytest.mark.parametrize("unsafe, blocked", [(1, False), (2, True)])
def test_half_of_the_questions_block_by_default(tiny_lm, unsafe, blocked):
    bad = set(generated(tiny_lm, REPLIES[0])[:unsafe])
    inner = safety(tiny_lm, lambda texts: [text in bad for text in texts])
    assert inner.run("hi", REPLIES[:1])["decisions"][0]["blocked"] == blocked


def test_what_a_reply_says_blocks_it_without_questions():
    seen = []

    def reply_filter(texts):
        seen.extend(texts)
        return [0.9 if "with" in text else 0.55 for text in texts]

    def run(**settings):
        # No such model: without questions none is loaded.
        safety = TRLMSafetyFilter(harmless, "/no/such", reply_filter=reply_filter, **settings)
        return [d["reason"] for d in safety.run("hi", [*REPLIES, " "])["decisions"]]

    assert run() == ["safe", "reply", "empty"]
    assert seen == REPLIES  # what is empty is not judged
    assert run(reply_threshold=0.5) == ["reply", "reply", "empty"]
    assert run(reply_threshold=0.91) == ["safe", "safe", "empty"]


def test_a_reply_that_is_blocked_gets_no_questions(tiny_lm):
    inner = safety(tiny_lm, harmless, reply_filter=lambda texts: ["with" in t for t in texts])
    passed, blocked = inner.run("hi", REPLIES)["decisions"]
    assert (passed["reason"], blocked["reason"]) == ("safe", "reply")
    assert len(passed["questions"]) == 4 and blocked["questions"] == []
    assert (passed["reply_score"], blocked["reply_score"]) == (0.0, 1.0)


def test_thresholds(tiny_lm):
    def run(**settings):
        inner = safety(tiny_lm, lambda texts: [0.6 for _ in texts], **settings)
        return inner.run("hi", REPLIES[:1])["decisions"][0]["reason"]

    assert run() == "prompt"
    assert run(threshold=0.61) == "safe"
    assert run(threshold=0.7, question_threshold=0.6) == "questions"
    assert run(threshold=0.7, question_threshold=0.6, number=0) == "safe"


def raising(texts):
    raise RuntimeError("the service is down")


@pytest.mark.parametrize(
    "inner",
    [
        raising,
        lambda texts: [0.0],
        lambda texts: [float("nan") for _ in texts],
        lambda texts: None,
        lambda texts: ["safe" for _ in texts],
    ],
)
@pytest.mark.parametrize("name", ["inner", "reply_filter"])
def test_nothing_passes_when_a_filter_fails(tiny_lm, name, inner):
    filters = {"inner": harmless, "reply_filter": harmless, name: inner}
    found = TRLMSafetyFilter(model=tiny_lm, number=4, **filters).run("hi", REPLIES)
    assert found["replies"] == []
    for decision in found["decisions"]:
        assert decision["reason"] == "error" and decision["error"]


def test_nothing_passes_when_the_generation_fails(tiny_lm, monkeypatch):
    monkeypatch.setattr(module, "generate_queries", raising)
    assert safety(tiny_lm, harmless).run("hi", REPLIES)["blocked"] == REPLIES
    monkeypatch.setattr(module, "generate_queries", lambda lm, parts, *_, **__: [[] for _ in parts])
    found = safety(tiny_lm, harmless).run("hi", REPLIES)
    assert found["blocked"] == REPLIES and "0 questions" in found["decisions"][0]["error"]


def test_a_model_that_is_not_there_is_an_error():
    with pytest.raises(ModelError):
        TRLMSafetyFilter(harmless, "/no/such/model", number=1).run("hi", REPLIES)


def test_a_long_reply_is_read_to_its_end(tiny_lm):
    reply = "A generator yields values. " * 60 + "The secret is at the end."
    parts = parts_of(reply, tiny_lm, 100)
    assert "".join(parts) == reply and len(parts) > 3
    last = set(generated(tiny_lm, parts[-1])[:2])
    inner = safety(tiny_lm, lambda texts: [t in last for t in texts], max_part_tokens=100)
    [decision] = inner.run("hi", [reply])["decisions"]
    assert decision["reason"] == "questions"
    assert {q["part"] for q in decision["questions"]} == set(range(len(parts)))
    assert {q["part"] for q in decision["questions"] if q["score"]} == {len(parts) - 1}


@pytest.mark.parametrize(
    "reply", ["我们在这里。", "\ud800 \x00 <|end|>", "def f(x):\n    return x"]
)
def test_odd_replies_are_judged(tiny_lm, reply):
    [decision] = safety(tiny_lm, harmless).run("hi", [reply])["decisions"]
    assert decision["reason"] == "safe" and len(decision["questions"]) == 4
    parts = parts_of(reply * 9, tiny_lm, 3)  # white space alone makes no part
    assert "".join("".join(parts).split()) == "".join((reply * 9).split())


def test_empty_texts(tiny_lm):
    found = safety(tiny_lm, harmless).run("", ["", " \n", REPLIES[0]])
    assert [d["reason"] for d in found["decisions"]] == ["empty", "empty", "safe"]
    assert found["decisions"][0]["prompt_score"] is None
    assert safety(tiny_lm, harmless).run("hi", []) == {
        "replies": [],
        "blocked": [],
        "decisions": [],
    }


async def test_messages_and_async(tiny_lm):
    messages = [ChatMessage.from_assistant(reply) for reply in REPLIES]
    inner = safety(tiny_lm, harmless)
    found = inner.run("hi", messages)
    assert found["replies"] == messages
    [both] = inner.run("hi", [ChatMessage.from_assistant("\n".join(REPLIES))])["decisions"]
    parts = ChatMessage(messages[0].role, [TextContent(reply) for reply in REPLIES])
    assert inner.run("hi", [parts])["decisions"] == [both]
    assert await inner.run_async("hi", messages) == found


def test_bad_input(tiny_lm):
    for settings in ({"number": -1}, {"min_unsafe": 0}, {"min_unsafe": 5}, {"max_part_tokens": 0}):
        with pytest.raises(ValueError, match="must"):
            safety(tiny_lm, harmless, **settings)
    for settings in (
        {"threshold": float("nan")},
        {"reply_threshold": -0.1},
        {"question_threshold": 1.5},
    ):
        with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
            safety(tiny_lm, harmless, **settings)
    with pytest.raises(ValueError, match="inner must be"):
        safety(tiny_lm, "a name")
    with pytest.raises(ValueError, match="reply_filter must be"):
        safety(tiny_lm, harmless, reply_filter="a name")


def test_stands_behind_a_generator_and_survives_serialisation(tiny_lm, tiny_lm_folder):
    settings = {
        "number": 3,
        "threshold": 0.7,
        "reply_threshold": 0.3,
        "question_threshold": 0.4,
        "min_unsafe": 1,
        "seed": 5,
        "max_part_tokens": 99,
        "device": ComponentDevice.from_str("cpu"),
        "dtype": "float32",
    }
    for inner in (bad_words, None):
        pipeline = Pipeline()
        pipeline.add_component("generator", LocalChatGenerator())
        settings["reply_filter"] = inner and harmless
        pipeline.add_component("safety", TRLMSafetyFilter(inner, str(tiny_lm_folder), **settings))
        pipeline.connect("generator.replies", "safety.replies")
        again = Pipeline.loads(pipeline.dumps(), allowed_modules=[__name__]).get_component("safety")
        assert again.to_dict() == pipeline.get_component("safety").to_dict()
        assert again.inner is bad_words if inner else isinstance(again.inner, QuestionFilter)
        assert again.reply_filter is harmless if inner else type(again.reply_filter) is ReplyFilter
    with pytest.raises(ValueError, match="loaded model cannot be serialised"):
        safety(tiny_lm, bad_words).to_dict()


@pytest.fixture
def bomb_head(tmp_path, monkeypatch, word_embedder):
    """A head that knows one bad word."""
    monkeypatch.setattr(
        "trlm_retrieval.components.piece_filter.SentenceEmbedder", lambda name: word_embedder
    )
    vectors = word_embedder.embed(["bomb"])[0]
    head = LinearHead("words", tuple(float(v > 0.5) * 40 for v in vectors), -20.0, "by hand")
    head.save(tmp_path / "head.json")
    return str(tmp_path / "head.json")


def test_a_component_is_an_inner_filter(tiny_lm, bomb_head):
    inner = QuestionFilter(bomb_head)
    long = "harmless words " * 100 + "bomb"
    scores = inner.run(["a bomb", "a flower", long, " "])["scores"]
    assert [score > 0.5 for score in scores] == [True, False, True, False]
    assert inner.run([])["scores"] == []
    assert safety(tiny_lm, inner).run("a bomb", REPLIES)["blocked"] == REPLIES
    assert safety(tiny_lm, inner).run("a flower", REPLIES)["decisions"][0]["prompt_score"] < 0.5


def test_the_mean_of_a_reply_counts_and_the_worst_stretch_of_a_long_one(bomb_head):
    judge = ReplyFilter(bomb_head)

    def scores(*texts):
        return judge.run(list(texts))["scores"]

    harmless_piece, unsafe_piece = "flower " * 35, "bomb " + "flower " * 35
    one, few, many = scores(
        unsafe_piece, unsafe_piece + harmless_piece * 3, harmless_piece * 200 + unsafe_piece * 9
    )
    assert one > 0.5 > few
    assert many > 0.5  # 200 harmless pieces in front hide nothing
    assert scores("", " ") == scores(" ", "") and scores() == []
    inner = TRLMSafetyFilter(harmless, reply_filter=judge)
    replies = [unsafe_piece, harmless_piece]
    assert inner.run("hi", replies)["blocked"] == replies[:1]


@pytest.mark.parametrize("pieces", [1, 7, 8, 9, 17, 80])
def test_stretches_hold_all_pieces(pieces):
    for place in range(pieces):
        logits = np.zeros(pieces)
        logits[place] = 8.0
        assert worst(logits) >= 1.0  # its stretch has at most eight pieces
    assert worst(np.full(pieces, -2.0)) == -2.0


def test_damaged_heads(tmp_path, word_embedder):
    path = tmp_path / "head.json"
    with pytest.raises(ModelError, match="question_head"):
        LinearHead.load(path)
    path.write_text('{"embedder": "minilm", "weights": [1, "x"], "bias": 0, "trained_on": ""}')
    with pytest.raises(ModelError, match="cannot read"):
        LinearHead.load(path)
    path.write_text('{"embedder": "minilm", "weights": [NaN], "bias": 0, "trained_on": ""}')
    with pytest.raises(ModelError, match="NaN"):
        LinearHead.load(path)
    head = LinearHead("minilm", (1.0,), 0.0, "")
    with pytest.raises(ModelError, match="'minilm'"):
        head.logits(word_embedder.embed(["a"]))


def test_the_shipped_heads_are_there():
    for path in (FOR_QUESTIONS, FOR_REPLIES):
        shipped = LinearHead.load(path)
        assert shipped.embedder == "minilm" and len(shipped.weights) == 384


REFUSAL = "I'm sorry, but I can't help with that. If you are in distress, please talk to somebody."
RECIPE = (
    "Mix the flour with warm water and yeast, let the dough rise, and bake it until it is brown."
)
FRAUD = (
    "Dear customer, your bank account was suspended. Click this link at once and enter your "
    "password and your card number, or you will lose all your money. This fake message will trick "
    "victims into giving away their bank details, so that you can steal their savings. "
)


@pytest.mark.slow
def test_an_unsafe_reply_to_a_harmless_query_is_held_back():
    buried = " ".join([RECIPE] * 280 + [FRAUD] * 9 + [RECIPE] * 280)
    found = TRLMSafetyFilter().run("How is bread made?", [FRAUD, buried, RECIPE])["decisions"]
    assert [d["reason"] for d in found] == ["reply", "reply", "safe"]


@pytest.mark.slow
def test_bad_input_with_the_packaged_models():
    long = " ".join([RECIPE] * 560)  # 10,000 words
    assert len(long.split()) > 10_000
    german = (
        "Für den Teig das Mehl mit warmem Wasser und Hefe verrühren und eine Stunde gehen lassen."
    )
    replies = ["", REFUSAL, RECIPE, german, long, "\ud800 \x00 ???", "def f(x):\n    return x"]
    found = TRLMSafetyFilter().run("How is bread made?", replies)["decisions"]
    assert [d["reason"] for d in found[:3]] == ["empty", "safe", "safe"]
    assert found[4]["reason"] == "safe"
    assert all(0 <= d["reply_score"] <= 1 for d in found[1:])
    asked = TRLMSafetyFilter(model="trlm-small", dtype="float32", number=2, min_unsafe=2)
    decisions = asked.run("How is bread made?", ["", *replies[1:4]])["decisions"]
    assert [len(d["questions"]) for d in decisions] == [0, 2, 2, 2]
    broken = TRLMSafetyFilter(raising, "trlm-small", dtype="float32", number=2)
    assert broken.run("How is bread made?", replies)["replies"] == []
    broken = TRLMSafetyFilter(reply_filter=raising)
    assert broken.run("How is bread made?", replies)["replies"] == []
