"""TRLMRanker behaves as a Haystack ranker and orders by log P(query | passage)."""

import asyncio
import math
from dataclasses import replace
from threading import Thread

import pytest
from haystack import Document, Pipeline
from haystack.utils import ComponentDevice

from trlm_retrieval.components import TRLMRanker
from trlm_retrieval.components.fusion import combine
from trlm_retrieval.errors import ModelError, StatesError
from trlm_retrieval.lm import PassageStates
from trlm_retrieval.lm.state_writing import plan_states, write_states
from trlm_retrieval.models.calibration import Calibration
from trlm_retrieval.passage_index.documents import passage_text

QUERY = "how does with call exit"
DOCUMENTS = [
    Document(id="a", content="A generator yields values.", score=3.0),
    Document(id="b", content="The with statement calls exit.", score=2.0, meta={"title": "with"}),
    Document(id="c", content="Keys keep insertion order.", score=1.0, meta={"page": 4}),
]


def test_orders_by_reverse_log_likelihood(tiny_lm):
    ranker = TRLMRanker(tiny_lm, first_stage_weight=0.0)
    found = ranker.run(QUERY, DOCUMENTS)["documents"]
    texts = {"a": DOCUMENTS[0].content, "b": f"with\n{DOCUMENTS[1].content}"}
    texts["c"] = DOCUMENTS[2].content
    expected = {name: tiny_lm.score([(QUERY, text)], "ba")[0].sum for name, text in texts.items()}
    assert [doc.id for doc in found] == sorted(expected, key=expected.get, reverse=True)
    for document in found:
        measured = document.meta["trlm"]
        assert document.score == pytest.approx(expected[document.id], abs=1e-3)
        assert measured["log_likelihood"] == document.score
        assert measured["mean_log_likelihood"] == pytest.approx(
            document.score / measured["tokens_scored"]
        )
        assert measured["cut_tokens"] == 0
    assert {doc.id: doc.meta["trlm"]["first_stage_rank"] for doc in found} == {
        "a": 1,
        "b": 2,
        "c": 3,
    }


def test_passages_full_of_undertrained_tokens_are_told(make_tiny_lm, caplog):
    lm = make_tiny_lm("forward")
    strange = set(lm.encoder.encode_texts([DOCUMENTS[2].content])[0])
    lm.encoder.undertrained = frozenset(strange)
    found = TRLMRanker(lm).run(QUERY, DOCUMENTS)["documents"]
    shares = {document.id: document.meta["trlm"]["undertrained"] for document in found}
    assert shares["c"] == max(shares.values()) > 0.9 and len(found) == 3
    assert "under-trained" in caplog.text


def test_combines_with_the_first_stage(tiny_lm):
    found = TRLMRanker(tiny_lm, first_stage_weight=0.7).run(QUERY, DOCUMENTS)["documents"]
    by_id = {doc.id: doc for doc in found}
    expected = combine(
        [3.0, 2.0, 1.0], [by_id[i].meta["trlm"]["log_likelihood"] for i in "abc"], 0.7
    )
    assert [by_id[i].score for i in "abc"] == pytest.approx(list(expected))
    only_first = TRLMRanker(tiny_lm, first_stage_weight=1.0).run(QUERY, DOCUMENTS)["documents"]
    assert [doc.id for doc in only_first] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("asked", "recommended", "weight"),
    [(None, None, 0.45), (None, 0.9, 0.9), (0.2, 0.9, 0.2), (0.0, 0.9, 0.0)],
)
def test_the_weight_asked_for_comes_before_the_recommended_one(
    make_tiny_lm, asked, recommended, weight
):
    lm = make_tiny_lm("both")
    lm.first_stage_weight = recommended
    scores, expected = (
        {
            d.id: d.score
            for d in TRLMRanker(lm, first_stage_weight=w).run(QUERY, DOCUMENTS)["documents"]
        }
        for w in (asked, weight)
    )
    assert scores == pytest.approx(expected, abs=1e-3)


def test_without_first_stage_scores_the_likelihood_ranks_alone(tiny_lm, caplog):
    documents = [replace(doc, score=None) for doc in DOCUMENTS]
    found = TRLMRanker(tiny_lm, first_stage_weight=0.5).run(QUERY, documents)["documents"]
    assert all(doc.score == doc.meta["trlm"]["log_likelihood"] for doc in found)
    assert "no first-stage score" in caplog.text


