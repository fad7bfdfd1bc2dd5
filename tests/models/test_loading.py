"""Loading: reading order, precision, fingerprints, and errors that say what to do."""

import json
import shutil
import time

import numpy as np
import pytest
import torch

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.components import TRLMRanker
from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import int8
from trlm_retrieval.lm.int8 import Int8Linear
from trlm_retrieval.models import loading
from trlm_retrieval.models.loading import choose_dtype

PAIRS = [("what does with call?", "The with statement calls exit."), ("order", "A dict keeps it.")]


@pytest.fixture
def folder(tiny_lm_folder, tmp_path):
    return shutil.copytree(tiny_lm_folder, tmp_path / "model")


def sums(lm, direction="fo"):
    return [likelihood.sum for likelihood in lm.score(PAIRS, direction)]


def test_a_saved_model_scores_the_same(tiny_lm, tiny_lm_folder):
    loaded = TimeReversedLM.from_pretrained(tiny_lm_folder, dtype="float32")
    assert loaded.order == "both" and loaded.fingerprint == tiny_lm.fingerprint
    for direction in ("ba", "fo"):
        np.testing.assert_allclose(sums(loaded, direction), sums(tiny_lm, direction), atol=1e-4)


def test_the_order_is_read_from_the_folder_and_can_be_overridden(folder):
    settings = json.loads((folder / "trlm_config.json").read_text())
    (folder / "trlm_config.json").write_text(json.dumps({**settings, "order": "reverse"}))
    assert TimeReversedLM.from_pretrained(folder).default_direction == "ba"
    assert TimeReversedLM.from_pretrained(folder, order="forward").default_direction == "fo"
    (folder / "trlm_config.json").unlink()
    assert TimeReversedLM.from_pretrained(folder).order == "forward"


def test_a_recommended_weight_is_kept(folder, tmp_path):
    assert TimeReversedLM.from_pretrained(folder).first_stage_weight is None
    settings = json.loads((folder / "trlm_config.json").read_text())
    (folder / "trlm_config.json").write_text(json.dumps({**settings, "first_stage_weight": 0.8}))
    lm = TimeReversedLM.from_pretrained(folder)
    lm.save(tmp_path / "again")
    assert TimeReversedLM.from_pretrained(tmp_path / "again").first_stage_weight == 0.8


def test_known_reverse_checkpoints_need_no_settings(folder, monkeypatch):
    (folder / "trlm_config.json").unlink()
    monkeypatch.setattr(loading, "REVERSE_HUB_IDS", frozenset({str(folder)}))
    assert TimeReversedLM.from_pretrained(folder).order == "reverse"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"order": "sideways"}', "forward, reverse or both"),
        ('{"orders": "reverse"}', "orders"),
        ('{"first_stage_weight": 1.5}', r"a number in 0\.\.1, not 1\.5"),
        ('{"first_stage_weight": null}', "a number in"),
        ('{"first_stage_weight": true}', "a number in"),
        ('{"start_tokens": {"forward": "<|nope|>"}}', "not in the tokenizer's vocabulary"),
    ],
)
def test_bad_settings(folder, text, message):
    (folder / "trlm_config.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        TimeReversedLM.from_pretrained(folder)


def test_folders_and_files_that_are_no_model(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        TimeReversedLM.from_pretrained(tmp_path / "empty")
    (tmp_path / "weights.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"neither a model folder nor a \.gguf file"):
        TimeReversedLM.from_pretrained(tmp_path / "weights.bin")
    (tmp_path / "broken.gguf").write_bytes(b"GGUF but not really")
    with pytest.raises(ModelError, match=r"broken\.gguf"):
        TimeReversedLM.from_pretrained(tmp_path / "broken.gguf")
    (folder / "model.safetensors").write_bytes(b"truncated")
    with pytest.raises(ModelError, match="complete"):
        TimeReversedLM.from_pretrained(folder)


def test_model_kwargs_reach_transformers(tiny_lm, tiny_lm_folder):
    def score(**model_kwargs):
        lm = TimeReversedLM.from_pretrained(
            tiny_lm_folder, dtype="float32", model_kwargs=model_kwargs
        )
        return lm.score([("what yields?", "A generator yields values.")])[0].sum

    expected = tiny_lm.score([("what yields?", "A generator yields values.")])[0].sum
    assert score(device_map="cpu") == pytest.approx(expected, abs=1e-3)
    assert abs(score(rms_norm_eps=0.5) - expected) > 1e-2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"torch_dtype": "float16"}, "must not hold 'torch_dtype': give dtype"),
        ({"trust_remote_code": True}, "code that a model brings along is never run"),
        ({"revision": "v2"}, "give revision itself"),
    ],
)
def test_model_kwargs_with_an_argument_of_their_own(tiny_lm_folder, given, message):
    with pytest.raises(ValueError, match=message):
        TimeReversedLM.from_pretrained(tiny_lm_folder, model_kwargs=given)
    with pytest.raises(ValueError, match=message):
        TRLMRanker("anything", model_kwargs=given)


