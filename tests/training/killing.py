"""Training runs that end in the middle, as if they were killed."""

from trlm_retrieval.training.run import Run


class Killed(BaseException):
    """Nothing catches it."""


def killed_after(monkeypatch, step):
    """Kill the next run when it has logged a step and not yet written a checkpoint of it."""
    log = Run.log

    def fatal(self, entry):
        log(self, entry)
        if entry["step"] == step:
            raise Killed

    monkeypatch.setattr(Run, "log", fatal)
