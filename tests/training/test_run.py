"""What a finished run leaves beside its model."""

import json

import pytest

from trlm_retrieval.training.run import HISTORY, Run
from trlm_retrieval.weights import packaged_folder


@pytest.mark.parametrize("base", ["a model that ships", "a folder", None])
def test_how_a_model_was_made_begins_with_its_base(tmp_path, base):
    earlier = [{"task": "pre-training"}]
    if base == "a folder":
        base = str(tmp_path / "first" / "model")
        (tmp_path / "first" / "model").mkdir(parents=True)
        (tmp_path / "first" / "model" / HISTORY).write_text(json.dumps(earlier))
    elif base is not None:
        base = "trlm-small"
        earlier = json.loads((packaged_folder(base) / HISTORY).read_text())
    else:
        earlier = []
    settings = {"task": "fine-tuning", "base": base, "data": [], "precision": "float32"}
    run = Run(tmp_path / "second", settings)
    run.begin()
    run.log({"step": 1, "tokens": 8, "seconds": 60.0, "loss": 2.0, "held_out": 3.0})
    run.finish(lambda folder: folder.mkdir(), "CPU")
    *before, last = json.loads((run.model_folder / HISTORY).read_text())
    assert before == earlier and last["held_out"] == 3.0
