"""A hub is asked once, briefly, and its copy here is taken where it does not answer."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.models import hub
from trlm_retrieval.models.cross_encoder import CrossEncoder
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.models.hub import Hub
from trlm_retrieval.models.store import resolve


class _Hub(http.server.BaseHTTPRequestHandler):
    """Has `owner/there`, also in version `v2`, and `owner/gated` for who comes with the key."""

    def do_HEAD(self) -> None:
        key = self.headers.get("Authorization")
        open_to = {
            "/owner/there/resolve/main": True,
            "/owner/there/resolve/v2": True,
            "/owner/gated/resolve/main": key == "Bearer the-key",
        }
        found = open_to.get(self.path.removesuffix("/config.json"), False)
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


@pytest.mark.usefixtures("server")
def test_a_token_and_a_revision_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "another-key")
    assert resolve("owner/gated", Hub(token="the-key")) == "owner/gated"
    with pytest.raises(ModelError, match="give a token"):
        resolve("owner/gated", Hub(token="wrong"))
    assert resolve("owner/there", Hub(revision="v2")) == "owner/there"
    with pytest.raises(ModelError, match="'owner/there' at revision 'v3'"):
        resolve("owner/there", Hub(revision="v3"))


def test_loaders_are_told_of_token_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, dict[str, object]]] = []

    def load(location: str, **given: object) -> None:
        told.append((location, given))
        raise OSError("no hub here")

    monkeypatch.setattr("trlm_retrieval.models.store.locate", lambda name, hub: name)
    for loader in (
        "trlm_retrieval.models.loading.AutoTokenizer",
        "transformers.AutoModelForSequenceClassification",
        "sentence_transformers.SentenceTransformer",
    ):
        place = loader if "sentence" in loader else f"{loader}.from_pretrained"
        monkeypatch.setattr(place, load)
    monkeypatch.setattr("trlm_retrieval.models.embedder.kind_of", lambda source, hub: None)
    with pytest.raises(ModelError):
        TimeReversedLM.from_pretrained("owner/lm", token="key", revision="v2")
    with pytest.raises(ModelError):
        CrossEncoder.from_pretrained("owner/pairs", token="key", revision="v2")
    with pytest.raises(ModelError):
        SentenceEmbedder("owner/vectors", token="key", revision="v2").embed(["text"])
    assert [name for name, _ in told] == ["owner/lm", "owner/pairs", "owner/vectors"]
    for _, given in told:
        assert (given["token"], given["revision"]) == ("key", "v2")


def test_what_is_here_has_no_revisions(tiny_lm_folder: Path) -> None:
    with pytest.raises(ModelError, match="has no revisions: leave revision out"):
        TimeReversedLM.from_pretrained(tiny_lm_folder, revision="v2")
    lm = TimeReversedLM.from_pretrained(tiny_lm_folder, token="not needed")
    assert lm.score([("q", "p")])


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
