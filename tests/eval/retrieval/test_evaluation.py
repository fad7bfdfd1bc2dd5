"""Retrieval evaluation from end to end, with a tiny random model."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import ir_measures
import pytest

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.components.fusion import combine
from trlm_retrieval.components.ranker import TRLMRanker
from trlm_retrieval.errors import DataError, ModelError
from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.retrieval.evaluation import SYSTEMS, evaluate_retrieval
from trlm_retrieval.eval.runs import read_run, write_run
from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index import index as index_module
from trlm_retrieval.passage_index.documents import passage_text


@pytest.fixture
def evaluation(beir, tiny_lm, tmp_path):
    return evaluate_retrieval(
        load_dataset(str(beir)), tiny_lm, "tiny", top_k=4, cache_folder=tmp_path / "cache"
    )


def test_every_system_is_measured_and_tested(evaluation):
    result = evaluation.result
    assert set(result.systems) == {*SYSTEMS, "forward_sum"} - {"cross-encoder"}
    for found in result.systems.values():
        assert set(found) == {"nDCG@10", "RR@10", "AP", "R@4", "P@5"}
    assert "reverse vs forward" in result.tests and "default vs fusion" in result.tests
    assert result.settings["pairs_scored"] == {"reverse": 12, "forward": 12}


def test_reverse_and_forward_are_what_the_model_says(evaluation, tiny_lm):
    dataset = evaluation.dataset
    texts = {
        d.id: "\n".join(filter(None, [d.meta.get("title"), d.content])) for d in dataset.documents
    }
    for query, found in evaluation.runs["reverse"].items():
        for document, score in found.items():
            pair = [(dataset.queries[query], texts[document])]
            assert score == pytest.approx(tiny_lm.score(pair)[0].sum, abs=1e-3)
            forward = tiny_lm.score(pair, "forward")[0]
            assert evaluation.runs["forward"][query][document] == pytest.approx(
                forward.mean, abs=1e-3
            )
            assert evaluation.runs["forward_sum"][query][document] == pytest.approx(
                forward.sum, abs=1e-3
            )


def test_what_is_not_reranked_stays_below_in_its_order(beir, tiny_lm, tmp_path):
    found = evaluate_retrieval(
        load_dataset(str(beir)), tiny_lm, "tiny", top_k=4, rerank=2, cache_folder=tmp_path
    )
    assert found.result.settings["pairs_scored"] == {"reverse": 6, "forward": 6}
    for query, fusion in found.runs["fusion"].items():
        ordered = sorted(fusion, key=fusion.get, reverse=True)
        for name in ("reverse", "default", "forward", "forward_sum"):
            run = found.runs[name][query]
            ranked = sorted(run, key=run.get, reverse=True)
            assert set(ranked[:2]) == set(ordered[:2]) and ranked[2:] == ordered[2:]


def test_default_is_what_the_ranker_ships(evaluation, tiny_lm):
    for query, text in evaluation.dataset.queries.items():
        fusion = evaluation.runs["fusion"][query]
        documents = [
            replace(d, score=fusion[d.id]) for d in evaluation.dataset.documents if d.id in fusion
        ]
        ranked = TRLMRanker(tiny_lm).run(text, documents)["documents"]
        assert {d.id: d.score for d in ranked} == pytest.approx(
            evaluation.runs["default"][query], abs=1e-3
        )
        reverse = evaluation.runs["reverse"][query]
        assert list(evaluation.runs["default"][query].values()) == pytest.approx(
            combine(list(fusion.values()), [reverse[d] for d in fusion]).tolist()
        )


@pytest.fixture
def cross_encoder(beir, make_cross_encoder):
    dataset = load_dataset(str(beir))
    return make_cross_encoder([*dataset.queries.values(), *map(passage_text, dataset.documents)])


def test_a_cross_encoder_is_a_peer(beir, cross_encoder, tmp_path):
    dataset = load_dataset(str(beir))

    def evaluated():
        return evaluate_retrieval(
            dataset,
            None,
            "none",
            ["cross-encoder"],
            cross_encoder=cross_encoder,
            top_k=4,
            first_stage_weight=0.3,
            cache_folder=tmp_path / "cache",
        )

    found = evaluated()
    assert list(found.runs) == ["fusion", "cross-encoder", "cross-encoder mixed"]
    texts = {d.id: passage_text(d) for d in dataset.documents}
    for query, run in found.runs["cross-encoder"].items():
        pairs = [(dataset.queries[query], texts[document]) for document in run]
        assert list(run.values()) == pytest.approx(cross_encoder.scores(pairs).tolist(), abs=1e-5)
        fusion = [found.runs["fusion"][query][document] for document in run]
        mixed = combine(fusion, list(run.values()), 0.3)
        assert list(found.runs["cross-encoder mixed"][query].values()) == pytest.approx(
            mixed.tolist(), abs=1e-5
        )
    assert found.result.settings["pairs_scored"] == {"cross-encoder": 12}
    assert "cross-encoder vs fusion" in found.result.tests
    again = evaluated()
    assert again.result.settings["pairs_scored"] == {"cross-encoder": 0}
    assert again.runs == found.runs
    with pytest.raises(DataError, match="needs a cross-encoder"):
        evaluate_retrieval(dataset, None, "none", ["cross-encoder"], cache_folder=tmp_path)


def test_the_default_is_tested_against_the_cross_encoder(beir, tiny_lm, cross_encoder, tmp_path):
    tests = evaluate_retrieval(
        load_dataset(str(beir)),
        tiny_lm,
        "tiny",
        ["default", "cross-encoder"],
        cross_encoder=cross_encoder,
        cache_folder=tmp_path,
    ).result.tests
    assert {"default vs cross-encoder", "default vs cross-encoder mixed"} <= set(tests)


def test_the_embedder_can_be_chosen(beir, tmp_path, monkeypatch, word_embedder):
    asked = []
    monkeypatch.setattr(
        index_module, "shared_embedder", lambda name: asked.append(name) or word_embedder
    )
    found = evaluate_retrieval(
        load_dataset(str(beir)), None, "none", ["dense"], embedder="other", cache_folder=tmp_path
    )
    assert asked == ["other"] and found.result.settings["first_stage"] == "other"


@pytest.mark.parametrize("recommended", [False, True])
@pytest.mark.parametrize(("weight", "same"), [(0.0, "reverse"), (1.0, "fusion")])
def test_the_weight_of_the_first_stage_can_be_set(
    beir, make_tiny_lm, tmp_path, weight, same, recommended
):
    lm = make_tiny_lm("both")
    if recommended:
        lm.first_stage_weight = weight
    found = evaluate_retrieval(
        load_dataset(str(beir)),
        lm,
        "tiny",
        systems=["default"],
        cache_folder=tmp_path,
        first_stage_weight=None if recommended else weight,
    )
    assert found.result.settings["first_stage_weight"] == weight
    for query, run in found.runs["default"].items():
        expected = {d: s.sum for d, s in found.likelihoods["reverse"][query].items()}
        if same == "fusion":
            expected = found.runs["fusion"][query]
        assert sorted(run, key=run.get) == sorted(expected, key=expected.get)


def test_recall_is_named_by_the_depth_of_the_runs(beir, tmp_path):
    """Nothing below the first ``top_k`` is in a run, so its recall at 100 would be another one."""
    dataset = load_dataset(str(beir))
    given = {"q1": {"d4": 2.0, "d1": 1.0}, "q2": {"d2": 1.0}, "q3": {"d1": 1.0}}

    def measured(**settings):
        found = evaluate_retrieval(
            dataset, None, "none", ["fusion"], cache_folder=tmp_path, **settings
        )
        return found.result.systems["fusion"]

    assert "R@100" in measured() and "R@100" in measured(top_k=150)
    assert "R@20" in measured(top_k=20) and "R@100" not in measured(top_k=20)
    found = measured(first_stage_run=given)
    assert found["R@2"].mean == pytest.approx(2 / 3) and "R@100" not in found
    assert measured(top_k=1, first_stage_run=given)["R@1"].mean == pytest.approx(1 / 3)


def test_a_second_run_scores_nothing(evaluation, beir, tiny_lm, tmp_path):
    again = evaluate_retrieval(
        load_dataset(str(beir)), tiny_lm, "tiny", top_k=4, cache_folder=tmp_path / "cache"
    )
    assert again.result.settings["pairs_scored"] == {"reverse": 0, "forward": 0}
    assert again.runs == evaluation.runs


def test_another_model_or_cut_is_not_taken_from_the_cache(beir, make_tiny_lm, tmp_path):
    dataset = load_dataset(str(beir))
    arguments = {"top_k": 4, "systems": ["reverse"], "cache_folder": tmp_path / "cache"}
    for lm, cut in (
        (make_tiny_lm("both"), 512),
        (make_tiny_lm("both", seed=1), 512),
        (make_tiny_lm("both"), 5),
    ):
        found = evaluate_retrieval(dataset, lm, "tiny", max_passage_tokens=cut, **arguments)
        assert found.result.settings["pairs_scored"] == {"reverse": 12}
    assert any("12 of 12 passages were cut" in note for note in found.result.warnings)


def test_reranks_a_given_run(beir, tiny_lm, tmp_path):
    given = {"q1": {"d1": 3.0, "d4": 2.0, "gone": 1.0}, "q2": {"d3": 1.0, "d2": 0.5}}
    evaluation = evaluate_retrieval(
        load_dataset(str(beir)), tiny_lm, "tiny", cache_folder=tmp_path, first_stage_run=given
    )
    assert set(evaluation.runs) == {"fusion", "forward", "forward_sum", "reverse", "default"}
    assert evaluation.runs["fusion"] == {"q1": {"d1": 3.0, "d4": 2.0}, "q2": given["q2"]}
    told = "\n".join(evaluation.result.warnings)
    assert "1 documents of the run are not in the corpus" in told
    assert "the run lacks 1 of 3 queries" in told and told.count("found nothing") == 1
    assert "fusion, forward_sum, forward, reverse, default: 1 queries found nothing" in told
    assert evaluation.result.per_query["reverse"]["nDCG@10"]["q3"] == 0.0
    with pytest.raises(DataError, match="no query of this collection"):
        evaluate_retrieval(
            load_dataset(str(beir)),
            tiny_lm,
            "tiny",
            cache_folder=tmp_path,
            first_stage_run={"other": {"d1": 1.0}},
        )


def test_unknown_systems_and_a_missing_model(beir, tmp_path):
    dataset = load_dataset(str(beir))
    with pytest.raises(DataError, match="unknown system 'colbert'"):
        evaluate_retrieval(dataset, None, "none", ["colbert"], cache_folder=tmp_path)
    with pytest.raises(DataError, match="needs a model"):
        evaluate_retrieval(dataset, None, "none", ["reverse"], cache_folder=tmp_path)
    with pytest.raises(DataError, match="no system is asked for"):
        evaluate_retrieval(dataset, None, "none", [], cache_folder=tmp_path)


def test_a_model_that_does_not_score_forwards(beir, make_tiny_lm, tmp_path, monkeypatch):
    dataset, lm = load_dataset(str(beir)), make_tiny_lm("reverse")
    result = evaluate_retrieval(dataset, lm, "tiny", cache_folder=tmp_path).result
    assert set(result.systems) == set(SYSTEMS) - {"forward", "cross-encoder"}
    assert result.warnings[0].startswith("forward are left out: this model does not score forwards")
    monkeypatch.setattr("trlm_retrieval.eval.retrieval.evaluation.search", pytest.fail)
    with pytest.raises(ModelError):  # before anything is indexed
        evaluate_retrieval(dataset, lm, "tiny", ["forward"], cache_folder=tmp_path)


@pytest.mark.parametrize(
    ("system", "searched", "embeds"),
    [
        ("bm25", {"bm25"}, False),
        ("dense", {"dense"}, True),
        ("fusion", {"bm25", "dense"}, True),
        ("reverse", {"bm25", "dense"}, True),
    ],
)
def test_only_the_first_stages_that_are_needed_are_searched(
    system, searched, embeds, beir, tiny_lm, word_embedder, tmp_path, monkeypatch
):
    seen, embedded = set(), []
    for name in ("bm25", "dense"):
        search = getattr(PassageIndex, f"search_{name}")

        def noted(*arguments, _name=name, _search=search, **settings):
            seen.add(_name)
            return _search(*arguments, **settings)

        monkeypatch.setattr(PassageIndex, f"search_{name}", noted)
    embed = type(word_embedder).embed
    monkeypatch.setattr(
        type(word_embedder), "embed", lambda *a, **k: (embedded.append(1), embed(*a, **k))[1]
    )
    found = evaluate_retrieval(
        load_dataset(str(beir)), tiny_lm, "tiny", [system], cache_folder=tmp_path
    )
    assert set(found.runs) == {system} | ({"fusion"} if system == "reverse" else set())
    assert seen == searched and bool(embedded) == embeds
    assert found.result.queries == 3


def test_the_command_needs_no_model_for_bm25(beir, tmp_path, capsys):
    arguments = ["eval", "retrieval", "--data", beir, "--model", "no-such", "--systems", "bm25"]
    arguments += ["--cache-dir", tmp_path / "cache", "--report", tmp_path / "r.html"]
    assert run_cli([str(a) for a in arguments]) == 0, capsys.readouterr().err
    html = (tmp_path / "r.html").read_text()
    assert "the first 100 candidates of BM25. Means" in html and "no-such" not in html


def test_the_command_writes_json_runs_and_report(beir, tiny_lm_folder, tmp_path, capsys):
    out, runs, page = tmp_path / "out.json", tmp_path / "runs", tmp_path / "report.html"
    arguments = ["eval", "retrieval", "--data", beir, "--model", tiny_lm_folder, "--json", out]
    arguments += ["--run-dir", runs, "--report", page, "--cache-dir", tmp_path / "cache"]
    code = run_cli([str(argument) for argument in arguments])
    assert code == 0, capsys.readouterr().err
    found = json.loads(out.read_text())
    assert {"data", "queries", "model", "systems", "tests", "seconds"} <= set(found)
    assert found["queries"] == 3
    qrels = load_dataset(str(beir)).qrels
    for name, measures in found["systems"].items():
        by_hand = ir_measures.calc_aggregate(
            [ir_measures.nDCG @ 10, ir_measures.AP], qrels, read_run(runs / f"{name}.trec")
        )
        for measure, value in by_hand.items():
            assert measures[str(measure)]["mean"] == pytest.approx(value)
            estimate = measures[str(measure)]
            assert estimate["low"] <= estimate["mean"] <= estimate["high"]
    html = page.read_text()
    for part in ("<svg", "One by one", "Cost", "reverse vs forward", "Queries that lose most"):
        assert part in html
    changed = {query for query, gain in load_gains(found, "default").items() if gain != 0}
    texts = load_dataset(str(beir)).queries
    assert changed and all(texts[query] in html for query in changed)
    best = max(found["systems"], key=lambda name: found["systems"][name]["nDCG@10"]["mean"])
    assert f"Highest nDCG@10: {best}, " in html
    side = "above" if found["tests"]["reverse vs forward"]["difference"] >= 0 else "below"
    size = abs(found["tests"]["reverse vs forward"]["difference"])
    assert f"reverse is {size:.3f} {side} forward, which may be chance (p = " in html
    assert "http://" not in html and "https://" not in html and "<script" not in html


def load_gains(found, system):
    ours, fusion = (found["per_query"][name]["nDCG@10"] for name in (system, "fusion"))
    return {query: ours[query] - fusion[query] for query in ours}


def test_the_report_escapes_what_came_from_outside(beir, tiny_lm, tmp_path):
    from trlm_retrieval.eval.retrieval.report import write_retrieval_report

    lines = (beir / "corpus.jsonl").read_text().replace("enter and exit", "<img src=x> exit")
    (beir / "corpus.jsonl").write_text(lines)
    run = {"q1": {"d4": 2.0, "d1": 1.0}, "q2": {"d1": 2.0, "d2": 1.0}, "q3": {"d1": 2, "d3": 1}}
    write_run(tmp_path / "r.trec", run, "t")
    evaluation = evaluate_retrieval(
        load_dataset(str(beir)),
        tiny_lm,
        "<b>tiny</b>",
        cache_folder=tmp_path,
        first_stage_run=read_run(tmp_path / "r.trec"),
    )
    write_retrieval_report(tmp_path / "r.html", evaluation)
    html = (tmp_path / "r.html").read_text()
    assert "<img" not in html and "&lt;img src=x&gt;" in html and "<b>tiny" not in html


STALLING = """
import sys, time
from contextlib import contextmanager
from trlm_retrieval.cli import run
from trlm_retrieval.eval import score_cache
from trlm_retrieval.eval.retrieval import evaluation

