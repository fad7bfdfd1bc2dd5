"""Gains read as probabilities, and how a model's folder keeps that."""

import json

import numpy as np
import pytest

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models.calibration import Calibration, read_calibration
from trlm_retrieval.models.loading import save_calibration

GOOD = Calibration("template", alone=(-2.0, 1.5, 0.5), mixed=(-1.0, 1.0, 0.0))


def test_probabilities_follow_the_logistic_and_the_order():
    found = GOOD.probabilities([-1.0, 0.0, 3.0], 10, mixed=False)
    odds = -2 + 1.5 * np.array([-1.0, 0.0, 3.0]) + 0.5 * np.log(10)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-odds)))
    assert GOOD.probabilities([0.0], 10, mixed=True)[0] == pytest.approx(1 / (1 + np.exp(1)))


def test_survives_its_folder(tiny_lm_folder, tmp_path):
    lm = TimeReversedLM.from_pretrained(tiny_lm_folder)
    assert lm.calibration is None
    lm.save(tmp_path / "copy")
    file = save_calibration(
        tmp_path / "copy", lm.order, lm.start_tokens, lm.first_stage_weight, GOOD
    )
    loaded = TimeReversedLM.from_pretrained(tmp_path / "copy")
    assert loaded.calibration == GOOD and loaded.order == lm.order
    loaded.save(tmp_path / "again")
    assert TimeReversedLM.from_pretrained(tmp_path / "again").calibration == GOOD
    assert json.loads(file.read_text())["calibration"]["mixed"] == [-1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    "damage",
    [
        {"alone": [1.0, 2.0]},
        {"alone": [1.0, -2.0, 0.0]},
        {"mixed": [1.0, float("nan"), 0.0]},
        {"mixed": "none"},
    ],
)
def test_a_damaged_one_is_told_with_its_file(damage):
    with pytest.raises(ModelError, match=r"here\.json: 'calibration' is damaged; run `trlm eval"):
        read_calibration(GOOD.settings() | damage, "here.json")
    with pytest.raises(ModelError, match="damaged"):
        read_calibration(None, "here.json")


def test_a_hub_model_has_no_folder_to_save_to(monkeypatch):
    monkeypatch.setattr("trlm_retrieval.models.store.locate", lambda name, hub: name)
    with pytest.raises(ModelError, match="save the model into one"):
        save_calibration("owner/name", "forward", {}, None, GOOD)
