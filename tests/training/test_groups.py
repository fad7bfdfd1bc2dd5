"""Pairs are grouped with those whose passages a search for the query would find."""

import json
import lzma

import numpy as np
import pytest

from trlm_retrieval.errors import DataError
from trlm_retrieval.training.groups import (
    HardNegatives,
    make_groups,
    read_groups,
    read_negatives,
    write_groups,
)

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


def test_groups_come_back_from_their_file(tmp_path):
    pairs = [*PAIRS, (PAIRS[0][0], PAIRS[1][1])]  # a query with two right passages
    groups = make_groups(pairs, 4)
    assert any(group.also for group in groups)
    for group in groups:
        for q, p in group.also:
            assert (group.queries[q], group.passages[p]) in pairs
    write_groups(groups, tmp_path / "groups.jsonl")
    assert read_groups(tmp_path / "groups.jsonl") == groups
    assert len({group.key for group in groups}) == len(groups)
    assert all(len(group) == 4 for group in make_groups(pairs, 4, least=4))
    (tmp_path / "bad.jsonl").write_text('{"queries": ["a", "b"], "passages": ["c"], "also": []}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl, line 1: no group"):
        read_groups(tmp_path / "bad.jsonl")


def test_given_negatives_come_first(tmp_path):
    file = tmp_path / "known.jsonl.xz"
    rows = [{"query": query, "passage": passage} for query, passage in PAIRS]
    lines = [json.dumps(row) for row in rows]
    file.write_bytes(lzma.compress("\n".join([lines[0], "", *lines[1:]]).encode()))
    given = {"file": "known", "line": 0, "neg": [["known", 9], ["known", 12], ["other", 2]]}
    mined = tmp_path / "mined.jsonl"
    mined.write_text(json.dumps(given) + '\n{"file": "other", "line": 0, "neg": []}\n')
    found = read_negatives(mined, [file], PAIRS)
    assert found == {0: [8, 11]}  # line 1 is blank, so line 9 holds pair 8
    [group, *_] = HardNegatives(PAIRS, found).groups([0, 8, 11, 1, 2, 3], 3)
    assert group == [0, 8, 11]
    with pytest.raises(DataError, match="holds no hard negatives of the pairs in known"):
        read_negatives(mined, [file], PAIRS[5:])
    mined.write_text('{"file": "known"}\n')
    with pytest.raises(DataError, match=r"mined\.jsonl, line 1"):
        read_negatives(mined, [file], PAIRS)
