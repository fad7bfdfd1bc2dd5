"""TRLMCitationAttributor: who supports which sentence, where, and nothing of the answer lost."""

import json
from dataclasses import replace

import pytest
from haystack import Document, GeneratedAnswer, Pipeline
from haystack.components.builders import AnswerBuilder
from haystack.dataclasses import ChatMessage
from haystack.utils import ComponentDevice

from trlm_retrieval.citation.markers import with_markers
from trlm_retrieval.citation.search import SEARCHES, search
from trlm_retrieval.citation.support import SupportScorer, support_template
from trlm_retrieval.components import TRLMAnswerRanker, TRLMCitationAttributor

DOCUMENTS = [
    Document(id="gen", content="A generator yields values. It stops at the end."),
    Document(id="with", content="Blocks are wrapped.\nThe with statement calls exit.  Good."),
    Document(id="dict", content="Keys keep their order.", meta={"title": "Dictionaries"}),
]
ANSWER = "The with statement calls exit. A generator yields values!\nNobody knows."
EVERYTHING, NOTHING = -1e9, 1e9


def attribute(tiny_lm, answer, documents=DOCUMENTS, run=None, **settings):
    attributor = TRLMCitationAttributor(tiny_lm, **{"score_threshold": EVERYTHING, **settings})
    [found] = attributor.run(replies=[answer], documents=documents, **(run or {}))["answers"]
    return found


def test_sentences_are_cited_as_their_scores_say(tiny_lm):
    found = attribute(tiny_lm, ANSWER)
    sentences = found.meta["trlm"]["sentences"]
    assert [s["text"] for s in sentences] == [
        "The with statement calls exit.",
        "A generator yields values!",
        "Nobody knows.",
    ]
    scorer = SupportScorer(tiny_lm.score, support_template("claim", True))
    texts = [d.content if d.id != "dict" else f"Dictionaries\n{d.content}" for d in DOCUMENTS]
    for sentence in sentences:
        supports = scorer.score([(sentence["text"], text) for text in texts])
        best = max(range(3), key=lambda i: supports[i].score)
        [citation] = sentence["citations"]
        assert (citation["document_id"], citation["number"]) == (DOCUMENTS[best].id, best + 1)
        assert sentence["score"] == citation["score"]
        assert citation["score"] == pytest.approx(supports[best].score, abs=1e-3)
        assert citation["gain"] == pytest.approx(supports[best].gain, abs=1e-3)
        assert sentence["supported"]
    assert found.meta["trlm"]["unsupported"] == 0
    assert found.data == ANSWER


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("scored", ["claim", "source"])
def test_quotes_are_spans_of_the_document(tiny_lm, name, scored):
    found = attribute(tiny_lm, ANSWER, search=name, scored=scored, top_k=3)
    contents = {document.id: document.content for document in DOCUMENTS}
    scorer = SupportScorer(tiny_lm.score, support_template(scored, True))
    for sentence in found.meta["trlm"]["sentences"]:
        assert len(sentence["citations"]) == 3
        scores = [citation["score"] for citation in sentence["citations"]]
        assert scores == sorted(scores, reverse=True)
        for citation in sentence["citations"]:
            content = contents[citation["document_id"]]
            assert content[citation["start"] : citation["end"]] == citation["quote"]
            if citation["document_id"] == "with":
                pieces = ["Blocks are wrapped.\n", "The with statement calls exit.  ", "Good."]
                [expected] = search(name, [(sentence["text"], pieces)], scorer)
                assert citation["quote"] == pieces[expected.start].strip()
                assert citation["quote_score"] == pytest.approx(expected.score, abs=1e-3)


def test_below_the_threshold_nothing_is_cited(tiny_lm):
    found = attribute(tiny_lm, ANSWER, score_threshold=NOTHING, write_markers=True)
    assert found.meta["trlm"]["unsupported"] == 3
    for sentence in found.meta["trlm"]["sentences"]:
        assert not sentence["supported"] and sentence["citations"] == []
        assert sentence["score"] is not None
    assert found.data == ANSWER
    again = attribute(tiny_lm, ANSWER, score_threshold=NOTHING, run={"score_threshold": EVERYTHING})
    assert again.meta["trlm"]["unsupported"] == 0


def test_markers_fit_the_answer_builder(tiny_lm):
    found = attribute(tiny_lm, ANSWER, run={"write_markers": True})
    assert with_markers(found.data, {}, range(1, 10)) == ANSWER and found.data != ANSWER
    builder = AnswerBuilder(reference_pattern=r"\[(\d+)\]", return_only_referenced_documents=False)
    [built] = builder.run("?", [found.data], documents=DOCUMENTS)["answers"]
    assert built.documents == found.documents
    assert any(document.meta["referenced"] for document in found.documents)
    [again] = TRLMCitationAttributor(tiny_lm, score_threshold=EVERYTHING, write_markers=True).run(
        answers=[found], documents=DOCUMENTS
    )["answers"]
    assert again.data == found.data


