"""The same by actors on this machine, with some of them killed."""

import os
import signal
import threading
import time
from functools import partial

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.errors import DataError, ModelError
from trlm_retrieval.offline import Job, run
from trlm_retrieval.offline.run import Here

pytestmark = pytest.mark.slow


@pytest.fixture
def many(pairs, tmp_path):
    """1,000 pairs, which take seconds."""
    path = tmp_path / "many.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(pairs / "a.parquet")] * 40), path)
    return path


@pytest.fixture
def job(tmp_path, tiny_lm_folder):
    def make(name, **settings):
        return Job(output=tmp_path / name, model=str(tiny_lm_folder), dtype="float32", **settings)

    return make


@pytest.fixture(scope="module")
def cluster():
    """A cluster that is there already, and that runs leave running."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    assert ray.is_initialized()
    ray.shutdown()


def actors():
    """The processes of actors that have begun."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if command and command[0].startswith("ray::_Actor.do"):
            found.append(process)
    return found


def kill_when(ready, victims, killed):
    """Kill actors once the output is ready for it, from a thread."""

    def watch():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and len(killed) < victims:
            if ready():
                for process in actors()[: victims - len(killed)]:
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
            time.sleep(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("victims", [1, 2])
def test_killed_actors_change_nothing(many, job, read_parts, victims, request):
    from trlm_retrieval.offline.ray_actors import RayActors

    if victims == 2:
        request.getfixturevalue("cluster")  # else the run starts one of its own

    alone = run(many, job("alone", prior=True), 50, Here)
    made, killed = job("killed", prior=True), []
    watching = kill_when(lambda: len(list(made.output.glob("part-*"))) >= 2, victims, killed)
    summary = run(many, made, 50, partial(RayActors, actors=2))
    watching.join()
    assert len(killed) == victims
    assert summary.rows_done == alone.rows_done == 1000
    assert sorted(done.shard for done in summary.done) == list(range(20))
    expected, found = read_parts(job("alone").output), read_parts(made.output)
    assert [row["row"] for row in found] == list(range(1000))
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, abs=1e-4)
    assert run(many, made, 50, Here).done == ()  # and a run without Ray finds nothing to do


def test_a_run_whose_driver_stopped_goes_on(cluster, many, job, read_parts):
    from trlm_retrieval.offline.ray_actors import RayActors

    class Stopping(RayActors):
        def do(self, shards, fingerprint, progress):
            for number, done in enumerate(super().do(shards, fingerprint, progress)):
                if number == 3:
                    raise KeyboardInterrupt
                yield done

    made = job("stopped")
    with pytest.raises(KeyboardInterrupt):
        run(many, made, 50, partial(Stopping, actors=2))
    there = set(made.output.glob("part-*"))
    assert 4 <= len(there) < 20
    summary = run(many, made, 50, partial(RayActors, actors=2))
    assert len(summary.done) == 20 - len(there)
    assert len(read_parts(made.output)) == 1000


def test_errors_are_those_of_this_process(cluster, many, job, tmp_path, capsys):
    from trlm_retrieval.offline.ray_actors import RayActors

    with pytest.raises(ValueError, match="99 actors with 1 CPUs and 0 GPUs each do not fit"):
        run(many, job("a"), 50, partial(RayActors, actors=99))
    arguments = ["--input", str(many), "--output", str(tmp_path / "b"), "--ray"]
    assert run_cli(["score", *arguments, "--model", "nosuch"]) == 2
    assert "unknown model 'nosuch'" in capsys.readouterr().err
    lines = tmp_path / "lines.jsonl"
    lines.write_text('{"query": "a", "passage": "b"}\n' * 3 + "{\n")
    with pytest.raises(DataError, match="row 3: not valid JSON"):
        run(lines, job("c"), 2, partial(RayActors, actors=1))


def test_rows_that_kill_every_worker_are_named(cluster, many, job, monkeypatch):
    from trlm_retrieval.offline import ray_actors

    class Deadly(ray_actors._Actor):
        def do(self, shard, fingerprint):
            if shard.number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().do(shard, fingerprint)

    monkeypatch.setattr(ray_actors, "_Actor", Deadly)
    monkeypatch.setattr(ray_actors, "ATTEMPTS", 2)
    made = job("deadly")
    with pytest.raises(ModelError, match=r"at rows 50 to 99 \(.*many.parquet\)"):
        run(many, made, 50, partial(ray_actors.RayActors, actors=1))
    assert (made.output / "part-00000.parquet").is_file()
