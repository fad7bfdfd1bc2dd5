"""The plain Python front door, with a tiny random model."""

import pytest
from haystack import Document

from trlm_retrieval import Reranker
from trlm_retrieval.components.ranker import TRLMRanker
from trlm_retrieval.errors import ModelError
from trlm_retrieval.models.calibration import Calibration

TEXTS = ["a small red tree", "the window beside a lamp", "many long words about nothing at all"]


@pytest.fixture
def reranker(tiny_lm):
    return Reranker(tiny_lm)


def test_texts_are_ordered_by_the_likelihood_of_the_query(reranker, tiny_lm):
    found = reranker.rank("red lamp", TEXTS)
    likelihoods = [measured.sum for measured in tiny_lm.score([("red lamp", t) for t in TEXTS])]
    order = sorted(range(len(TEXTS)), key=lambda n: -likelihoods[n])
    assert [passage.index for passage in found] == order
    assert [passage.rank for passage in found] == [1, 2, 3]
    assert [passage.text for passage in found] == [TEXTS[n] for n in order]
    for passage in found:
        assert passage.score == passage.log_likelihood
        assert passage.score == pytest.approx(likelihoods[passage.index], abs=1e-3)
        assert passage.document == TEXTS[passage.index] and passage.token_gains == ()


def test_every_kind_of_document_is_taken_and_given_back(reranker, caplog):
    given = [
        TEXTS[0],
        {"text": TEXTS[0], "url": "kept"},
        {"content": TEXTS[0]},
        Document(content=TEXTS[0], meta={"title": ""}),
    ]
    found = sorted(reranker.rank("red", given), key=lambda passage: passage.index)
    assert [passage.document for passage in found] == given
    assert len({round(passage.score, 3) for passage in found}) == 1
    assert not caplog.records  # nothing to warn of: texts have no scores of a first stage


def test_scores_of_a_first_stage_are_mixed_in(reranker, tiny_lm):
    given = [{"text": text, "score": float(n), "title": "T"} for n, text in enumerate(TEXTS)]
    documents = [
        Document(content=text, score=float(n), meta={"title": "T"}) for n, text in enumerate(TEXTS)
    ]
    expected = TRLMRanker(tiny_lm).run("red lamp", documents)["documents"]
    found = reranker.rank("red lamp", given)
    assert [p.score for p in found] == pytest.approx([d.score for d in expected], abs=1e-3)
    assert [p.text for p in found] == [d.content for d in expected]
    first_stage_alone = Reranker(tiny_lm, first_stage_weight=1.0).rank("red lamp", given)
    assert [p.index for p in first_stage_alone] == [2, 1, 0]
    # Where one has no score, none counts.
    del given[0]["score"]
    assert all(p.score == p.log_likelihood for p in reranker.rank("red lamp", given))


def test_an_explanation_adds_up(reranker, tiny_lm):
    passage = reranker.rank("red lamp", TEXTS, top_k=1, explain=True)[0]
    measured = tiny_lm.score([("red lamp", passage.text)], prior=True)[0]
    assert sum(found.gain for found in passage.token_gains) == pytest.approx(
        measured.gain, abs=1e-2
    )
    assert "".join(found.token for found in passage.token_gains).replace(" ", "") == "redlamp"


def test_scaled_scores_are_probabilities_in_the_same_order(make_tiny_lm):
    lm = make_tiny_lm("both")
    with pytest.raises(ModelError, match="scale_score needs a calibration"):
        Reranker(lm, scale_score=True)
    lm.calibration = Calibration(str(lm.template()), (-1.0, 2.0, 0.0), (-1.0, 2.0, 0.0))
    scaled = Reranker(lm, scale_score=True).rank("red lamp", TEXTS)
    plain = Reranker(lm).rank("red lamp", TEXTS)
    assert [passage.index for passage in scaled] == [passage.index for passage in plain]
    assert 0 < scaled[-1].score < scaled[0].score < 1
    assert scaled[0].log_likelihood == pytest.approx(plain[0].log_likelihood, abs=1e-4)


def test_what_has_no_text_comes_last(reranker):
    found = reranker.rank("red", ["", TEXTS[0], {"title": "", "text": None}])
    assert found[0].index == 1 and {p.index for p in found[1:]} == {0, 2}
    assert found[1].log_likelihood is None
    assert reranker.rank("red", []) == []


@pytest.mark.parametrize(
    ("docs", "error", "message"),
    [
        ("one text", TypeError, "not one string"),
        ([TEXTS[0], 3], TypeError, r"docs\[1\] is int"),
        ([{"text": 3}], TypeError, r"docs\[0\] is dict"),
    ],
)
def test_other_things_are_refused(reranker, docs, error, message):
    with pytest.raises(error, match=message):
        reranker.rank("red", docs)


def test_wrong_arguments_are_refused(reranker, tiny_lm):
    with pytest.raises(ValueError, match="query must not be empty"):
        reranker.rank(" ", TEXTS)
    with pytest.raises(ValueError, match="top_k must be positive"):
        reranker.rank("red", TEXTS, top_k=0)
    with pytest.raises(ValueError, match="first_stage_weight must lie in"):
        Reranker(tiny_lm, first_stage_weight=2.0)
    with pytest.raises(ModelError, match="nothing-here"):
        Reranker("nothing-here")
