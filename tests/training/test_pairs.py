"""Fine-tuning reads what scoring reads: its loss is the likelihood that `score` reports."""

import pytest
import torch

from trlm_retrieval.lm.encoding import PairEncoder
from trlm_retrieval.lm.template import DIRECTIONS
from trlm_retrieval.training.finetuning import QueryLikelihood
from trlm_retrieval.training.pairs import EncodedPairs, PairBatches

PAIRS = [
    ("what does with call?", "The with statement calls enter and exit."),
    ("order of keys", "A dictionary keeps its keys in insertion order, since 3.7."),
    ("when is a generator done?", "It raises StopIteration."),
    ("why?", "A generator yields values one at a time. " * 6),
    ("which order?", "A dictionary keeps its keys in insertion order, since 3.7."),
]


def batches(lm, direction, tokens=4096, most=40, pairs=PAIRS):
    starts = {order: lm.tokenizer.bos_token_id for order in ("forward", "reverse")}
    encoder = PairEncoder(lm.tokenizer, starts, lm.max_context)
    encoded = EncodedPairs(pairs, encoder, DIRECTIONS[direction], most)
    return PairBatches(encoded, lm.tokenizer.eos_token_id, tokens, 0)


@pytest.mark.parametrize("direction", ["ba", "fo"])
def test_the_loss_is_what_scoring_reports(tiny_lm, direction):
    found = tiny_lm.score(PAIRS, direction, max_passage_tokens=40)
    batch = batches(tiny_lm, direction).rows(range(len(PAIRS)))
    with torch.no_grad():
        terms = QueryLikelihood(tiny_lm.model)(batch)
    assert float(terms["loss"]) == pytest.approx(-sum(x.sum for x in found), abs=1e-3)
    assert batch.counts["loss"] == sum(map(len, found))


def test_the_end_of_a_query_is_learned_apart(tiny_lm):
    batch = batches(tiny_lm, "ba").rows([0])
    with torch.no_grad():
        end = float(QueryLikelihood(tiny_lm.model)(batch)["end"])
    row = torch.tensor([[*batch.inputs["input_ids"][0].tolist()]])
    with torch.no_grad():
        logits = tiny_lm.model(row).logits[0, -1].log_softmax(-1)
    assert end == pytest.approx(-float(logits[tiny_lm.tokenizer.eos_token_id]), abs=1e-4)


def test_gradients_reach_the_model_through_every_term(make_tiny_lm):
    lm = make_tiny_lm("both", seed=3)
    batch = batches(lm, "ba").rows(range(4))
    objective = QueryLikelihood(lm.model)
    for name in objective.weights:
        lm.model.zero_grad()
        objective(batch)[name].backward()
        assert float(lm.model.model.layers[0].mlp.up_proj.weight.grad.abs().sum()) > 0, name


def test_an_epoch_visits_every_pair_once_within_the_budget(tiny_lm):
    pairs = [(f"question {i}", "word " * (i % 17 + 1) + str(i)) for i in range(60)]
    source = batches(tiny_lm, "ba", tokens=200, pairs=pairs)
    seen, index = [], 0
    while len(seen) < 60:
        batch = source.batch(index)
        assert batch.inputs["input_ids"].numel() <= 200
        seen += [tuple(row) for row in batch.inputs["input_ids"].tolist()]
        index += 1
    assert len(set(seen)) == 60
    again = batches(tiny_lm, "ba", tokens=200, pairs=pairs).batch(index + 3)
    first = source.batch(index + 3)
    assert first.inputs["input_ids"].equal(again.inputs["input_ids"])
    assert source.batch(0).inputs["input_ids"].shape[0] >= 1  # going back is possible
