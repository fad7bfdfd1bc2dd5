"""The peers of a benchmark that need nothing beside this package."""

import pytest

from trlm_retrieval.eval.bench.peers import ready_peers
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.source import DEFAULT_CROSS_ENCODER

PAIRS = [("who wrote it?", f"Passage {n} says that {'Ada ' * n}wrote it.") for n in range(5)]


def test_the_packaged_model_runs_beside_others(tiny_lm, monkeypatch, tmp_path):
    monkeypatch.setenv("TRLM_CACHE", str(tmp_path))
    ready, missing = ready_peers(tiny_lm, PAIRS, quick=True)
    lm = TimeReversedLM.from_pretrained("trlm-small", states_megabytes=0)
    expected = [found.sum for found in lm.score(PAIRS)]
    assert ready["trlm-small"](PAIRS) == pytest.approx(expected, abs=1e-3)
    assert ready["trlm-small, states"](PAIRS) == pytest.approx(expected, abs=0.01)
    rough = ready["trlm-small, int8 states"](PAIRS)
    assert rough == pytest.approx(expected, abs=1.0) and rough != expected
    # What is not pulled is told with the remedy.
    assert "trlm models pull" in missing[f"cross-encoder {DEFAULT_CROSS_ENCODER}"]
    assert "minicons" not in {*ready, *missing}
