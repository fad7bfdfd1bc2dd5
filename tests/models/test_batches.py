"""Batches of sequences of unequal length."""

from trlm_retrieval.models.batches import budget_batches


def test_batches_stay_within_the_token_budget():
    lengths = [5, 50, 7, 200, 8, 9, 30]
    batches = list(budget_batches(lengths, 100))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        size = len(batch) * max(lengths[index] for index in batch)
        assert size <= 100 or len(batch) == 1