def test_the_likelihood_alone_needs_no_first_stage_scores(tiny_lm, caplog):
    documents = [replace(doc, score=None) for doc in DOCUMENTS]
    ranker = TRLMRanker(tiny_lm, first_stage_weight=0.0)
    alone = {doc.id: doc.score for doc in ranker.run(QUERY, documents)["documents"]}
    scored = {doc.id: doc.score for doc in ranker.run(QUERY, DOCUMENTS)["documents"]}
    assert alone == pytest.approx(scored, abs=1e-3) and len(alone) == 3
    assert not caplog.text


def test_forward_baseline_ranks_by_the_mean(tiny_lm):
    ranker = TRLMRanker(tiny_lm, direction="forward", first_stage_weight=0.0)
    for document in ranker.run(QUERY, DOCUMENTS)["documents"]:
        assert document.score == document.meta["trlm"]["mean_log_likelihood"]


def test_explanation_adds_up_and_reads_as_the_query(tiny_lm):
    ranker = TRLMRanker(tiny_lm, first_stage_weight=0.0, explain=True)
    for document in ranker.run(QUERY, DOCUMENTS)["documents"]:
        measured = document.meta["trlm"]
        tokens = measured["token_gains"]
        assert "".join(token["token"] for token in tokens).strip() == QUERY
        assert sum(token["gain"] for token in tokens) == pytest.approx(measured["gain"], abs=1e-3)
        assert sum(token["log_prob"] for token in tokens) == pytest.approx(
            measured["log_likelihood"], abs=1e-3
        )


def test_inputs_are_not_changed(tiny_lm):
    before = [replace(doc, meta=dict(doc.meta)) for doc in DOCUMENTS]
    TRLMRanker(tiny_lm).run(QUERY, DOCUMENTS)
    assert before == DOCUMENTS


def test_duplicates_top_k_and_threshold(tiny_lm):
    ranker = TRLMRanker(tiny_lm, top_k=2)
    doubled = [replace(DOCUMENTS[0], score=0.0), *DOCUMENTS]
    found = ranker.run(QUERY, doubled)["documents"]
    assert len(found) == 2
    everything = ranker.run(QUERY, doubled, top_k=10)["documents"]
    assert sorted(doc.id for doc in everything) == ["a", "b", "c"]
    kept = next(doc for doc in everything if doc.id == "a")
    assert kept.meta["trlm"]["first_stage_score"] == 3.0
    middle = everything[1].score
    above = ranker.run(QUERY, doubled, top_k=10, score_threshold=middle)["documents"]
    assert [doc.id for doc in above] == [doc.id for doc in everything[:2]]


def test_cut_passages_are_counted(make_tiny_lm):
    ranker = TRLMRanker(make_tiny_lm("reverse"), max_passage_tokens=4)
    [document] = ranker.run(QUERY, [Document(content="one two three four five six")])["documents"]
    assert document.meta["trlm"]["cut_tokens"] > 0


def test_states_do_not_change_scores(tiny_lm):
    ranker = TRLMRanker(tiny_lm, first_stage_weight=0.0)
    tiny_lm.states = PassageStates(0)
    expected = [doc.score for doc in ranker.run(QUERY, DOCUMENTS)["documents"]]
    tiny_lm.states = PassageStates()
    for _ in range(2):
        found = [doc.score for doc in ranker.run(QUERY, DOCUMENTS)["documents"]]
        assert found == pytest.approx(expected, abs=1e-3)
    assert tiny_lm.states.hits == 3


def test_states_on_disk_serve_the_ranker(tiny_lm, tmp_path):
    texts = [passage_text(document, ("title",)) for document in DOCUMENTS]
    plan = plan_states(tiny_lm, texts, max_passage_tokens=512)
    write_states(tmp_path / "states", tiny_lm, plan)
    ranker = TRLMRanker(tiny_lm, first_stage_weight=0.0, states_folder=str(tmp_path / "states"))
    tiny_lm.states = PassageStates(0)
    expected = TRLMRanker(tiny_lm, first_stage_weight=0.0).run(QUERY, DOCUMENTS)["documents"]
    found = ranker.run(QUERY, DOCUMENTS)["documents"]
    assert [doc.score for doc in found] == pytest.approx([doc.score for doc in expected], abs=1e-3)
    assert (tiny_lm.states.hits, len(tiny_lm.states)) == (3, 0)
    with pytest.raises(StatesError, match="max passage tokens"):
        TRLMRanker(tiny_lm, max_passage_tokens=64, states_folder=str(tmp_path / "states")).warm_up()


