import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from haystack import Document
from haystack.document_stores.types import DuplicatePolicy

from tests.passage_index.examples import ANIMALS, LetterEmbedder, ids
from trlm_retrieval.errors import PassageIndexError
from trlm_retrieval.passage_index import PassageIndex, files, shared_index

# --- changing


def test_add_and_delete(index: PassageIndex, embedder: LetterEmbedder) -> None:
    embedder.seen.clear()
    assert index.add([Document(id="bee", content="A bee, a cab.")]) == 1
    assert embedder.seen == ["A bee, a cab."]
    assert ids(list(index.documents())) == ["cat", "dog", "hen", "carp", "bee"]
    assert ids(index.search_bm25("bees")) == ["bee"]
    index.delete(["cat", "hen"])
    assert ids(list(index.documents())) == ["dog", "carp", "bee"]
    assert ids(index.search_bm25("cat")) == ["dog"]
    assert len(index.search_dense("cab", top_k=10)) == 3
    opened = PassageIndex.open(index.folder, embedder=embedder)
    fresh = PassageIndex.build(
        index.folder.with_name("fresh"), list(opened.documents()), embedder=embedder
    )
    for search in ("search_bm25", "search_dense"):
        expected = getattr(fresh, search)("cat cab bee")
        for changed in (index, opened):
            found = getattr(changed, search)("cat cab bee")
            assert ids(found) == ids(expected)
            scores = [document.score for document in expected]
            assert [document.score for document in found] == pytest.approx(scores, abs=1e-6)


def test_add_follows_the_policy(index: PassageIndex) -> None:
    new = [Document(id="cat", content="Tomcat."), Document(id="bee", content="A bee.")]
    with pytest.raises(ValueError, match="'cat' comes twice"):
        index.add(new)
    assert len(index) == 4
    assert index.add(new, DuplicatePolicy.SKIP) == 1
    assert index.get("cat").content == "The cat sleeps all day."
    assert index.add(new, DuplicatePolicy.OVERWRITE) == 2
    assert index.get("cat").content == "Tomcat."
    assert len(index) == 5
    assert ids(index.search_bm25("sleeps")) == []


def test_delete_refuses_what_it_cannot_do(index: PassageIndex) -> None:
    with pytest.raises(ValueError, match="no document in the index has the id 'cow'"):
        index.delete(["cat", "cow"])
    with pytest.raises(ValueError, match="delete every document"):
        index.delete([document.id for document in ANIMALS])
    with pytest.raises(ValueError, match="list of ids"):
        index.delete("cat")
    assert len(PassageIndex.open(index.folder)) == 4


def test_a_failed_build_leaves_the_earlier_index(
    index: PassageIndex, embedder: LetterEmbedder
) -> None:
    def broken() -> Iterator[Document]:
        yield Document(id="new", content="new")
        raise RuntimeError("source gone")

    with pytest.raises(RuntimeError, match="source gone"):
        PassageIndex.build(index.folder, broken(), embedder=embedder)
    assert list(PassageIndex.open(index.folder).documents()) == ANIMALS
    assert len(list(index.folder.glob("data-*"))) == 1


BUILD_AND_HANG = """
import sys, time
from haystack import Document
from trlm_retrieval.passage_index import PassageIndex

def hang():
    print("hanging", flush=True)
    time.sleep(600)

class Embedder:
    name, dimension = "slow", 8
    def embed(self, texts, show_progress=False):
        hang()

def documents():
    for i in range(100):
        if i == 50 and sys.argv[2] == "reading":
            hang()
        yield Document(id=str(i), content=f"killed passage {i}")

if sys.argv[2] == "committing":
    import os
    os.replace = lambda *paths: hang()
embedder = Embedder() if sys.argv[2] == "embedding" else None
PassageIndex.build(sys.argv[1], documents(), embedder=embedder)
"""


@pytest.mark.parametrize("stage", ["reading", "embedding", "committing"])
@pytest.mark.parametrize("before", ["an index", "nothing"])
def test_a_killed_build_leaves_the_earlier_index_or_none(
    tmp_path: Path, stage: str, before: str
) -> None:
    folder = tmp_path / "index"
    if before == "an index":
        PassageIndex.build(folder, ANIMALS, embedder=None)
    process = subprocess.Popen(
        [sys.executable, "-c", BUILD_AND_HANG, str(folder), stage],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    stale = len(list(folder.glob("data-*")))
    if before == "an index":
        assert stale == 2
        assert list(PassageIndex.open(folder).documents()) == ANIMALS
    else:
        assert stale == 1
        with pytest.raises(PassageIndexError, match="there is no index"):
            PassageIndex.open(folder)
    PassageIndex.build(folder, ANIMALS[:2], embedder=None)
    assert list(PassageIndex.open(folder).documents()) == ANIMALS[:2]
    assert len(list(folder.glob("data-*"))) == 1


def test_two_writers_do_not_mix(index: PassageIndex) -> None:
    with (
        files.write_lock(index.folder),
        pytest.raises(PassageIndexError, match="another process is writing"),
    ):
        index.delete(["cat"])
    index.delete(["cat"])


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(PassageIndexError, match="belong to no index"):
        PassageIndex.build(tmp_path, ANIMALS, embedder=None)
    assert os.listdir(tmp_path) == ["thesis.txt"]
    with pytest.raises(PassageIndexError, match="is a file"):
        PassageIndex.build(tmp_path / "thesis.txt", ANIMALS, embedder=None)


# --- sharing


def test_shared_index_opens_once_and_sees_changes(index: PassageIndex) -> None:
    first = shared_index(index.folder)
    assert shared_index(str(index.folder)) is first
    index.delete(["cat"])
    second = shared_index(index.folder)
    assert second is not first
    assert len(second) == 3
    assert len(first) == 4  # what was opened earlier stays as it was
    assert first.get("cat") == ANIMALS[0]


def test_reading_while_writing(index: PassageIndex) -> None:
    errors: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                assert ids(index.search_bm25("the cat", top_k=1)) == ["cat"]
                assert len(index.search_dense("cat", top_k=3)) == 3
                assert PassageIndex.open(index.folder).get("cat") == ANIMALS[0]
        except BaseException as error:  # noqa: BLE001 - shown by the main thread
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(10):
        index.add([Document(id=f"new-{i}", content=f"new {i}")])
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(index) == 14
