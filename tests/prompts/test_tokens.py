"""Tokens that were left out of training are found, and no others."""

import pytest
import torch

from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.prompts.tokens import hardly_learned, share_of

UNSEEN = [50, 120, 301]


@pytest.fixture(scope="module")
def lm(make_tiny_lm):
    """A tiny model that learned to repeat all tokens but three, whose embeddings have decayed."""
    made = make_tiny_lm("forward")
    model, tokenizer = made.model, made.tokenizer
    [line_end] = tokenizer("\n")["input_ids"]
    seen = torch.tensor([i for i in range(2, len(tokenizer)) if i not in UNSEEN])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(120):
        tokens = seen[torch.randint(len(seen), (64, 1), generator=generator)]
        pair = torch.cat([tokens, torch.full_like(tokens, line_end)], 1)
        ids = torch.cat([torch.zeros_like(tokens), pair.repeat(1, 4)], 1)
        labels = ids.clone()
        labels[:, :2] = -100
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    vectors = model.get_input_embeddings().weight
    with torch.no_grad():
        vectors[UNSEEN] = vectors.mean(0)
    return TimeReversedLM(model, tokenizer)


def test_tokens_that_were_never_seen_are_found(lm):
    done = []
    found = hardly_learned(lm, examined=20, progress=done.append)
    assert sum(done) == 220
    assert {token.id for token in found[:3]} == set(UNSEEN) and len(found) < 8
    assert all(token.distance < 0.1 and token.repeat_log_prob < -3 for token in found[:3])
    assert all(token.text == lm.tokenizer.decode([token.id]) for token in found)


def test_the_share_of_a_text(lm):
    ids = lm.tokenizer("A generator yields values")["input_ids"]
    assert share_of(lm, "A generator yields values", {ids[0]}) == pytest.approx(1 / len(ids))
    assert share_of(lm, "A generator", set()) == share_of(lm, "", {1, 2}) == 0.0


def test_bad_input(lm):
    with pytest.raises(ValueError, match="examined must be positive"):
        hardly_learned(lm, 0)