def test_empty_documents_give_an_empty_list_without_loading():
    ranker = TRLMRanker("no/such-model")
    assert ranker.run(QUERY, []) == {"documents": []}


@pytest.mark.parametrize("query", ["", "  \n"])
def test_empty_query(tiny_lm, query):
    with pytest.raises(ValueError, match="query must not be empty"):
        TRLMRanker(tiny_lm).run(query, DOCUMENTS)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"top_k": 0}, "top_k"),
        ({"first_stage_weight": 2.0}, "first_stage_weight"),
        ({"max_passage_tokens": 0}, "max_passage_tokens"),
        ({"states_megabytes": -1}, "states_megabytes"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        TRLMRanker(**parameters)


@pytest.mark.parametrize("weight", [0.0, 0.45])
@pytest.mark.parametrize("explain", [False, True])
def test_documents_without_text_come_last(tiny_lm, weight, explain, caplog):
    blank = [
        Document(id="blank", content=" \n", score=9.0),
        Document(id="none", content=None, score=8.0),
        Document(id="untitled", content="", score=7.0, meta={"title": None}),
    ]
    ranker = TRLMRanker(tiny_lm, first_stage_weight=weight, explain=explain)
    found = ranker.run(QUERY, [*blank, *DOCUMENTS])["documents"]
    alone = ranker.run(QUERY, DOCUMENTS)["documents"]
    assert [d.id for d in found] == [*(d.id for d in alone), "blank", "none", "untitled"]
    assert [d.score for d in found[:3]] == pytest.approx([d.score for d in alone], abs=1e-3)
    assert found[3].score < found[2].score
    assert found[3].meta["trlm"]["log_likelihood"] is None
    assert "3 of 6 documents" in caplog.text
    above = ranker.run(QUERY, [*blank, *DOCUMENTS], score_threshold=found[3].score + 0.5)
    assert len(above["documents"]) == 3


def test_nothing_but_blank_documents(tiny_lm):
    found = TRLMRanker(tiny_lm).run(QUERY, [Document(id="a", content=""), Document(id="b")])
    assert {document.id for document in found["documents"]} == {"a", "b"}


def test_a_title_alone_is_scored(tiny_lm):
    titled = Document(id="t", content=None, meta={"title": "The with statement calls exit."})
    ranker = TRLMRanker(tiny_lm, first_stage_weight=0.0)
    [found] = ranker.run(QUERY, [titled])["documents"]
    [expected] = tiny_lm.score([(QUERY, "The with statement calls exit.\n")], "ba")
    assert found.score == pytest.approx(expected.sum, abs=1e-3)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_first_stage_scores_that_are_no_numbers_come_last(tiny_lm, score, caplog):
    odd = Document(id="odd", content="The with statement calls exit.", score=score)
    found = TRLMRanker(tiny_lm).run(QUERY, [odd, *DOCUMENTS])["documents"]
    assert found[-1].id == "odd" and all(math.isfinite(document.score) for document in found)
    assert found[-1].meta["trlm"]["first_stage_score"] is None
    assert "1 of 4 documents" in caplog.text


@pytest.mark.parametrize("weight", [0.0, None])
def test_where_no_first_stage_score_counts_the_likelihood_ranks(tiny_lm, weight):
    odd = [replace(document, score=math.nan) for document in DOCUMENTS]
    found = TRLMRanker(tiny_lm, first_stage_weight=weight).run(QUERY, odd)["documents"]
    plain = TRLMRanker(tiny_lm, first_stage_weight=0.0).run(QUERY, DOCUMENTS)["documents"]
    assert [document.id for document in found] == [document.id for document in plain]


def test_bad_top_k(tiny_lm):
    with pytest.raises(ValueError, match="top_k"):
        TRLMRanker(tiny_lm).run(QUERY, DOCUMENTS, top_k=0)


def test_a_direction_that_does_not_fit_is_told_at_warm_up(make_tiny_lm):
    with pytest.raises(ModelError, match="direction"):
        TRLMRanker(make_tiny_lm("forward"), direction="ba").warm_up()


@pytest.fixture
def calibrated_lm(make_tiny_lm):
    lm = make_tiny_lm("reverse")
    lm.calibration = Calibration(str(lm.template()), alone=(-1.0, 2.0, 0.3), mixed=(-0.5, 1.0, 0.1))
    return lm


@pytest.mark.parametrize("weight", [0.0, 0.45])
def test_scaled_scores_are_probabilities_in_the_same_order(calibrated_lm, weight):
    plain = TRLMRanker(calibrated_lm, first_stage_weight=weight).run(QUERY, DOCUMENTS)["documents"]
    ranker = TRLMRanker(calibrated_lm, first_stage_weight=weight, scale_score=True)
    scaled = ranker.run(QUERY, DOCUMENTS)["documents"]
    assert [document.id for document in scaled] == [document.id for document in plain]
    scores = [document.score for document in scaled]
    assert scores == sorted(scores, reverse=True) and 0 < scores[-1] < scores[0] < 1
    kept = ranker.run(QUERY, DOCUMENTS, score_threshold=scores[1])["documents"]
    assert [document.id for document in kept] == [document.id for document in scaled[:2]]
    assert "gain" not in scaled[0].meta["trlm"]


def test_a_scaled_score_is_the_logistic_of_the_gain_and_knows_no_neighbours(calibrated_lm):
    ranker = TRLMRanker(calibrated_lm, first_stage_weight=0.0, scale_score=True, explain=True)
    for document in ranker.run(QUERY, DOCUMENTS)["documents"]:
        measured = document.meta["trlm"]
        tokens = measured["tokens_scored"]
        odds = -1 + 2 * measured["gain"] / tokens + 0.3 * math.log(tokens)
        assert document.score == pytest.approx(1 / (1 + math.exp(-odds)), rel=1e-6)
        [original] = [given for given in DOCUMENTS if given.id == document.id]
        [alone] = ranker.run(QUERY, [original])["documents"]
        assert alone.score == pytest.approx(document.score, rel=1e-4)


def test_a_blank_document_is_surely_not_relevant(calibrated_lm):
    blank = Document(id="blank", content=" ", score=9.0)
    ranker = TRLMRanker(calibrated_lm, scale_score=True)
    assert ranker.run(QUERY, [*DOCUMENTS, blank])["documents"][-1].score == 0.0


def test_scaling_needs_a_calibration_of_the_same_template(tiny_lm, make_tiny_lm):
    with pytest.raises(ModelError, match="the model has none: run `trlm eval calibrate"):
        TRLMRanker(tiny_lm, scale_score=True).warm_up()
    lm = make_tiny_lm("both")
    lm.calibration = Calibration(str(lm.template()), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0))
    with pytest.raises(ModelError, match="direction 'fo' is asked for"):
        TRLMRanker(lm, scale_score=True, direction="fo").warm_up()


