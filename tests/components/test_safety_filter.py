"""TRLMSafetyFilter: what it judges, what it blocks, and that no failure lets anything through."""

import pytest
from haystack import Pipeline
from haystack.dataclasses import ChatMessage, TextContent
from haystack.utils import ComponentDevice

from trlm_retrieval.components import LocalChatGenerator, QuestionFilter, TRLMSafetyFilter
from trlm_retrieval.components import safety_filter as module
from trlm_retrieval.components.question_head import SHIPPED, QuestionHead
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
    return TRLMSafetyFilter(inner, lm, **{"number": 4, **settings})


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
def test_nothing_passes_when_the_inner_filter_fails(tiny_lm, inner):
    found = safety(tiny_lm, inner).run("hi", REPLIES)
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
        TRLMSafetyFilter(harmless, "/no/such/model").run("hi", REPLIES)


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
    for settings in ({"threshold": float("nan")}, {"question_threshold": 1.5}):
        with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
            safety(tiny_lm, harmless, **settings)
    with pytest.raises(ValueError, match="inner must be"):
        safety(tiny_lm, "a name")


def test_stands_behind_a_generator_and_survives_serialisation(tiny_lm, tiny_lm_folder):
    settings = {
        "number": 3,
        "threshold": 0.7,
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
        pipeline.add_component("safety", TRLMSafetyFilter(inner, str(tiny_lm_folder), **settings))
        pipeline.connect("generator.replies", "safety.replies")
        again = Pipeline.loads(pipeline.dumps(), allowed_modules=[__name__]).get_component("safety")
        assert again.to_dict() == pipeline.get_component("safety").to_dict()
        assert again.inner is bad_words if inner else isinstance(again.inner, QuestionFilter)
    with pytest.raises(ValueError, match="loaded model cannot be serialised"):
        safety(tiny_lm, bad_words).to_dict()


def test_a_component_is_an_inner_filter(tiny_lm, tmp_path, monkeypatch, word_embedder):
    monkeypatch.setattr(
        "trlm_retrieval.components.question_filter.SentenceEmbedder", lambda name: word_embedder
    )
    vectors = word_embedder.embed(["bomb"])[0]
    head = QuestionHead("words", tuple(float(v > 0.5) * 40 for v in vectors), -20.0, "by hand")
    head.save(tmp_path / "head.json")
    inner = QuestionFilter(str(tmp_path / "head.json"))
    long = "harmless words " * 100 + "bomb"
    scores = inner.run(["a bomb", "a flower", long, " "])["scores"]
    assert [score > 0.5 for score in scores] == [True, False, True, False]
    assert inner.run([])["scores"] == []
    assert safety(tiny_lm, inner).run("a bomb", REPLIES)["blocked"] == REPLIES
    assert safety(tiny_lm, inner).run("a flower", REPLIES)["decisions"][0]["prompt_score"] < 0.5


def test_damaged_heads(tmp_path, word_embedder):
    path = tmp_path / "head.json"
    with pytest.raises(ModelError, match="question_head"):
        QuestionHead.load(path)
    path.write_text('{"embedder": "minilm", "weights": [1, "x"], "bias": 0, "trained_on": ""}')
    with pytest.raises(ModelError, match="cannot read"):
        QuestionHead.load(path)
    path.write_text('{"embedder": "minilm", "weights": [NaN], "bias": 0, "trained_on": ""}')
    with pytest.raises(ModelError, match="NaN"):
        QuestionHead.load(path)
    head = QuestionHead("minilm", (1.0,), 0.0, "")
    with pytest.raises(ModelError, match="'minilm'"):
        head.probabilities(word_embedder.embed(["a"]))


def test_the_shipped_head_is_there():
    shipped = QuestionHead.load(SHIPPED)
    assert shipped.embedder == "minilm" and len(shipped.weights) == 384
