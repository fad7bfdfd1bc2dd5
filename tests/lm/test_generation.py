"""Generated queries: exact against a naive loop, distinct, reproducible, with their likelihoods."""

import numpy as np
import pytest
import torch

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import PassageStates, Template
from trlm_retrieval.lm.generation import Sampling, _choose, _generator, generate_queries

PASSAGES = [
    "The with statement wraps a block with methods defined by a context manager.",
    "A generator yields values one at a time.",
    "Insertion order is preserved since Python 3.7, and a dictionary keeps its keys.",
]
SAMPLING = Sampling(max_tokens=6)


def texts(found):
    return [[query.text for query in queries] for queries in found]


def naive_choice(logits, chance, sampling):
    """The token drawn by one number, in plain numpy."""
    odds = np.exp((logits - logits.max()) / sampling.temperature)
    order = np.argsort(-odds)
    cumulated = np.cumsum(odds[order] / odds.sum())
    last = min(int((cumulated < sampling.top_p).sum()), len(order) - 1)
    return int(order[min(int((cumulated <= chance * cumulated[last]).sum()), last)])


def naive_queries(lm, passage, direction, number, sampling):
    """One sample after the other, the whole sequence read anew for every token."""
    [pair] = lm.encode([("", passage)], direction)
    chance = _generator(sampling.seed, pair.context)
    special = set(lm.tokenizer.all_special_ids)
    found = []
    for _ in range(number):
        numbers = chance.random(sampling.max_tokens)
        tokens, lines = [], [""]
        for step in range(sampling.max_tokens):
            ids = torch.tensor([[*pair.context, *tokens]])
            with torch.no_grad():
                logits = lm.model(input_ids=ids).logits[0, -1].double().numpy()
            if step == 0:
                logits[list(special)] = -np.inf
            token = naive_choice(logits, numbers[step], sampling)
            if token in special:
                break
            tokens.append(token)
            shown = tokens[::-1] if direction == "ba" else tokens
            lines = lm.tokenizer.decode(shown).strip().splitlines() or [""]
            if len(lines) > 1:
                break
        found.append(lines[-1 if direction == "ba" else 0].strip())
    return found


@pytest.mark.parametrize("direction", ["ba", "fo"])
@pytest.mark.parametrize("shared", [True, False])
def test_the_samples_are_those_of_a_naive_loop(direction, shared, make_tiny_lm, monkeypatch):
    lm = make_tiny_lm("both")
    assert lm.supports_states
    monkeypatch.setattr(lm.network, "supports_states", shared)
    sampling = Sampling(temperature=0.8, top_p=0.9, max_tokens=6, seed=3)
    found = generate_queries(lm, PASSAGES, 5, direction=direction, sampling=sampling)
    for passage, queries in zip(PASSAGES, found, strict=True):
        naive = [text for text in naive_queries(lm, passage, direction, 5, sampling) if text]
        assert len(set(naive)) == len(naive) >= 4
        assert set(naive) <= {query.text for query in queries}


@pytest.mark.parametrize("direction", ["ba", "fo"])
def test_likelihoods_are_those_of_scoring(direction, tiny_lm):
    found = generate_queries(tiny_lm, PASSAGES, 4, direction=direction, sampling=SAMPLING)
    for passage, queries in zip(PASSAGES, found, strict=True):
        scored = tiny_lm.score([(query.text, passage) for query in queries], direction)
        assert [query.likelihood.sum for query in queries] == pytest.approx(
            [likelihood.sum for likelihood in scored], abs=1e-3
        )
        sums = [query.likelihood.sum for query in queries]
        assert sums == sorted(sums, reverse=True)


def test_queries_do_not_depend_on_the_batch_and_come_again_with_their_seed(tiny_lm):
    together = texts(generate_queries(tiny_lm, PASSAGES, 4, direction="fo", sampling=SAMPLING))
    alone = [
        texts(generate_queries(tiny_lm, [p], 4, direction="fo", sampling=SAMPLING))[0]
        for p in PASSAGES
    ]
    assert together == alone
    other = texts(
        generate_queries(
            tiny_lm, PASSAGES, 4, direction="fo", sampling=Sampling(max_tokens=6, seed=1)
        )
    )
    assert other != together


