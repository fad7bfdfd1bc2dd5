"""Pairs are grouped with those whose passages a search for the query would find."""

import numpy as np

from trlm_retrieval.training.groups import HardNegatives

TOPICS = {
    "rivers": ["nile", "danube", "volga", "ganges"],
    "violins": ["amati", "guarneri", "stradivari", "bergonzi"],
    "engines": ["watt", "newcomen", "stephenson", "otto"],
}
PAIRS = [
    (f"{kind} of {name}", f"The {name} is one of the {kind} known to all {kind} friends.")
    for kind, names in TOPICS.items()
    for name in names
]


def test_groups_share_words_and_hold_every_pair_once():
    order = np.random.default_rng(0).permutation(len(PAIRS)).tolist()
    groups = list(HardNegatives(PAIRS).groups(order, 4))
    assert sorted(pair for group in groups for pair in group) == list(range(len(PAIRS)))
    assert [len({pair // 4 for pair in group}) for group in groups] == [1, 1, 1]
    assert groups[0][0] == order[0]


def test_a_group_holds_no_passage_twice():
    pairs = [("first word of the rivers", PAIRS[0][1]), ("second word", PAIRS[0][1]), *PAIRS]
    for group in HardNegatives(pairs).groups(range(len(pairs)), 8):
        passages = [pairs[number][1] for number in group]
        assert len(set(passages)) == len(passages)


def test_pairs_that_find_nothing_stand_alone():
    pairs = [("alpha", "beta"), ("gamma", "delta")]
    assert list(HardNegatives(pairs).groups([1, 0], 8)) == [[1], [0]]
