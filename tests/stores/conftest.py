"""A PostgreSQL with pgvector of the tests' own, and the demo's passages with embeddings."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from haystack import Document

from trlm_retrieval.index_data import demo_documents
from trlm_retrieval.models.store import models_folder
from trlm_retrieval.passage_index.documents import passage_text

PASSAGES = slice(60, 120)  # embedding is what takes time

_SCRIPT = Path(__file__).with_name("pgvector.sh")
_FOLDER = Path(__file__).parents[2] / ".pgvector"
_NO_POSTGRES = 3  # the script's exit code


@dataclass
class Postgres:
    """A server process on a port of 127.0.0.1, with its data in a temporary folder."""

    programs: Path
    folder: Path
    port: int
    user: dict[str, Any]
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """For clients."""
        return f"postgresql://trlm@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        command = [self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port)]
        command += ["-h", "127.0.0.1", "-k", self.folder]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **self.user)
        deadline = time.monotonic() + 60
        ready = [self.programs / "pg_isready", "-h", "127.0.0.1", "-p", str(self.port), "-q"]
        while subprocess.run(ready, check=False).returncode:
            told = (self.folder / "log").read_text()
            assert self.process.poll() is None and time.monotonic() < deadline, told
            time.sleep(0.1)

    def kill(self) -> None:
        """Stop it at once, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A running PostgreSQL that has pgvector; skips where one cannot be had, and says why."""
    made = subprocess.run(["bash", _SCRIPT, _FOLDER], capture_output=True, text=True, check=False)
    if made.returncode == _NO_POSTGRES:
        pytest.skip(made.stderr.strip())
    if made.returncode:
        pytest.skip(f"pgvector could not be had: {made.stderr.strip().splitlines()[-1]}")
    programs = max(_FOLDER.glob("usr/lib/postgresql/*/bin"))
    folder = Path(tempfile.mkdtemp(prefix="trlm-postgres-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Postgres(programs, folder, port, _as_other_than_root(folder))
    initdb = [programs / "initdb", "-D", folder / "data", "-U", "trlm", "-A", "trust", "-N"]
    subprocess.run(initdb, check=True, capture_output=True, **server.user)
    server.start()
    yield server
    server.kill()
    shutil.rmtree(folder)


def _as_other_than_root(folder: Path) -> dict[str, Any]:
    """How to start a process of PostgreSQL, which refuses to be root."""
    if os.geteuid() != 0:
        return {"cwd": folder}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"cwd": folder, "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def minilm() -> str:
    """The folder of the pulled embedder."""
    return str(models_folder() / "minilm")


@pytest.fixture(scope="session")
def passages(minilm: str) -> list[Document]:
    """Passages of the demo, embedded with title and text."""
    from trlm_retrieval.models.embedder import SentenceEmbedder

    documents = demo_documents()[PASSAGES]
    vectors = SentenceEmbedder(minilm).embed([passage_text(document) for document in documents])
    return [
        replace(document, embedding=vector.tolist())
        for document, vector in zip(documents, vectors, strict=True)
    ]
