"""A writer that is killed, or finds the disk full, leaves what was there."""

import signal
import subprocess
import sys

import pytest
from haystack import Document

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.errors import StatesError
from trlm_retrieval.lm.state_folder import StateFolder
from trlm_retrieval.lm.state_writing import plan_states, write_states
from trlm_retrieval.passage_index import PassageIndex

PASSAGES = [f"Passage {i} tells of keys and values." for i in range(40)]

WRITE_STATES = """
import sys, time
from trlm_retrieval import TimeReversedLM
from trlm_retrieval.lm.state_writing import plan_states, write_states

def stop(done):
    print("writing", flush=True)
    time.sleep(600)

lm = TimeReversedLM.from_pretrained(sys.argv[1], dtype="float32")
plan = plan_states(lm, sys.argv[3:], "ba", 30)
write_states(__import__("pathlib").Path(sys.argv[2]), lm, plan, stop)
"""

FULL_DISK = """
import resource, sys
from haystack import Document
from trlm_retrieval.passage_index import PassageIndex

documents = [Document(id=str(i), content=f"word{i} " * 50) for i in range(2000)]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # no file may become larger
try:
    PassageIndex.build(sys.argv[1], documents, embedder=None)
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.parametrize("before", ["states", "nothing"])
def test_states_whose_writer_was_killed(tiny_lm_folder, tmp_path, before):
    folder = tmp_path / "states"
    lm = TimeReversedLM.from_pretrained(tiny_lm_folder, dtype="float32")
    if before == "states":
        write_states(folder, lm, plan_states(lm, PASSAGES[:3], "ba", 30))
    files = {path.name: path.read_bytes() for path in folder.glob("*")}
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_STATES, str(tiny_lm_folder), str(folder), *PASSAGES],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    [unfinished] = tmp_path.glob(".states-*")
    with pytest.raises(StatesError, match="another process is writing the states at"):
        write_states(folder, lm, plan_states(lm, PASSAGES, "ba", 30))
    assert (unfinished / "states.bin").is_file()  # a writer that lives keeps its folder
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    if before == "states":
        assert {path.name: path.read_bytes() for path in folder.glob("*")} == files
        assert len(StateFolder(folder, lm, "ba", 30)) == 3
    else:
        with pytest.raises(StatesError, match="there are no states"):
            StateFolder(folder, lm, "ba", 30)
    assert unfinished.is_dir()
    write_states(folder, lm, plan_states(lm, PASSAGES, "ba", 30))
    assert len(StateFolder(folder, lm, "ba", 30)) == len(PASSAGES)
    assert not list(tmp_path.glob(".states-*"))


def test_an_index_on_a_full_disk(tmp_path):
    folder = tmp_path / "index"
    earlier = [Document(id="a", content="what was there")]
    PassageIndex.build(folder, earlier, embedder=None)
    found = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(folder)], capture_output=True, text=True, check=True
    )
    assert found.stdout == "File too large\n"
    assert list(PassageIndex.open(folder).documents()) == earlier
    assert len(list(folder.glob("data-*"))) == 1
