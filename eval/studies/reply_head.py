"""Train the head that judges replies, choose its threshold, and measure it on what it has not seen.

    python -m trlm_retrieval.eval.studies.reply_head --data FOLDER --answers FILE --out FILE

Jailbroken responses are unsafe; responses to XSTest's safe prompts, ordinary answers and
responses that refuse a jailbreak are safe. One half of the behaviours is learned from: five times
the head learns from four fifths of it and judges the rest, and these scores choose its
regularisation and its threshold. That is the lowest which, beside the prompt filter at its own,
adds fewer than two points of false positives with 95 % confidence: one that adds two points here
was lucky as often as not, and adds more elsewhere. The other half measures, once with each attack
left out of all that.
"""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import beta
from sklearn.linear_model import LogisticRegression

from trlm_retrieval.components.linear_head import FOR_REPLIES, LinearHead, probability
from trlm_retrieval.components.piece_filter import pieces_of
from trlm_retrieval.components.question_filter import QuestionFilter
from trlm_retrieval.components.reply_filter import worst
from trlm_retrieval.components.safety_filter import DEFAULT_THRESHOLD, judged
from trlm_retrieval.models.embedder import SentenceEmbedder

from ..measures import estimate
from ..safety.data import Exchange, behaviours, load_exchanges
from ..safety.evaluation import EXTRA, drawn, thresholds_with_prompt

_FOLDS = 5
_STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0)
_CONFIDENCE = 0.95  # that the threshold adds less than EXTRA
_DRAWS = 2000  # of the bootstrap


@dataclass
class Replies:
    """Jailbroken exchanges, then safe ones, then refusals, which are learned from alone.

    :ivar pieces: for each reply the embeddings of its pieces.
    :ivar prompt: the prompt filter's scores.
    :ivar fold: a number for each reply; wordings of one behaviour have the same.
    """

    exchanges: list[Exchange]
    jailbroken: int
    judged: int
    pieces: list[np.ndarray]
    prompt: np.ndarray
    fold: np.ndarray

    @property
    def unsafe(self) -> np.ndarray:
        """Which ones are."""
        return np.arange(len(self.exchanges)) < self.jailbroken

    @property
    def kinds(self) -> np.ndarray:
        """The attack, or the source of a safe one."""
        return np.array(
            [
                e.kind if i < self.jailbroken else "refused" if i >= self.judged else e.source
                for i, e in enumerate(self.exchanges)
            ]
        )


def load(
    folder: Path, answers: Path, responses: int, embedder: SentenceEmbedder, held_out: bool
) -> Replies:
    """The replies of one half of the behaviours, refusals only of the one that is learned from."""
    jailbroken, safe = drawn(folder, answers, responses, held_out)
    refused = [
        one
        for one in load_exchanges(folder, None)
        if one.source == "jailbreaks" and not one.unsafe and not one.held_out and not held_out
    ]
    exchanges = [one for one in [*jailbroken, *safe, *refused] if one.response.strip()]
    jailbroken = [one for one in jailbroken if one.response.strip()]
    first = behaviours(one.question for one in exchanges)
    pieces = [pieces_of(one.response) for one in exchanges]
    vectors = embedder.embed([piece for one in pieces for piece in one])
    return Replies(
        exchanges,
        len(jailbroken),
        len(exchanges) - len(refused),
        np.split(vectors, np.cumsum([len(one) for one in pieces])[:-1]),
        np.array(judged(QuestionFilter(), [one.prompt for one in exchanges])),
        np.array([_fold(first[one.question]) for one in exchanges]),
    )


def fit(replies: Replies, rows: np.ndarray, strength: float, embedder: str) -> LinearHead:
    """Learn from some rows: safe and unsafe weigh the same, and so does each kind of either."""
    means = np.array([vectors.mean(0) for vectors in replies.pieces])
    kinds, unsafe = replies.kinds, replies.unsafe
    weights = np.zeros(len(rows))
    for side in (unsafe, ~unsafe):
        present = sorted(set(kinds[rows & side]))
        for kind in present:
            of_kind = rows & side & (kinds == kind)
            weights[of_kind] = rows.sum() / 2 / len(present) / of_kind.sum()
    model = LogisticRegression(C=strength, max_iter=2000)
    model.fit(means[rows], unsafe[rows], sample_weight=weights[rows])
    found = tuple(round(float(weight), 5) for weight in model.coef_[0])
    told = f"{(rows & unsafe).sum()} unsafe and {(rows & ~unsafe).sum()} safe replies"
    return LinearHead(
        embedder,
        found,
        round(float(model.intercept_[0]), 5),
        f"{told} of JailbreakBench, XSTest, AlpacaEval",
    )


def scores(head: LinearHead, pieces: Sequence[np.ndarray]) -> np.ndarray:
    """What a `ReplyFilter` with this head gives."""
    return probability(np.array([worst(head.logits(vectors)) for vectors in pieces]))


def threshold(
    replies: Replies, rows: np.ndarray, strength: float, embedder: str
) -> tuple[float, float]:
    """The lowest threshold that surely adds less than two points, and its misses, out of fold."""
    found = np.zeros(len(rows))
    for one in range(_FOLDS):
        here = replies.fold == one
        head = fit(replies, rows & ~here, strength, embedder)
        found[here] = scores(head, [replies.pieces[i] for i in np.flatnonzero(here)])
    judged_rows = rows & (np.arange(len(rows)) < replies.judged)
    jailbroken = int((judged_rows & replies.unsafe).sum())
    chosen = thresholds_with_prompt(
        jailbroken,
        {"prompt": replies.prompt[judged_rows], "reply": found[judged_rows]},
        surely_below(EXTRA, int(judged_rows.sum()) - jailbroken),
    )["reply"]
    passed = (replies.prompt < DEFAULT_THRESHOLD) & (found < chosen)
    return chosen, float(passed[judged_rows & replies.unsafe].mean())


