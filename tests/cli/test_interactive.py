"""Search at a prompt, driven through a real pseudo-terminal, and through a server."""

import http.server
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_bert import embedder_folder

from trlm_retrieval.cli import _interactive
from trlm_retrieval.cli.search import as_filters
from trlm_retrieval.models.embedder import SentenceEmbedder
from trlm_retrieval.passage_index import PassageIndex

from .conftest import DOCUMENTS

PROGRAM = "import sys; from trlm_retrieval.cli import main; main()"


class Terminal:
    """A command at a pseudo-terminal, as a person has it."""

    def __init__(self, *arguments: object) -> None:
        leader, follower = pty.openpty()
        self._leader = leader
        self._unread = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *map(str, arguments)],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=os.environ | {"TERM": "dumb", "COLUMNS": "120"},
            preexec_fn=lambda: _become_its_terminal(follower),
        )
        os.close(follower)

    def until(self, text: str, timeout: float = 120) -> str:
        """What it prints, up to and with a text."""
        end = time.monotonic() + timeout
        while text.encode() not in self._unread:
            ready, _, _ = select.select([self._leader], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {text!r} in {self._unread!r}"
            self._unread += os.read(self._leader, 65536)
        seen, _, self._unread = self._unread.partition(text.encode())
        return seen.decode("utf-8") + text

    def type(self, text: str) -> None:
        os.write(self._leader, text.encode())

    def ask(self, line: str) -> str:
        """What a line is answered with, up to the next prompt."""
        self.type(line + "\n")
        self.until(line)
        return self.until(_interactive.PROMPT)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._leader)


def _become_its_terminal(follower: int) -> None:
    import fcntl
    import termios

    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a run in the background ignores Ctrl-C
    fcntl.ioctl(follower, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(tmp_path: Path, tiny_lm_folder: Path) -> Iterator[Terminal]:
    """`trlm search` over a tiny index with tiny models."""
    model = embedder_folder(tmp_path / "embedder", "mean")
    PassageIndex.build(tmp_path / "index", DOCUMENTS, embedder=SentenceEmbedder(str(model)))
    started = Terminal("search", "--index", tmp_path / "index", "--model", tiny_lm_folder)
    yield started
    started.close()


def test_questions_and_commands(terminal: Terminal, tiny_lm_folder: Path) -> None:
    terminal.until(_interactive.PROMPT)
    answer = terminal.ask("what does a generator yield")
    assert "A generator yields values" in answer and "4 candidates" in answer
    assert "gain " in terminal.ask(":explain 2")
    assert "error: the last question found 4 passages" in terminal.ask(":explain 9")
    assert "shows 1 passage" in terminal.ask(":top 1")
    assert "only passages with page=4" in terminal.ask(":filter page=4")
    answer = terminal.ask("what is a block")
    assert "A generator yields values" in answer and "1 candidate " in answer
    assert "all passages" in terminal.ask(":filter")
    assert "4 candidates" in terminal.ask("what is a block")
    assert "error: a filter is written" in terminal.ask(":filter page")
    assert "error: unknown model 'no-such'" in terminal.ask(":model no-such")
    assert f"ranks with {tiny_lm_folder}" in terminal.ask(f":model {tiny_lm_folder}").replace(
        "\r\n", ""
    )
    assert ":top 5" in terminal.ask(":help")
    assert "error: there is no :hlep" in terminal.ask(":hlep")
    terminal.type("\x04")
    assert terminal.process.wait(timeout=60) == 0


def test_the_history_gives_the_last_question_again(terminal: Terminal) -> None:
    terminal.until(_interactive.PROMPT)
    terminal.ask("what does a generator yield")
    terminal.type("\x10\n")  # Ctrl-P, the line before
    assert "A generator yields values" in terminal.until("rerank")


def test_ctrl_c_is_one_line(terminal: Terminal) -> None:
    terminal.until(_interactive.PROMPT)
    terminal.type("what")
    terminal.until("what")
    time.sleep(1)  # a signal that comes before the terminal is read again is seen with the next key
    terminal.process.send_signal(signal.SIGINT)
    told = terminal.until("interrupted")
    assert "Traceback" not in told
    assert terminal.process.wait(timeout=60) == 130


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers as `trlm serve` does, with one passage."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        passage = {
            "rank": 1,
            "first_stage_rank": 3,
            "id": "gen",
            "title": "Generators",
            "content": f"An answer to {asked['query']}. Filters: {json.dumps(asked['filters'])}",
            "meta": {"file_path": "notes/gen.md"},
            "score": 0.75,
            "first_stage_score": 0.5,
            "log_likelihood": -12.5,
            "mean_log_likelihood": -2.5,
            "cut_tokens": 0,
            "gain": None,
            "token_gains": None,
        }
        if self.headers.get("Authorization") != "Bearer secret":
            status, answer = 401, {"detail": "a key is needed"}
        elif asked["query"] == "nothing":
            status, answer = 200, {"hello": "world"}
        else:
            found = {"model": "m", "candidates": 20, "passages": [passage]}
            status, answer = 200, {"result": found}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TRLM_API_KEY", "secret")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}/"
        serving.shutdown()


