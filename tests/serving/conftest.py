"""Servers over a tiny index and a tiny model, in this process and in one of their own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from haystack import Document
from haystack.dataclasses import ChatMessage

from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index import index as index_module
from trlm_retrieval.serving.app import create_app
from trlm_retrieval.serving.settings import ServingSettings

DOCUMENTS = [
    Document(id="with", content="The with statement calls enter and exit.", meta={"title": "with"}),
    Document(id="gen", content="A generator yields values one at a time.", meta={"title": "yield"}),
    Document(
        id="dict",
        content="A dictionary keeps order. <b>Bold</b> \ud800",
        meta={"title": "<i>d</i>", "lone": "\udfff"},
    ),
]

SERVE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import conftest
from trlm_retrieval.cli import _checks, run
from trlm_retrieval.passage_index import index
index.shared_embedder = lambda name: conftest.WordEmbedder()
_checks.embedder_source = lambda name: name
sys.exit(run(["serve", *sys.argv[1:]]))
"""


@pytest.fixture(scope="session")
def served_index(tmp_path_factory: pytest.TempPathFactory, word_embedder: Any) -> Path:
    """The folder of an index of three documents."""
    folder = tmp_path_factory.mktemp("served") / "index"
    PassageIndex.build(folder, DOCUMENTS, embedder=word_embedder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def _tiny(tiny_lm_folder: Path, word_embedder: Any) -> Iterator[None]:
    """The tiny model wherever a pulled one is named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "shared_embedder", lambda name: word_embedder)
        patch.setattr("trlm_retrieval.models.source.resolve", lambda name, hub: tiny_lm_folder)
        yield


@pytest.fixture
def make_client(served_index: Path) -> Callable[..., TestClient]:
    """Makes a client of an application with these settings."""

    def make(**settings: Any) -> TestClient:
        app = create_app(ServingSettings(served_index, **settings))
        return TestClient(app, raise_server_exceptions=False)

    return make


@pytest.fixture(scope="module")
def client(_tiny: None, served_index: Path) -> Iterator[TestClient]:
    """A client of an application with small limits."""
    app = create_app(ServingSettings(served_index, max_documents=5, max_body=20_000))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def say(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets the generator say this: the tiny model has no chat template."""

    def say(text: str) -> None:
        def reply(messages: Any, generation_kwargs: Any = None) -> dict[str, Any]:
            return {"replies": [ChatMessage.from_assistant(text)]}

        pipeline = client.app.state.engine.cited_rag  # type: ignore[attr-defined]
        monkeypatch.setattr(pipeline.get_component("generator"), "run", reply)
        monkeypatch.setattr(pipeline.get_component("generator"), "warm_up", lambda: None)
        pipeline.get_component("citations").score_threshold = -1e9

    return say


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """An application behind a real socket; gives its base URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="session")
def listen() -> Any:
    """Puts an application behind a real socket: ``with listen(app) as url``."""
    return listening


@pytest.fixture(scope="module")
def base_url(_tiny: None, served_index: Path) -> Iterator[str]:
    """A server behind a real socket."""
    with listening(create_app(ServingSettings(served_index))) as url:
        yield url


@dataclass
class Served:
    """``trlm serve`` in a process of its own."""

    process: "subprocess.Popen[str]"
    url: str
    log: Path

    def stop(self) -> int:
        """Ask it to end, and wait."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def serve(
    served_index: Path, tiny_lm_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Served]]:
    """Starts ``trlm serve`` with these options."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> Served:
        port = _free_port()
        log = tmp_path_factory.mktemp("log") / "stderr"
        command = [sys.executable, "-c", SERVE, "--index", str(served_index)]
        command += ["--model", str(tiny_lm_folder), "--port", str(port), *options]
        with log.open("w") as stderr:
            process = subprocess.Popen(
                command, stderr=stderr, text=True, env={**os.environ, "TQDM_DISABLE": "1"}
            )
        started.append(process)
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 300  # a busy machine takes long
        while time.monotonic() < deadline:
            assert process.poll() is None, log.read_text()
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    return Served(process, url, log)
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError(f"not up within 300 s: {log.read_text()}")

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