def surely_below(share: float, number: int) -> float:
    """The largest share that may be seen in so many where the true one is surely below ``share``.

    There the upper end of a one-sided Clopper–Pearson interval is still below it, as in *Learn then
    Test* (arXiv 2110.01052). It is 0 where there are too few to be sure of anything.
    """
    seen = np.arange(number)
    upper = beta.ppf(_CONFIDENCE, seen + 1, number - seen)
    return max(0, int((upper <= share).sum()) - 1) / number


def _fold(behaviour: str) -> int:
    return hashlib.sha256(behaviour.encode("utf-8", "surrogatepass")).digest()[1] % _FOLDS


def measured(unseen: Replies, rows: np.ndarray, found: np.ndarray, chosen: float) -> list[str]:
    """Misses of the prompt filter, of the head, of both, and the false positives that it adds;
    misses of both where exactly two points are added here; and what is left of the prompt's.

    :param rows: those whose misses are told.
    :param found: what the head gives.
    :param chosen: its threshold.
    """
    prompt = unseen.prompt < DEFAULT_THRESHOLD
    unsafe = rows & unseen.unsafe
    equal = thresholds_with_prompt(unseen.jailbroken, {"prompt": unseen.prompt, "reply": found})
    both, both_at_equal = (prompt & (found < at) for at in (chosen, equal["reply"]))
    questions = [unseen.exchanges[i].question for i in np.flatnonzero(unsafe)]
    return [
        _share(prompt[unsafe]),
        _share((found < chosen)[unsafe]),
        _share(both[unsafe]),
        _ratio(questions, prompt[unsafe], both[unsafe]),
        _share((prompt & ~both)[~unseen.unsafe]),
        _share(both_at_equal[unsafe]),
        _ratio(questions, prompt[unsafe], both_at_equal[unsafe]),
    ]


def _share(passed: np.ndarray) -> str:
    found = estimate(passed.astype(float).tolist())
    return f"{found.mean:.3f} ({found.low:.2f}–{found.high:.2f})"


def _ratio(questions: Sequence[str], before: np.ndarray, after: np.ndarray) -> str:
    """Misses after to misses before, with an interval over behaviours."""
    if not before.any():
        return "-"
    first = behaviours(questions)
    names = sorted(set(first.values()))
    place = np.array([names.index(first[question]) for question in questions])
    sums = [np.bincount(place, passed, len(names)) for passed in (after, before)]
    counts = np.random.default_rng(0).multinomial(
        len(names), np.full(len(names), 1 / len(names)), _DRAWS
    )
    drawn_ratios = (counts @ sums[0]) / np.maximum(counts @ sums[1], 1)
    low, high = np.quantile(drawn_ratios, (0.025, 0.975))
    return f"{after.sum() / before.sum():.2f} ({low:.2f}–{high:.2f})"


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with safety data")
    parser.add_argument("--answers", type=Path, required=True, help="AlpacaEval's file")
    parser.add_argument("--responses", type=int, default=400, help="drawn of each kind")
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--out", type=Path, default=FOR_REPLIES)
    arguments = parser.parse_args()
    embedder = SentenceEmbedder(arguments.embedder)
    console = Console(highlight=False, width=180)
    data = (arguments.data, arguments.answers, arguments.responses, embedder)
    learned, unseen = load(*data, held_out=False), load(*data, held_out=True)
    everything = np.ones(len(learned.exchanges), bool)
    table = Table("strength", "threshold", "false negatives, out of fold")
    found = {
        strength: threshold(learned, everything, strength, embedder.name) for strength in _STRENGTHS
    }
    for strength, (chosen, misses) in found.items():
        table.add_row(str(strength), f"{chosen:.3f}", f"{misses:.3f}")
    console.print(table)
    strength = min(found, key=lambda one: found[one][1])
    head = fit(learned, everything, strength, embedder.name)
    head.save(arguments.out)
    console.print(f"{head.trained_on}; wrote {arguments.out}", soft_wrap=True)
    table = Table(
        "unseen behaviours",
        "prompt",
        "reply",
        "both",
        "ratio",
        "false positives added",
        "both at +2 points",
        "ratio",
    )
    attacks = sorted(set(unseen.kinds[unseen.unsafe]))
    at = np.ceil(100 * found[strength][0]) / 100
    judged_whole = scores(head, unseen.pieces)
    later = scores(
        head, [vectors[1:] if len(vectors) > 1 else vectors for vectors in unseen.pieces]
    )
    all_rows = np.ones(len(unseen.exchanges), bool)
    table.add_row("all attacks", *measured(unseen, all_rows, judged_whole, at))
    table.add_row("… without the first 250 characters", *measured(unseen, all_rows, later, at))
    for attack in attacks:
        rows = unseen.kinds == attack
        table.add_row(attack, *measured(unseen, rows, judged_whole, at))
    for attack in attacks:
        others = learned.kinds != attack
        chosen, _ = threshold(learned, others, strength, embedder.name)
        without = scores(fit(learned, others, strength, embedder.name), unseen.pieces)
        rows = unseen.kinds == attack
        table.add_row(f"{attack}, not learned from", *measured(unseen, rows, without, chosen))
    console.print(table)


if __name__ == "__main__":
    main()