def test_a_server_answers(run: Any, url: str) -> None:
    outcome = run("search", "why", "--server", url)
    assert outcome.code == 0
    assert "An answer to why." in outcome.out and "Generators" in outcome.out
    assert "notes/gen.md" in outcome.out and "20 candidates · server" in outcome.out
    found = json.loads(run("search", "why", "--server", url, "--json").out)
    assert found["results"][0]["first_stage_rank"] == 3 and found["candidates"] == 20


def test_a_server_that_refuses_or_is_gone(
    run: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = run("search", "nothing", "--server", url)
    assert outcome.code == 2 and "is no `trlm serve`" in outcome.err
    outcome = run("search", "why", "--server", url, "--model", "trlm-small")
    assert outcome.code == 2 and "--model" in outcome.err
    assert "http://HOST:PORT" in run("search", "why", "--server", "localhost:1").err
    monkeypatch.delenv("TRLM_API_KEY")
    outcome = run("search", "why", "--server", url)
    assert outcome.code == 2 and "set TRLM_API_KEY" in outcome.err
    outcome = run("search", "why", "--server", "http://127.0.0.1:9")
    assert outcome.code == 2 and "is `trlm serve` running there?" in outcome.err


def test_a_server_that_goes_away_between_two_questions(url: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        terminal = Terminal("search", "--server", f"http://127.0.0.1:{serving.server_port}")
        terminal.until(_interactive.PROMPT)
        assert "An answer to why" in terminal.ask("why")
        terminal.ask(":filter a=b")
        assert "meta.a" in terminal.ask("why")
        assert "error: the server ranks with its own model" in terminal.ask(":model trlm-small")
        terminal.ask(":filter")
        serving.shutdown()
    assert "is `trlm serve` running there?" in terminal.ask("and now")
    terminal.type("\x04")
    assert terminal.process.wait(timeout=60) == 0
    terminal.close()


def test_filters() -> None:
    assert as_filters([]) is None
    assert as_filters(["topic=io", "page=4"]) == {
        "operator": "AND",
        "conditions": [
            {"field": "meta.topic", "operator": "in", "value": ["io"]},
            {"field": "meta.page", "operator": "in", "value": ["4", 4]},
        ],
    }
    for wrong in ("topic", "=io", "topic="):
        with pytest.raises(ValueError, match="FIELD=VALUE"):
            as_filters([wrong])


def test_filters_narrow_a_search(run: Any, folder: Path, tiny_lm_folder: Path) -> None:
    arguments = ["search", "what is a block", "--index", folder, "--model", tiny_lm_folder]
    found = json.loads(run(*arguments, "--filter", "page=4", "--json").out)
    assert [result["id"] for result in found["results"]] == ["gen"]
    assert found["loading_seconds"] > 0


def test_the_first_stage_can_decide_alone(run: Any, folder: Path, tiny_lm_folder: Path) -> None:
    arguments = ["search", "what is a block", "--index", folder, "--model", tiny_lm_folder]
    found = json.loads(
        run(*arguments, "--first-stage-weight", "1", "--dtype", "float32", "--json").out
    )
    assert [result["first_stage_rank"] for result in found["results"]] == [1, 2, 3, 4]
