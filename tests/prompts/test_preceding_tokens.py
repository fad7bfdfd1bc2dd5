"""The token before a text by brute force: exact, and what a trained reverse model says too."""

import numpy as np
import pytest
import torch

from trlm_retrieval.errors import ModelError
from trlm_retrieval.lm import TimeReversedLM
from trlm_retrieval.prompts.preceding_tokens import preceding_tokens

FIRST, SIZE = 20, 40  # a language of these tokens: each is followed by one other


def following(tokens):
    return FIRST + (3 * (tokens - FIRST) + 1) % SIZE


def text(rows, length, generator):
    columns = [torch.randint(FIRST, FIRST + SIZE, (rows,), generator=generator)]
    for _ in range(length - 1):
        columns.append(following(columns[-1]))
    return torch.stack(columns, 1)


def learned(make_tiny_lm, order):
    made = make_tiny_lm(order)
    optimizer = torch.optim.AdamW(made.model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        rows = text(64, 8, generator)
        rows = rows.flip(1) if order == "reverse" else rows
        ids = torch.cat([torch.zeros(64, 1, dtype=torch.long), rows], 1)
        made.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return TimeReversedLM(made.model, made.tokenizer, order=order)


def test_a_reverse_model_agrees_with_trying_all_tokens(make_tiny_lm):
    forward, reverse = learned(make_tiny_lm, "forward"), learned(make_tiny_lm, "reverse")
    for row in text(6, 4, torch.Generator().manual_seed(1)).tolist():
        [tried] = preceding_tokens(forward, row[1:], top_k=1)
        context = (0, *row[1:][::-1])
        every = range(len(reverse.tokenizer))
        read = np.array([float(p[0]) for p in reverse.log_probs([(context, (t,)) for t in every])])
        assert tried.id == read.argmax() == row[0]


def test_the_posterior_is_exact(tiny_lm):
    ids = tiny_lm.tokenizer("yields values")["input_ids"]
    found = preceding_tokens(tiny_lm, ids, top_k=400)
    assert len(found) == len(tiny_lm.tokenizer)
    assert sum(np.exp(token.log_prob) for token in found) == pytest.approx(1)
    with torch.no_grad():
        for one, other in ((found[0], found[1]), (found[3], found[200])):
            joint = []
            for token in (one.id, other.id):
                row = torch.tensor([[0, token, *ids]])
                log_probs = tiny_lm.model(input_ids=row).logits.log_softmax(-1)[0, :-1]
                joint.append(float(log_probs.gather(1, row[0, 1:, None]).sum()))
            assert one.log_prob - other.log_prob == pytest.approx(joint[0] - joint[1], abs=1e-3)


def test_bad_input(tiny_lm, make_tiny_lm):
    with pytest.raises(ValueError, match="text_ids is empty"):
        preceding_tokens(tiny_lm, [])
    with pytest.raises(ModelError, match="direction"):
        preceding_tokens(make_tiny_lm("reverse"), [5])