def test_a_device_map_alone_places_the_model(tiny_lm_folder):
    for more in ({"device": "cpu"}, {"dtype": "int8"}):
        with pytest.raises(ValueError, match="leave device and int8 out"):
            TimeReversedLM.from_pretrained(tiny_lm_folder, model_kwargs={"device_map": 0}, **more)


def test_the_packaged_model_takes_no_model_kwargs():
    with pytest.raises(ModelError, match="leave model_kwargs out"):
        TimeReversedLM.from_pretrained("trlm-small", model_kwargs={"device_map": "cpu"})


def test_a_hub_that_cannot_be_reached(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="no copy of it here"):
        TimeReversedLM.from_pretrained("nobody/nothing")


def test_fingerprints_tell_models_apart(make_tiny_lm):
    first = make_tiny_lm("both")
    assert first.fingerprint == make_tiny_lm("both").fingerprint
    others = [make_tiny_lm("both", seed=1), make_tiny_lm("forward"), make_tiny_lm("both")]
    with torch.no_grad():
        others[2].model.model.layers[0].mlp.up_proj.weight.add_(0.01)
    others[2] = TimeReversedLM(others[2].model, others[2].tokenizer, order="both")
    lowered = TimeReversedLM(make_tiny_lm("both").model.bfloat16(), first.tokenizer, order="both")
    assert len({lm.fingerprint for lm in (first, lowered, *others)}) == 5


def test_the_default_dtype_suits_the_device(monkeypatch):
    for found, expected in (({"avx512_bf16": True}, torch.bfloat16), ({}, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert choose_dtype(None, torch.device("cpu")) is expected
    assert choose_dtype(None, torch.device("mps")) is torch.float16
    assert choose_dtype("float16", torch.device("cpu")) is torch.float16
    assert choose_dtype(torch.float32, torch.device("cpu")) is torch.float32
    for name in ("int4", "int64", "nonsense"):
        with pytest.raises(ValueError, match="dtype must be"):
            choose_dtype(name, torch.device("cpu"))
    with pytest.raises(ValueError, match="runs on a CPU"):
        choose_dtype("int8", torch.device("cuda"))


def test_int8_is_close_to_float32(tiny_lm, tiny_lm_folder):
    lm = TimeReversedLM.from_pretrained(tiny_lm_folder, dtype="int8")
    assert any(isinstance(module, Int8Linear) for module in lm.model.modules())
    assert lm.fingerprint != tiny_lm.fingerprint
    np.testing.assert_allclose(sums(lm), sums(tiny_lm), rtol=0.05)


def test_int8_linear_keeps_a_scale_for_each_token():
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 48)
    inputs = torch.randn(2, 5, 64)
    inputs[0, 0] *= 1000  # a token such as the first one of a sequence
    expected, found = linear(inputs), Int8Linear(linear)(inputs)
    error = (found - expected).abs().amax(-1) / expected.abs().amax(-1)
    assert found.shape == expected.shape and error.max() < 0.03


@pytest.mark.parametrize("as_it_is", [True, False])
def test_int8_linear_is_exact_on_every_processor(monkeypatch, as_it_is):
    """Sums of the largest products, which processors without int8 instructions would cut off."""
    if not as_it_is:
        monkeypatch.setattr(int8, "multiplies_int8", lambda: False)
    linear = torch.nn.Linear(64, 48, bias=False)
    with torch.no_grad():
        linear.weight.fill_(1.0)
        linear.weight[::2] = -1.0
    found = Int8Linear(linear)(torch.ones(33, 64))
    torch.testing.assert_close(found, linear(torch.ones(33, 64)))


@pytest.mark.parametrize(
    ("error", "seconds", "used"), [(0, 0.0, True), (1, 0.0, False), (0, 0.05, False)]
)
def test_int8_products_are_used_where_they_are_exact_and_fast(monkeypatch, error, seconds, used):
    """Some processors cut off sums, others multiply one number at a time."""
    exact = torch.full((256, 256), 256 * 127**2, dtype=torch.int32)

    def product(rows, columns):
        time.sleep(seconds)
        return exact + error if error else exact

    monkeypatch.setattr(torch, "_int_mm", product)
    assert int8.multiplies_int8.__wrapped__() is used


def test_int8_linear_spares_the_channels_beside_an_extreme_one():
    torch.manual_seed(0)
    linear = torch.nn.Linear(64, 48)
    inputs = torch.randn(20, 64)
    inputs[:, 7] *= 300
    expected = linear(inputs)
    largest = inputs.abs().amax(0)
    plain, shared = (
        (layer(inputs) - expected).norm().item()
        for layer in (Int8Linear(linear), Int8Linear(linear, largest))
    )
    assert shared < plain / 3
