"""Under-trained tokens of a model: the likelihood of a text full of them means little.

Tokens that hardly occurred in training keep the embeddings they began with, which decay towards a
common point: they are found near the centroid of all embeddings, they lie together, and the model
cannot repeat them. Distance and repetition are the signs of "SolidGoldMagikarp" (J. Rumbelow and
M. Watkins, 2023), which found them by k-means, and *Fishing for Magikarp* (arXiv 2405.05417).

What counts as failing to repeat is read off random tokens of the same model, so that a few learned
tokens always fail as well. Clusters tell them apart: one whose members near the centroid mostly
fail is of under-trained tokens, and all of its members are tried.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import faiss
import numpy as np
import torch

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.lm.likelihood import Progress

_REPEATS = 3  # that the model sees before it is asked for one more
_COMPARED = 200  # random tokens that say how well the model repeats
_FAILING = 0.05  # of which this share fails
_CLUSTER_SIZE = 400  # tokens, on average
_ROUNDS = 10  # of k-means
_TELLING = 5  # tried tokens of a cluster, from which on their share tells


@dataclass(frozen=True)
class UndertrainedToken:
    """An under-trained token of a model.

    :ivar distance: of its input embedding from the centroid of all.
    :ivar repeat_log_prob: log-probability of one more after three of them, a line each, in nats.
    :ivar cluster: number of its k-means cluster, if most of that is under-trained, else None.
    """

    id: int
    text: str
    distance: float
    repeat_log_prob: float
    cluster: int | None


def undertrained_tokens(
    lm: TimeReversedLM, *, examined: int = 500, progress: Progress | None = None
) -> list[UndertrainedToken]:
    """Find tokens that are near the centroid, or in a cluster with such, and are not repeated.

    :param examined: tokens nearest to the centroid that are tried.
    :param progress: called with the number of tokens just tried: 200 random ones, ``examined``,
        and the other members of suspect clusters.
    :returns: those that are repeated worse than 95 % of random tokens and are in a cluster where
        most of those near the centroid are, or worse than all random tokens; the worst first.
    :raises ValueError: if ``examined`` is not positive, or leaves no other tokens to compare with.
    """
    vectors = (
        lm.decoder.model.get_input_embeddings().weight.detach().float().cpu()[: len(lm.tokenizer)]
    )
    if not 0 < examined < len(vectors):
        raise ValueError(
            f"examined must be positive and below the {len(vectors)} tokens that there are, not "
            f"{examined}"
        )
    distances = (vectors - vectors.mean(0)).norm(dim=1)
    cluster = _clusters(vectors.numpy())
    near, far = torch.argsort(distances).tensor_split([examined])
    compared = random.Random(0).sample(far.tolist(), min(_COMPARED, len(far)))
    usual = _repeat_log_probs(lm, compared, progress)
    floor = float(np.quantile(usual, _FAILING))
    tried = dict(zip(near.tolist(), _repeat_log_probs(lm, near.tolist(), progress), strict=True))
    suspect = _suspect_clusters(cluster[near], np.array(list(tried.values())) < floor)
    others = [i for i in far.tolist() if cluster[i] in suspect]
    tried |= dict(zip(others, _repeat_log_probs(lm, others, progress), strict=True))
    found = [
        UndertrainedToken(
            token,
            lm.tokenizer.decode([token]),
            float(distances[token]),
            log_prob,
            int(cluster[token]) if cluster[token] in suspect else None,
        )
        for token, log_prob in tried.items()
        if log_prob < (floor if cluster[token] in suspect else min(usual))
    ]
    return sorted(found, key=lambda token: token.repeat_log_prob)


def _clusters(vectors: np.ndarray) -> np.ndarray:
    """The k-means cluster of each vector."""
    means = faiss.Kmeans(
        vectors.shape[1],
        max(1, len(vectors) // _CLUSTER_SIZE),
        niter=_ROUNDS,
        seed=0,
        min_points_per_centroid=1,
    )
    means.train(vectors)
    return means.assign(vectors)[1]


def _suspect_clusters(cluster: np.ndarray, fails: np.ndarray) -> set[int]:
    """Clusters with enough tried tokens, most of which fail."""
    return {
        int(number)
        for number in np.unique(cluster)
        if (cluster == number).sum() >= _TELLING and fails[cluster == number].mean() > 0.5
    }


def _repeat_log_probs(
    lm: TimeReversedLM, tokens: Sequence[int], progress: Progress | None
) -> list[float]:
    """Log-probabilities of repeating tokens; it reads the same in either order."""
    order = "forward" if lm.order == "both" else lm.order
    start = lm.encoder.start_ids[order]
    [line_end] = lm.encoder.encode_texts(["\n"])
    sequences = [((start, *[token, *line_end] * _REPEATS), (token,)) for token in tokens]
    return [float(found[0]) for found in lm.log_probs(sequences, progress=progress)]
