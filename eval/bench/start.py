"""How long a user waits before anything happens, as ratios of importing torch and transformers.

::

    python -m trlm_retrieval.eval.bench.start --index trlm-index

Each command runs in a process of its own, several times in turn with the others; a ratio is the
median over the rounds. The index's states should be kept (`trlm demo` does so), or else a search
also reads its candidates.
"""

import argparse
import statistics
import subprocess
import sys
import time

_TRLM = [sys.executable, "-m", "trlm_retrieval"]
_BASE = [sys.executable, "-c", "import torch, transformers"]


def commands(index: str) -> dict[str, tuple[list[str], float, int]]:
    """What is timed: the command, the ratio to stay below, and its exit code."""
    mistake = {
        "a mistyped model": ["search", "q", "--index", index, "--model", "smolm2-135m"],
        "no such index": ["search", "q", "--index", "no-such-index"],
        "no such data": ["eval", "retrieval", "--data", "no-such-folder"],
        "a wrong direction": ["score", "--input", index, "--output", "x", "--direction", "up"],
    }
    return {
        "search": ([*_TRLM, "search", "what is a descriptor", "--index", index], 3.0, 0),
        "--help": ([*_TRLM, "--help"], 0.25, 0),
        **{name: ([*_TRLM, *rest], 0.5, 2) for name, rest in mistake.items()},
    }


def seconds(command: list[str], code: int = 0) -> float:
    """Time of a command, from start to end.

    :raises RuntimeError: if its exit code is another.
    """
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description="Waiting times as ratios.")
    parser.add_argument("--index", default="trlm-index", help="folder of an index, with states")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    timed = commands(options.index)
    seconds(_BASE)  # fills the disk's cache
    ratios: dict[str, list[float]] = {name: [] for name in timed}
    bases = []
    for _ in range(options.rounds):
        bases.append(seconds(_BASE))
        for name, (command, _, code) in timed.items():
            ratios[name].append(seconds(command, code) / bases[-1])
    print(f"import torch, transformers: {statistics.median(bases):.2f} s; as ratios of it:")
    for name, (_, most, _) in timed.items():
        found = statistics.median(ratios[name])
        print(f"{name:18} {found:5.2f}  (at most {most:.2f}{'' if found <= most else ': MISSED'})")


if __name__ == "__main__":
    main()