def test_survives_a_pipeline_round_trip(tiny_lm_folder):
    ranker = TRLMRanker(
        str(tiny_lm_folder),
        direction="ba",
        top_k=3,
        first_stage_weight=0.25,
        score_threshold=-5.0,
        explain=True,
        meta_fields_to_embed=["name"],
        max_passage_tokens=64,
        states_megabytes=1,
        device=ComponentDevice.from_str("cpu"),
        dtype="bfloat16",
    )
    pipeline = Pipeline()
    pipeline.add_component("ranker", ranker)
    restored = Pipeline.loads(pipeline.dumps())
    again = restored.get_component("ranker")
    assert again.to_dict() == ranker.to_dict()
    found = restored.run({"ranker": {"query": QUERY, "documents": DOCUMENTS}})
    assert all(math.isfinite(doc.score) for doc in found["ranker"]["documents"])


def test_a_loaded_model_cannot_be_serialised(tiny_lm):
    with pytest.raises(ValueError, match=r"TimeReversedLM\.save"):
        TRLMRanker(tiny_lm).to_dict()


async def test_run_async_gives_the_same_and_leaves_the_loop_free(tiny_lm):
    ranker = TRLMRanker(tiny_lm)
    many = [replace(DOCUMENTS[0], id=str(i), content=f"passage {i} " * 30) for i in range(60)]
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    found = await ranker.run_async(QUERY, many)
    ticking.cancel()
    assert ticks > 1
    scores, expected = (
        {document.id: document.score for document in result["documents"]}
        for result in (found, ranker.run(QUERY, many))
    )
    assert scores == pytest.approx(expected, abs=1e-3)


def test_threads_share_one_ranker(tiny_lm):
    ranker = TRLMRanker(tiny_lm, first_stage_weight=0.0)
    expected = {doc.id: doc.score for doc in ranker.run(QUERY, DOCUMENTS)["documents"]}
    found = []

    def work():
        for _ in range(5):
            found.append({doc.id: doc.score for doc in ranker.run(QUERY, DOCUMENTS)["documents"]})

    threads = [Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    for scores in found:
        assert scores == pytest.approx(expected, abs=1e-3)