def test_markers_are_checked_not_trusted(tiny_lm):
    answer = "The with statement calls exit [2][9]. Nobody knows [1, 3]."
    sentences = attribute(tiny_lm, answer).meta["trlm"]["sentences"]
    assert [m["number"] for m in sentences[0]["markers"]] == [2, 9]
    known, nowhere = sentences[0]["markers"]
    assert known["document_id"] == "with" and known["supported"]
    assert nowhere == {"number": 9, "document_id": None, "score": None, "supported": False}
    assert [m["document_id"] for m in sentences[1]["markers"]] == ["gen", "dict"]
    between = sum(m["score"] for m in sentences[1]["markers"]) / 2
    strict = attribute(tiny_lm, answer, score_threshold=between).meta["trlm"]["sentences"][1]
    assert sorted(m["supported"] for m in strict["markers"]) == [False, True]
    bare = attribute(tiny_lm, with_markers(answer, {}, range(1, 10))).meta["trlm"]["sentences"]
    for one, other in zip(sentences, bare, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-3)


def test_answers_bring_their_own_documents(tiny_lm):
    [built] = AnswerBuilder(reference_pattern=r"\[(\d+)\]").run(
        "what?", ["Keys keep order [3]."], documents=DOCUMENTS
    )["answers"]
    assert [document.id for document in built.documents] == ["dict"]
    attributor = TRLMCitationAttributor(tiny_lm, score_threshold=EVERYTHING)
    [found] = attributor.run(answers=[built])["answers"]
    [sentence] = found.meta["trlm"]["sentences"]
    assert sentence["markers"][0]["document_id"] == "dict"
    assert sentence["citations"][0]["number"] == 3
    assert found.query == "what?" and found.meta["all_messages"] == ["Keys keep order [3]."]
    assert "trlm" not in built.meta


def test_replies_may_be_chat_messages(tiny_lm):
    replies = [ChatMessage.from_assistant(ANSWER, meta={"model": "m"}), ChatMessage.from_user("")]
    attributor = TRLMCitationAttributor(tiny_lm, score_threshold=EVERYTHING)
    first, second = attributor.run(replies=replies, documents=DOCUMENTS, query="q")["answers"]
    assert (first.data, first.query, first.meta["model"]) == (ANSWER, "q", "m")
    assert second.data == "" and second.meta["trlm"] == {"unsupported": 0, "sentences": []}


def test_the_best_reply_goes_on_to_be_cited(tiny_lm):
    pipeline = Pipeline()
    pipeline.add_component("best", TRLMAnswerRanker(tiny_lm, top_k=1))
    pipeline.add_component("cite", TRLMCitationAttributor(tiny_lm))
    pipeline.connect("best.replies", "cite.replies")
    replies = [ChatMessage.from_assistant("Keys keep order."), ChatMessage.from_assistant("No.")]
    inputs = {"best": {"query": "order?", "replies": replies}, "cite": {"documents": DOCUMENTS}}
    [answer] = pipeline.run(inputs)["cite"]["answers"]
    [best] = TRLMAnswerRanker(tiny_lm, top_k=1).run("order?", replies)["replies"]
    assert answer.data == best.text


def test_answers_together_are_as_answers_alone(tiny_lm):
    replies = [ANSWER, "Keys keep order.", ""]
    attributor = TRLMCitationAttributor(tiny_lm, score_threshold=EVERYTHING)
    together = attributor.run(replies=replies, documents=DOCUMENTS)["answers"]
    for reply, answer in zip(replies, together, strict=True):
        alone = attribute(tiny_lm, reply).meta["trlm"]["sentences"]
        for one, other in zip(answer.meta["trlm"]["sentences"], alone, strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-3)
            assert [c["quote"] for c in one["citations"]] == [
                c["quote"] for c in other["citations"]
            ]


def test_nothing_to_cite_needs_no_model():
    attributor = TRLMCitationAttributor("no/such-model")
    [found] = attributor.run(replies=[ANSWER], documents=[])["answers"]
    assert found.meta["trlm"]["unsupported"] == 3 and found.data == ANSWER
    assert [s["score"] for s in found.meta["trlm"]["sentences"]] == [None] * 3
    assert attributor.run(replies=[])["answers"] == []
    [empty] = attributor.run(replies=["  \n"], documents=DOCUMENTS)["answers"]
    assert empty.data == "  \n" and empty.meta["trlm"]["sentences"] == []


def test_documents_without_content_are_kept_and_never_cited(tiny_lm, caplog):
    documents = [Document(id="none"), Document(id="blank", content=" "), *DOCUMENTS]
    found = attribute(tiny_lm, ANSWER + " [1]", documents)
    assert [d.id for d in found.documents] == ["none", "blank", "gen", "with", "dict"]
    assert "without text, which cannot be cited: 2" in caplog.text
    *_, last = found.meta["trlm"]["sentences"]
    assert last["markers"] == [
        {"number": 1, "document_id": "none", "score": None, "supported": False}
    ]
    assert {c["number"] for s in found.meta["trlm"]["sentences"] for c in s["citations"]} <= {
        3,
        4,
        5,
    }


