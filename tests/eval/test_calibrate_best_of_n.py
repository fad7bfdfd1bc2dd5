"""Weights are fitted on one half of the prompts and told on both."""

import numpy as np
import pytest

from trlm_retrieval.eval.best_of_n import Prompt, Scorer, measure
from trlm_retrieval.eval.calibrate_best_of_n import best, worths
from trlm_retrieval.eval.score_cache import ScoreCache


def test_a_weight_of_length_is_found_where_longer_is_better(make_tiny_lm, word_embedder, tmp_path):
    answers = tuple("word " * (n + 1) for n in range(4))
    prompts = [
        Prompt(str(n), f"question {n}", answers, np.array([0.1, 0.2, 0.3, 0.9])) for n in range(4)
    ]
    scorer = Scorer(
        make_tiny_lm("forward"), ScoreCache(tmp_path / "s.sqlite"), word_embedder, 512, False
    )
    found = worths(prompts, scorer)
    half = np.array([True, False, True, False])
    chosen = best(found, half)
    assert chosen[1] > 0
    picks = [lambda subsets, p=p: p.preferences[subsets.max(axis=1)] for p in prompts]
    longest = measure(prompts, picks, (2, 4))
    expected = np.mean([list(values.values()) for values in longest.values()], axis=0)
    assert found[chosen][half] == pytest.approx(expected[half])
    assert found[0.0, 0.0].mean() < found[chosen].mean()
