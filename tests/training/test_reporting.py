"""What a run says of itself where there is no terminal."""

from trlm_retrieval.training import reporting
from trlm_retrieval.training.reporting import Reporter


def test_each_line_tells_the_time_left(capsys, monkeypatch):
    clock = iter([100.0, 190.0, 460.0])  # the first step shown, 90 seconds later, the end
    monkeypatch.setattr(reporting, "monotonic", lambda: next(clock))
    with Reporter("training") as reporter:
        for step, done in ((1, 0.25), (2, 0.5), (4, 1.0)):
            entry = {"step": step, "loss": 2.0, "tokens_per_second": 1000}
            reporter.show(entry, done)
    first, middle, last = capsys.readouterr().err.splitlines()
    assert "50% · 0:03:00 left · loss 2.000" in middle
    assert "left" not in first and "left" not in last