@pytest.mark.parametrize(
    "answer",
    [
        "我们在这里。你好吗？",
        "أنا بخير. كيف حالك؟",
        "One \ud800 surrogate, one \x00 NUL. <|start|> and <|end|>.",
        "👍🏽🎉",
        "no end and no stop " * 40,
    ],
)
def test_odd_answers_come_back_as_they_were(tiny_lm, answer):
    found = attribute(tiny_lm, answer)
    assert found.data == answer
    for sentence in found.meta["trlm"]["sentences"]:
        assert answer[sentence["start"] : sentence["end"]] == sentence["text"]
        assert sentence["supported"]
    json.dumps(found.meta["trlm"])


def test_one_sentence_of_5000_words_is_read_at_its_beginning(tiny_lm):
    answer = "word " * 5000 + "end. Next one."
    found = attribute(tiny_lm, answer, write_markers=True)
    long, short = found.meta["trlm"]["sentences"]
    assert long["text"] == "word " * 5000 + "end." and long["cut_characters"] > 20_000
    assert short["cut_characters"] == 0
    assert with_markers(found.data, {}, range(1, 10)) == answer


def test_a_long_document_is_read_to_its_end(tiny_lm):
    content = "Filler about nothing at all. " * 200 + "A generator yields values."
    found = attribute(
        tiny_lm,
        "A generator yields values.",
        [Document(id="long", content=content)],
        candidates=2,
        max_passage_tokens=40,
    )
    [citation] = found.meta["trlm"]["sentences"][0]["citations"]
    assert content[citation["start"] : citation["end"]] == citation["quote"]
    assert citation["start"] > len(content) - 300


def test_the_number_of_passages_scored_is_bounded(tiny_lm, monkeypatch):
    scored = []
    original = SupportScorer.score

    def counting(self, pairs):
        scored.append(len(pairs))
        return original(self, pairs)

    monkeypatch.setattr(SupportScorer, "score", counting)
    documents = [Document(id=str(i), content=f"Document {i} on keys.") for i in range(300)]
    found = attribute(tiny_lm, "Keys [250].", documents, candidates=5)
    assert scored[0] == 6  # the marker's document comes on top
    assert len(found.documents) == 300


def test_documents_are_copies(tiny_lm):
    before = [replace(document, meta=dict(document.meta)) for document in DOCUMENTS]
    attribute(tiny_lm, ANSWER)
    assert before == DOCUMENTS


async def test_runs_async(tiny_lm):
    attributor = TRLMCitationAttributor(tiny_lm, score_threshold=EVERYTHING)
    found = await attributor.run_async(replies=[ANSWER], documents=DOCUMENTS)
    expected = attributor.run(replies=[ANSWER], documents=DOCUMENTS)
    assert [a.data for a in found["answers"]] == [a.data for a in expected["answers"]]


def test_survives_serialisation(tiny_lm, tiny_lm_folder):
    attributor = TRLMCitationAttributor(
        str(tiny_lm_folder),
        scored="source",
        search="binary",
        score_threshold=0.5,
        top_k=2,
        candidates=7,
        write_markers=True,
        meta_fields_to_embed=["name"],
        max_passage_tokens=99,
        states_megabytes=3,
        device=ComponentDevice.from_str("cpu"),
        dtype="float32",
    )
    pipeline = Pipeline()
    pipeline.add_component("citations", attributor)
    again = Pipeline.loads(pipeline.dumps()).get_component("citations")
    assert again.to_dict() == attributor.to_dict()
    found = pipeline.run({"citations": {"replies": [ANSWER], "documents": DOCUMENTS}})
    assert len(found["citations"]["answers"]) == 1
    with pytest.raises(ValueError, match="loaded model cannot be serialised"):
        TRLMCitationAttributor(tiny_lm).to_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scored": "query"}, "'claim' or 'source'"),
        ({"search": "ternary"}, "linear, binary, exclusion"),
        ({"top_k": 0}, "top_k must be positive"),
        ({"candidates": 0}, "candidates must be positive"),
        ({"max_passage_tokens": -1}, "max_passage_tokens must be positive"),
        ({"states_megabytes": -1}, "states_megabytes must not be negative"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        TRLMCitationAttributor(**settings)


@pytest.mark.parametrize(
    "inputs", [{}, {"replies": ["a"], "answers": [GeneratedAnswer("", "", [])]}]
)
def test_replies_or_answers(inputs):
    with pytest.raises(ValueError, match="either replies or answers"):
        TRLMCitationAttributor().run(**inputs)