def test_queries_are_distinct(tiny_lm):
    sampling = Sampling(temperature=0.05, max_tokens=1)
    [queries] = generate_queries(tiny_lm, PASSAGES[:1], 20, direction="fo", sampling=sampling)
    same = {" ".join(query.text.casefold().split()) for query in queries}
    assert len(same) == len(queries) < 20  # nearly greedy: a single token gives few


def test_a_smaller_nucleus_and_temperature_give_likelier_queries(tiny_lm):
    def mean(**settings):
        sampling = Sampling(max_tokens=6, **settings)
        found = generate_queries(tiny_lm, PASSAGES, 8, direction="fo", sampling=sampling)
        return np.mean([query.likelihood.mean for queries in found for query in queries])

    plain = mean(temperature=1.0, top_p=1.0)
    assert mean(temperature=0.5, top_p=1.0) > plain + 0.2
    assert mean(temperature=1.0, top_p=0.3) > plain + 0.2


@pytest.mark.parametrize("sorted_first", [2, 512])
def test_sampling_follows_the_distribution(sorted_first, monkeypatch):
    monkeypatch.setattr("trlm_retrieval.lm.generation._LIKELIEST", sorted_first)
    odds = torch.tensor([0.5, 0.3, 0.15, 0.05])
    chance = torch.arange(0.0005, 1, 0.001)
    rows = odds.log().repeat(len(chance), 1)
    drawn = _choose(rows, chance, Sampling(1.0, top_p=1.0)).bincount(minlength=4) / len(chance)
    assert torch.allclose(drawn, odds, atol=2e-3)
    nucleus = _choose(rows, chance, Sampling(1.0, top_p=0.6)).bincount(minlength=4) / len(chance)
    assert torch.allclose(nucleus, torch.tensor([0.625, 0.375, 0, 0]), atol=2e-3)


def test_states_are_kept_and_reused(tiny_lm):
    states = tiny_lm.states = PassageStates()
    first = texts(generate_queries(tiny_lm, PASSAGES, 3, direction="fo", sampling=SAMPLING))
    assert len(states) == len(PASSAGES)
    misses = states.misses
    assert texts(generate_queries(tiny_lm, PASSAGES, 3, direction="fo", sampling=SAMPLING)) == first
    assert states.misses == misses


def test_repeated_and_long_passages(tiny_lm):
    long = "word " * 3000
    done = []
    passages = [PASSAGES[0], long, PASSAGES[0]]
    found = generate_queries(
        tiny_lm, passages, 2, direction="fo", sampling=SAMPLING, progress=done.append
    )
    assert found[0] == found[2] and sum(done) == 3
    assert found[1][0].likelihood.cut_tokens > 0 == found[0][0].likelihood.cut_tokens
    assert generate_queries(tiny_lm, [], 2) == []


@pytest.mark.parametrize("passage", ["我们在这里。", "\ud800 \x00 <|end|>", "def f(x): return x"])
def test_odd_passages(tiny_lm, passage):
    [queries] = generate_queries(tiny_lm, [passage], 2, direction="ba", sampling=SAMPLING)
    assert queries and all(query.text and "\n" not in query.text for query in queries)


def test_bad_input(tiny_lm, make_tiny_lm):
    with pytest.raises(ValueError, match="passage 1 is blank"):
        generate_queries(tiny_lm, [PASSAGES[0], " \n"], 2)
    with pytest.raises(ValueError, match="number must be positive"):
        generate_queries(tiny_lm, PASSAGES, 0)
    with pytest.raises(ValueError, match="the longest query that leaves room"):
        generate_queries(tiny_lm, PASSAGES, 1, sampling=Sampling(max_tokens=129))
    with pytest.raises(ValueError, match=r"\{query\} alone"):
        generate_queries(tiny_lm, PASSAGES, 1, direction="forward")
    with pytest.raises(ValueError, match=r"\{query\} alone"):
        generate_queries(
            tiny_lm, PASSAGES, 1, direction=Template("t", "forward", "{passage}", "Q: {query}")
        )
    with pytest.raises(ModelError, match="use direction='fo'"):
        generate_queries(make_tiny_lm("forward"), PASSAGES, 1, direction="ba")
    for settings in ({"temperature": 0}, {"top_p": 0}, {"top_p": 1.1}, {"max_tokens": 0}):
        with pytest.raises(ValueError, match="must be"):
            Sampling(**settings)
