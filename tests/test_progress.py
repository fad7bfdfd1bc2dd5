"""Progress bars are for people who watch a terminal."""

import io
import sys

import pytest

from trlm_retrieval.progress import progress_bar, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("variable", ["", "FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"])
def test_nothing_reaches_a_pipe(monkeypatch, variable):
    pipe = io.StringIO()
    monkeypatch.setattr(sys, "stderr", pipe)
    if variable:
        monkeypatch.setenv(variable, "1")
    with progress_bar("Doing", 3) as advance:
        advance(1)
    assert list(track([1, 2], "Doing")) == [1, 2]
    assert pipe.getvalue() == ""


def test_a_terminal_sees_a_bar_unless_it_is_switched_off(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar("Doing", 3) as advance:
        advance(1)
    assert "Doing" in sys.stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_bar("Doing", 3, enabled=False) as advance:
        advance(1)
    assert sys.stderr.getvalue() == ""
