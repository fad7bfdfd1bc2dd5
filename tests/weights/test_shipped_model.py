"""The model that ships in the package: small, backwards, and better than chance by far."""

import socket

import numpy as np
import pytest

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.lm.generation import Sampling, generate_queries
from trlm_retrieval.text.words import words
from trlm_retrieval.weights import packaged, packaged_folder

NAME = "trlm-small"

PASSAGES = {
    "Treatment of asthma in children": (
        "Asthma makes the airways of the lungs narrow. Children with asthma take inhaled "
        "steroids every day and a drug that opens the airways during an attack."
    ),
    "Robust image classification with noisy labels": (
        "We train deep networks for image classification on data whose labels are partly "
        "wrong, and propose a loss that is robust to it."
    ),
    "The Roman invasion of Britain": (
        "In the year 43 the emperor Claudius sent four legions across the Channel. The Roman "
        "army defeated the tribes of Britain and founded the town of London."
    ),
    "Planning for robots with reinforcement learning": (
        "A robot has to plan long sequences of actions. We learn a policy by reinforcement "
        "learning and search with a model of the world."
    ),
    "What are the symptoms of diabetes?": (
        "People with diabetes have high blood sugar. They are often thirsty, pass much urine "
        "and lose weight; insulin lowers the level of sugar."
    ),
    "Neural machine translation of rare words": (
        "Translation models have a fixed vocabulary. We split rare words into subword units, "
        "which improves machine translation for two languages."
    ),
    "The orbit of the planet Mars": (
        "Mars is the fourth planet from the Sun. Its orbit is an ellipse, so that its distance "
        "from the Sun changes much in the course of its year."
    ),
    "Clustering of large graphs": (
        "We study community detection in graphs with millions of nodes. A spectral algorithm "
        "finds clusters whose nodes share many edges, with a proof of its error."
    ),
    "Football world cup final": (
        "The national team won the match by two goals to one. It was the second time that the "
        "players brought the football cup home, before a crowd of 90,000."
    ),
    "Vaccines against influenza": (
        "Influenza viruses change every year, and so does the vaccine. Vaccination protects "
        "older people from infection with the virus and from severe disease."
    ),
}


@pytest.fixture(scope="module")
def shipped():
    def refuse(*arguments):
        raise AssertionError("nothing may be fetched")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        return TimeReversedLM.from_pretrained(NAME, dtype="float32")


def test_it_is_small_and_described(shipped):
    folder = packaged_folder(NAME)
    assert NAME in packaged() and folder is not None
    assert sum(p.numel() for p in shipped.model.parameters()) <= 40_000_000
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 50_000_000
    card = (folder / "README.md").read_text()
    for told in ("last to first", "tokens read", "hardware", "prefers_true", "Limits", "licence"):
        assert told in card, told
    assert "MIT License" in (folder / "LICENSE.bge-small").read_text()  # what it began with asks so
    assert shipped.order == "reverse" and shipped.template().name == "ba"


def test_it_reads_a_passage_as_in_training(shipped):
    [pair] = shipped.encode([("where is it?", "hello there")])
    assert shipped.tokenizer.decode(list(pair.context[:-1])) == "[CLS] hello there [SEP]"


def test_it_reads_queries_backwards(shipped):
    encoded = shipped.encode(list(PASSAGES.items()))
    sums = [
        np.mean([found.sum() for found in shipped.log_probs(sequences)])
        for sequences in (
            [(pair.context, pair.target) for pair in encoded],
            [(pair.context, pair.target[::-1]) for pair in encoded],
        )
    ]
    assert sums[0] > sums[1] + 3  # nats a query of some six tokens


def test_it_prefers_the_passage_that_a_title_belongs_to(shipped):
    found = shipped.score([(title, text) for title in PASSAGES for text in PASSAGES.values()])
    sums = np.array([likelihood.sum for likelihood in found]).reshape(len(PASSAGES), -1)
    preferred = (sums.diagonal()[:, None] > sums).sum() / (sums.size - len(sums))
    assert preferred > 0.9


@pytest.fixture(scope="module")
def written(shipped):
    """Four questions for each passage, with what was made of them."""
    sampling = Sampling(temperature=1.0, seed=1)
    return generate_queries(shipped, list(PASSAGES.values()), 4, sampling=sampling)


def test_what_it_writes_reads_forwards(shipped, written):
    pairs = zip(written, PASSAGES.values(), strict=True)
    questions = [
        (query, passage)
        for queries, passage in pairs
        for query in queries
        if len(set(query.text.split())) > 1  # one word is the same when it is turned
    ]
    turned = [(" ".join(query.text.split()[::-1]), passage) for query, passage in questions]
    gains = [
        query.likelihood.sum - likelihood.sum
        for (query, _), likelihood in zip(questions, shipped.score(turned), strict=True)
    ]
    assert len(gains) >= 25
    assert np.mean(gains) > 10 and np.mean(np.array(gains) > 0) > 0.8


def test_what_it_writes_is_about_the_passage(written):
    of_passages = [_long_words(text) for text in PASSAGES.values()]
    of_queries = [[_long_words(query.text) for query in queries] for queries in written]
    shared = np.array(
        [[sum(len(q & own) for q in queries) for queries in of_queries] for own in of_passages]
    )
    others = (shared.sum() - shared.trace()) / (shared.size - len(shared))
    assert shared.diagonal().mean() > max(2, 3 * others)


def _long_words(text):
    return {word for word in words(text) if len(word) > 3}
