"""A bag-of-tokens model, and the Llama that starts from it."""

import numpy as np
import pytest
import torch

from trlm_retrieval import TimeReversedLM
from trlm_retrieval.training.check import check
from trlm_retrieval.training.corpus import read_pairs
from trlm_retrieval.training.presets import Preset
from trlm_retrieval.training.tokenizer import train_tokenizer
from trlm_retrieval.training.warm_start import BagOfTokens, as_llama, warm_start

SHAPE = Preset(width=64, layers=2, heads=2, mlp=64, learning_rate=1e-2, key_heads=2, tied=False)


@pytest.fixture
def bag():
    made = BagOfTokens(200, SHAPE, inputs=28, seed=0)
    made.keys.data *= 20  # so that tokens weigh differently
    return made


def naive(bag, ids):
    """Log-probabilities after one passage, head by head."""
    vectors = [bag.vectors()[i] * (1 / 64 + 1e-6) ** -0.5 for i in ids]
    predicting = torch.zeros(64 - 28)
    for head in range(2):
        scores = torch.stack([vector @ bag.keys[:, head] for vector in vectors])
        pooled = sum(w * v for w, v in zip(scores.softmax(0), vectors, strict=True))
        predicting = predicting + pooled @ bag.values[head] @ bag.outputs[head]
    length = ((1 + predicting.square().sum()) / 64 + 1e-6).sqrt()
    return (bag.head() @ (predicting / length)).log_softmax(0)


@torch.no_grad()
def test_a_passage_predicts_by_its_tokens_whatever_stands_beside_it(bag):
    rows = [torch.randint(0, 200, (length,)) for length in (3, 9, 5)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    found = bag(ids, torch.tensor([3, 9, 5]))
    for row, line in zip(rows, found, strict=True):
        assert line.allclose(naive(bag, row.tolist()), atol=1e-5)
        assert line.allclose(bag(row.flip(0)[None], torch.tensor([len(row)]))[0], atol=1e-5)


@torch.no_grad()
def test_from_the_start_a_passage_predicts_its_own_tokens():
    bag = BagOfTokens(200, SHAPE, inputs=28, seed=0)
    ids = torch.stack([torch.randperm(200)[:10] for _ in range(50)])
    found = bag(ids, torch.full((50,), 10))
    own, chosen = found.gather(1, ids), torch.zeros_like(found, dtype=bool).scatter(1, ids, True)
    assert own.mean() > found[~chosen].mean() + 1


@torch.no_grad()
def test_the_llama_predicts_what_the_bag_does(bag):
    llama = as_llama(bag, SHAPE, end=1, max_context=64, seed=0).eval()
    ids = torch.randint(0, 200, (4, 40))
    expected = bag(ids, torch.full((4,), 40))
    assert expected.std() > 0.1
    # Positions rotate keys a little.
    assert llama(ids).logits[:, -1].log_softmax(-1).allclose(expected, atol=2e-3)


def test_what_words_go_with_which_is_learned_and_kept(made_up, pair_file, options, tmp_path):
    train_tokenizer(made_up(400), 400).save_pretrained(tmp_path / "tokenizer")
    run = warm_start(
        [pair_file],
        tmp_path / "tokenizer",
        tmp_path / "warm",
        options(40, 1e-2),
        shape=SHAPE,
        inputs=28,
        rows=32,
        max_context=128,
    )
    entries = run.entries()
    assert entries[-1]["loss"] < entries[0]["loss"] - 1
    assert entries[-1]["contrast"] < entries[0]["contrast"]
    lm = TimeReversedLM.from_pretrained(run.model_folder, dtype="float32")
    assert lm.order == "reverse"
    held_out = read_pairs([pair_file], held_out=True)
    found = check(lm, held_out)
    assert found.prefers_true > 0.8
    assert np.log(found.perplexity) < np.log(400) - 1
