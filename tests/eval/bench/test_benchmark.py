"""The benchmark compares what it says it compares; its figures are printed, not tested."""

import json
from functools import partial

import pytest
import torch
from haystack import Document

from trlm_retrieval.eval.bench import benchmark
from trlm_retrieval.eval.bench.benchmark import Models, base_scores, compare_plain, compare_states
from trlm_retrieval.eval.bench.states import formats, measure
from trlm_retrieval.eval.dataset import RetrievalDataset
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.int8 import quantize_int8
from trlm_retrieval.lm.states import StateFormat

TEXTS = [f"Passage number {i} speaks of {'many ' * i}things." for i in range(12)]
QUERIES = ["what of things?", "number"]


@pytest.fixture
def models(make_tiny_lm):
    exact, other = make_tiny_lm("forward"), make_tiny_lm("forward")
    return Models(exact, TimeReversedLM(quantize_int8(other.model), other.tokenizer))


def quiet(_):
    pass


def test_the_base_is_the_same_likelihood(models):
    pairs = [(query, text) for text in TEXTS for query in QUERIES]
    expected = [found.sum for found in models.exact.score(pairs)]
    assert base_scores(models.exact, pairs) == pytest.approx(expected, abs=1e-3)


def test_a_run_fills_the_published_figures(models, tmp_path):
    found = benchmark.start(models)
    pairs = benchmark.sample_pairs(TEXTS, QUERIES, 8, 1)
    compare_plain(models, pairs, found, 2, quiet)
    compare_states(models, pairs, found, 2, quiet, on_disk=True)
    benchmark.compare_peers(
        models.exact,
        [p[0] for p in pairs],
        {"peer": partial(base_scores, models.exact)},
        found,
        1,
        quiet,
    )
    found.write_json(tmp_path / "bench.json")
    written = json.loads((tmp_path / "bench.json").read_text())
    systems = {"plain", "plain_int8", "states_cold", "states_warm", "states_warm_int8"}
    assert set(written["ratio_to_base"]) == systems | {"base", "states_disk", "peer"}
    assert written["ratio_to_base"]["base"] == 1.0
    assert 0 < written["max_abs_difference_nats"] < 1e-3
    assert written["gemm_share"] > 0
    # 2 layers, keys and values, 2 heads of 8 numbers, 4 bytes each
    assert written["state_bytes_per_token"] == {"float32": 2 * 2 * 2 * 8 * 4}


def test_a_wrong_fast_path_shows_in_the_difference(models, monkeypatch):
    found = benchmark.start(models)
    monkeypatch.setattr(benchmark, "_scores", lambda lm, pairs, states=None: [0.0] * len(pairs))
    compare_plain(models, benchmark.sample_pairs(TEXTS, QUERIES, 4, 2), found, 1, quiet)
    assert found.max_abs_difference_nats > 1.0


def test_linear_layers_are_counted(models):
    body = models.exact.model.base_model
    numbers = sum(m.weight.numel() for m in body.modules() if isinstance(m, torch.nn.Linear))
    assert benchmark._flops_a_token(models.exact) == 2 * numbers


@pytest.mark.parametrize("form", [StateFormat(), StateFormat("int8")])
def test_states_of_each_format_are_measured(models, form):
    documents = [Document(id=str(i), content=text) for i, text in enumerate(TEXTS)]
    dataset = RetrievalDataset(
        "tiny", documents, {"a": QUERIES[0], "b": QUERIES[1]}, {"a": {"3": 1}, "b": {"4": 1}}, []
    )
    candidates = {query: {document.id: 1.0 for document in documents} for query in dataset.queries}
    assert form in formats(models.exact)
    found = measure(models.exact, dataset, candidates, form, 64)
    exact = [
        models.exact.score([(dataset.queries[q], TEXTS[int(d)])])[0].log_probs
        for q, of in candidates.items()
        for d in of
    ]
    difference = max(abs(one - other).max() for one, other in zip(found.values, exact, strict=True))
    assert difference < 1e-3 if form == StateFormat() else difference > 1e-3
    assert found.bytes_per_token <= 2 * 2 * 2 * 8 * 4


def test_a_quick_run_takes_what_fits_its_time(models):
    pairs = benchmark.sample_pairs(TEXTS, QUERIES, 12, 1)
    assert benchmark.passages_that_fit(models, pairs, 2, 0.0) == 10
    assert benchmark.passages_that_fit(models, pairs, 2, 1e9) == 12
