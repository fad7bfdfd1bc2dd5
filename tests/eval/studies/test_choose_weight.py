"""The weights that a study compares give what the evaluation gives."""

import sys

import numpy as np
import pytest

from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.retrieval.evaluation import evaluate_retrieval
from trlm_retrieval.eval.studies import choose_weight


@pytest.mark.parametrize(
    ("weight", "system"), [(0.0, "reverse"), (0.45, "default"), (1.0, "fusion")]
)
def test_each_weight_gives_what_the_evaluation_gives(beir, tiny_lm, tmp_path, weight, system):
    found = evaluate_retrieval(
        load_dataset(str(beir)),
        tiny_lm,
        "tiny",
        ["fusion", "reverse", "default"],
        top_k=4,
        rerank=3,
        cache_folder=tmp_path / "cache",
    )
    values = found.result.per_query[system]["nDCG@10"]
    ordered = [values[query] for query in sorted(values)]
    one, other = choose_weight.halves(found, 3, weight)
    assert (one, other) == pytest.approx((np.mean(ordered[::2]), np.mean(ordered[1::2])))


def test_the_command_prints_a_row_for_each_weight(
    beir, tiny_lm_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["choose_weight", str(beir), "--model", str(tiny_lm_folder)])
    choose_weight.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if "/" in line]
    assert len(rows) == len(choose_weight.WEIGHTS) + 1  # and the title
