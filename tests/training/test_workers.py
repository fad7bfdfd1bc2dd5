"""Several processes train what one trains."""

import subprocess
import sys

import pytest
from safetensors.torch import load_file


@pytest.mark.slow
def test_two_processes_train_as_one(pretrain_tiny, shards, tmp_path):
    alone = pretrain_tiny(tmp_path / "one", steps=3)
    arguments = "--preset tiny --steps 3 --learning-rate 5e-3 --context 32 --batch-tokens 512"
    arguments += " --device-tokens 128 --precision float32 --device cpu --order reverse"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    command += ["trlm_retrieval.cli", "train", "pretrain", *arguments.split()]
    command += ["--shards", str(shards), "--out", str(tmp_path / "two")]
    subprocess.run(command, check=True, timeout=300)
    one = load_file(alone.model_folder / "model.safetensors")
    two = load_file(tmp_path / "two" / "model" / "model.safetensors")
    assert all(one[name].allclose(two[name], atol=1e-3) for name in one)
    assert len(list((tmp_path / "two").glob("log.jsonl"))) == 1
