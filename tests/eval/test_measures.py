"""Measures, intervals and tests."""

import ir_measures
import numpy as np
import pytest
from haystack import Document
from haystack.components.evaluators import DocumentNDCGEvaluator

from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.measures import estimate, holm, measures, paired_test, per_query
from trlm_retrieval.eval.runs import ranked, read_run, write_run

QRELS = {"q1": {"a": 2, "b": 1}, "q2": {"c": 1}, "q3": {"d": 1}}
RUN = {"q1": {"b": 3.0, "x": 2.0, "a": 1.0}, "q2": {"c": 5.0}}


def test_per_query_agrees_with_ir_measures_and_counts_silent_queries_as_zero():
    found = per_query(RUN, QRELS)
    assert set(found) == {"nDCG@10", "RR@10", "AP", "R@100", "P@5"}
    expected = ir_measures.calc_aggregate(list(measures()), QRELS, RUN)
    for measure in measures():
        values = found[str(measure)]
        assert set(values) == set(QRELS)
        assert values["q3"] == 0.0
        assert sum(values.values()) / 3 == pytest.approx(expected[measure])


def test_haystack_evaluator_agrees():
    """Haystack's nDCG reads a relevant document's score as its grade, over the whole ranking."""
    query, run = QRELS["q1"], sorted(RUN["q1"], key=RUN["q1"].get, reverse=True)
    relevant = [Document(id=d, content=d, score=grade) for d, grade in query.items()]
    retrieved = [Document(id=d, content=d) for d in run]
    theirs = DocumentNDCGEvaluator().run([relevant], [retrieved])["score"]
    assert per_query(RUN, QRELS)["nDCG@10"]["q1"] == pytest.approx(theirs)


def test_interval_holds_the_mean_and_narrows_with_more_queries():
    generator = np.random.default_rng(3)
    few, many = generator.random(20), generator.random(2000)
    for values in (few, many):
        found = estimate(values)
        assert found.low < found.mean < found.high
        assert found.mean == pytest.approx(values.mean())
    assert estimate(many).high - estimate(many).low < estimate(few).high - estimate(few).low
    deviation = few.std(ddof=1) / np.sqrt(len(few))
    assert estimate(few).high - estimate(few).low == pytest.approx(3.92 * deviation, rel=0.15)


def test_paired_test_sees_a_difference_and_no_difference():
    generator = np.random.default_rng(5)
    base = generator.random(60)
    assert paired_test(base + 0.1, base) < 0.001
    assert paired_test(base + generator.normal(0, 0.2, 60), base) > 0.01
    assert paired_test(base, base) == 1.0


def test_paired_test_agrees_with_the_exact_one():
    differences = [0.3, 0.1, -0.05, 0.2, 0.15, 0.02]
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1).T
    exact = (abs(signs @ differences) >= abs(sum(differences)) - 1e-12).mean()
    assert paired_test(differences, [0.0] * 6) == pytest.approx(exact, abs=0.01)


def test_holm():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "c": 0.06, "b": 0.06}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


def test_runs_survive_a_round_trip(tmp_path):
    write_run(tmp_path / "sub" / "r.trec", RUN, "tag")
    assert read_run(tmp_path / "sub" / "r.trec") == RUN
    first = (tmp_path / "sub" / "r.trec").read_text().splitlines()[0]
    assert first == "q1 Q0 b 1 3.0 tag"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q Q0 d 1 0.5\n", "line 1"),
        ("q Q0 d 1 0.5 t\nq Q0 e 2 high t\n", "line 2"),
        ("q Q0 d 1 0.5 t\nq Q0 d 2 0.4 t\n", "line 2: .* document 'd' already in line 1"),
        ("q Q0 d 1 9 t\n\nr Q0 d 1 9 t\nq Q0 d 1 9 t\n", "line 4: .* already in line 1"),
        ("q Q0 d 1 0.5 t\nq Q0 e 2 nan t\n", "line 2"),
        ("q Q0 d 1 inf t\n", "line 1"),
        ("q Q0 d 1 0.5 t\nq Q0 caf\xe9 2 0.4 t\n", r"bad\.trec, line 2"),
        ("", "holds no line"),
    ],
)
def test_malformed_runs(tmp_path, text, message):
    path = tmp_path / "bad.trec"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=message):
        read_run(path)


def test_ids_that_a_run_file_cannot_hold(tmp_path):
    for run in ({"q 1": {"d": 1.0}}, {"q": {"d\u20031": 1.0}}, {"": {"d": 1.0}}):
        with pytest.raises(DataError, match="holds white space"):
            write_run(tmp_path / "r.trec", run, "tag")
    assert not (tmp_path / "r.trec").exists()


def test_a_missing_run(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_run(tmp_path / "none.trec")


@pytest.mark.parametrize("place", [1, 2, 3])
@pytest.mark.parametrize("names", ["abc", "cba", "bca"])
def test_equal_scores_have_one_order_in_all_measures(place, names):
    """The order in which they were found, whatever the documents are called."""
    run = {"q": dict.fromkeys(names, 1.0)}
    found = per_query(run, {"q": {names[place - 1]: 1}})
    assert found["RR@10"]["q"] == found["AP"]["q"] == pytest.approx(1 / place)
    assert found["nDCG@10"]["q"] == pytest.approx(1 / np.log2(place + 1))


@pytest.mark.parametrize(
    "scores",
    [
        [1.0, 1.0, 1.0],
        [1.0, 1.0 - 1e-12, 0.5],  # equal in single precision, in which trec_eval reads
        [0.0, 0.0, -0.0],
        [1e300, 1e299, 0.0],
        [3e-46, 2e-46, 0.0],
    ],
)
def test_scores_of_a_run_file_fall_for_every_reader(tmp_path, scores):
    run = {"q": dict(zip("zya", scores, strict=True))}
    write_run(tmp_path / "x.run", run, "x")
    written = read_run(tmp_path / "x.run")["q"]
    singles = [float(np.float32(score)) for score in written.values()]
    assert list(written) == ["z", "y", "a"] == ranked(written)
    assert singles == sorted(set(singles), reverse=True)
    qrels = {"q": {"y": 1}}
    assert per_query({"q": written}, qrels) == per_query(run, qrels)


def test_scores_that_fall_are_written_as_they_are(tmp_path):
    run = {"q": {"a": 0.1 + 0.2, "b": 0.1, "c": -7.25}}
    write_run(tmp_path / "x.run", run, "x")
    assert read_run(tmp_path / "x.run") == run


def test_the_relevance_level_is_that_of_trec_eval():
    run, qrels = {"q1": {"d1": 3.0, "d2": 2.0, "d3": 1.0}}, {"q1": {"d1": 1, "d2": 1, "d3": 3}}
    found = per_query(run, qrels, relevance_level=2)
    assert set(found) == {"nDCG@10", "RR(rel=2)@10", "AP(rel=2)", "R(rel=2)@100", "P(rel=2)@5"}
    assert found["AP(rel=2)"]["q1"] == found["RR(rel=2)@10"]["q1"] == pytest.approx(1 / 3)
    assert found["P(rel=2)@5"]["q1"] == pytest.approx(1 / 5)
    assert found["nDCG@10"] == per_query(run, qrels)["nDCG@10"]
    assert per_query(run, qrels, relevance_level=4)["AP(rel=4)"]["q1"] == 0
