"""Train the head that judges questions, and tell how it does on behaviours it has not seen.

    python -m trlm_retrieval.eval.studies.question_head --data FOLDER --answers FILE --out FILE

It learns from plain questions alone, never from an attack: JailbreakBench's goals and XSTest's
contrasts are unsafe, XSTest's other prompts and AlpacaEval's are safe. One half of the behaviours
is learned from, the other half measures; the regularisation is chosen by cross-validation.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import roc_auc_score

from trlm_retrieval.components.linear_head import FOR_QUESTIONS, LinearHead, probability
from trlm_retrieval.models.embedder import SentenceEmbedder

from ..safety.data import Exchange, load_exchanges


def labelled(exchanges: list[Exchange], held_out: bool) -> dict[str, bool]:
    """Questions of one part, and whether each is unsafe; a jailbreak's goal always is."""
    return {
        exchange.question: exchange.unsafe or exchange.source == "jailbreaks"
        for exchange in exchanges
        if exchange.held_out == held_out
    }


def train(questions: dict[str, bool], embedder: SentenceEmbedder, trained_on: str) -> LinearHead:
    """Fit a head; both kinds of questions weigh the same."""
    model = LogisticRegressionCV(
        Cs=np.logspace(-1, 3, 9),
        cv=5,
        class_weight="balanced",
        scoring="neg_log_loss",
        l1_ratios=(0,),
        use_legacy_attributes=False,
        max_iter=2000,
    )
    model.fit(embedder.embed(list(questions)), list(questions.values()))
    weights = tuple(round(float(weight), 5) for weight in model.coef_[0])
    return LinearHead(embedder.name, weights, round(float(model.intercept_[0]), 5), trained_on)


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with safety data")
    parser.add_argument("--answers", type=Path, required=True, help="AlpacaEval's file")
    parser.add_argument("--embedder", default="minilm")
    parser.add_argument("--out", type=Path, default=FOR_QUESTIONS)
    arguments = parser.parse_args()
    exchanges = load_exchanges(arguments.data, arguments.answers)
    embedder = SentenceEmbedder(arguments.embedder)
    learned, unseen = labelled(exchanges, False), labelled(exchanges, True)
    counts = f"{sum(learned.values())} unsafe and {len(learned) - sum(learned.values())} safe"
    head = train(learned, embedder, f"{counts} questions of JailbreakBench, XSTest, AlpacaEval")
    head.save(arguments.out)
    console = Console(highlight=False)
    console.print(f"{head.trained_on}; wrote {arguments.out}", soft_wrap=True)
    truth = np.array(list(unseen.values()))
    found = probability(head.logits(embedder.embed(list(unseen))))
    console.print(f"unseen: {truth.sum()} unsafe, {(~truth).sum()} safe questions")
    console.print(f"ROC AUC {roc_auc_score(truth, found):.3f}")
    for threshold in (0.3, 0.5, 0.7, 0.9):
        missed, wrong = (found[truth] < threshold).mean(), (found[~truth] >= threshold).mean()
        console.print(f"threshold {threshold}: missed {missed:.1%}, wrongly unsafe {wrong:.1%}")


if __name__ == "__main__":
    main()