score_cache._PAIRS_A_COMMIT = 5

@contextmanager
def bar(description, *_, **__):
    done = 0
    def advance(steps):
        nonlocal done
        done += steps
        if description == "Scoring reverse" and done >= 8:
            print("working", flush=True)
            time.sleep(600)
    yield advance

evaluation.progress_bar = bar
run(sys.argv[1:])
"""


def test_a_killed_evaluation_goes_on_where_it_was(beir, tiny_lm_folder, tmp_path, capsys):
    run = {query: {f"d{i}": 5.0 - i for i in range(1, 5)} for query in ("q1", "q2", "q3")}
    write_run(tmp_path / "given.trec", run, "given")
    out = tmp_path / "out.json"

    def arguments(cache):
        options = ["--data", beir, "--model", tiny_lm_folder, "--dtype", "float32", "--json", out]
        options += ["--first-stage-run", tmp_path / "given.trec", "--cache-dir", tmp_path / cache]
        return ["eval", "retrieval", *map(str, options)]

    def evaluated(cache):
        assert run_cli(arguments(cache)) == 0, capsys.readouterr().err
        return json.loads(out.read_text())

    command = [sys.executable, "-c", STALLING, *arguments("killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "working\n"
        os.kill(process.pid, signal.SIGKILL)
    assert not out.exists()
    resumed, fresh = evaluated("killed"), evaluated("fresh")
    assert resumed["settings"]["pairs_scored"] == {"reverse": 7, "forward": 12}
    assert fresh["settings"]["pairs_scored"] == {"reverse": 12, "forward": 12}
    assert resumed["per_query"] == fresh["per_query"]
