"""A hub is asked once, briefly, and its copy here is taken where it does not answer."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trlm_retrieval.errors import ModelError
from trlm_retrieval.models import hub
from trlm_retrieval.models.store import resolve


class _Hub(http.server.BaseHTTPRequestHandler):
    """Has `owner/there`, and `owner/gated` for who comes with the key."""

    def do_HEAD(self) -> None:
        key = self.headers.get("Authorization")
        open_to = {"/owner/there": True, "/owner/gated": key == "Bearer the-key"}
        found = open_to.get(self.path.removesuffix("/resolve/main/config.json"), False)
        self.send_response(200 if found else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    hub.locate.cache_clear()
    yield
    hub.locate.cache_clear()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub that answers."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{serving.server_port}")
        yield
        serving.shutdown()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The copy that the hub's library keeps of `owner/kept`."""
    folder = tmp_path / "hf" / "hub" / "models--owner--kept"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "config.json").write_text("{}")
    return folder / "snapshots" / "abc"


@pytest.mark.usefixtures("server")
def test_a_hub_that_answers(copy: Path) -> None:
    assert resolve("owner/there") == "owner/there"
    with pytest.raises(ModelError, match="no such model that is open to you"):
        resolve("owner/missing")
    assert resolve("owner/kept") == copy


@pytest.mark.usefixtures("server")
def test_a_gated_model_is_open_to_who_has_logged_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(ModelError, match="hf auth login"):
        resolve("owner/gated")
    (tmp_path / "token").write_text("the-key")
    assert resolve("owner/gated") == "owner/gated"


def test_a_hub_that_refuses_the_connection(monkeypatch: pytest.MonkeyPatch, copy: Path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="could not be had from a model hub"):
        resolve("owner/there")
    assert resolve("owner/kept") == copy


def test_a_hub_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SECONDS", 0.2)
    monkeypatch.setattr("httpx.head", lambda *_, **__: threading.Event().wait())
    with pytest.raises(ModelError, match="no answer within"):
        resolve("owner/there")


def test_offline_only_copies_are_taken(monkeypatch: pytest.MonkeyPatch, copy: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert resolve("owner/kept") == copy
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE"):
        resolve("owner/there")
