"""What is no filter is refused with its reason, wherever in the whole it stands."""

from typing import Any

import pytest
from haystack import Document

from trlm_retrieval.passage_index import PassageIndex
from trlm_retrieval.passage_index.filters import check_filters, matches

GOOD = {"field": "meta.n", "operator": "==", "value": 1}


def nested(depth: int) -> dict[str, Any]:
    filters: dict[str, Any] = GOOD
    for _ in range(depth - 1):
        filters = {"operator": "NOT", "conditions": [filters]}
    return filters


@pytest.mark.parametrize(
    ("filters", "reason"),
    [
        ("n == 1", "must be an object"),
        ({"n": 1}, "'operator' is missing"),
        ({"operator": "AND"}, "'conditions' is missing"),
        ({"operator": "XOR", "conditions": []}, "no operator 'XOR'; give one of NOT, OR, AND"),
        ({"operator": ["AND"], "conditions": []}, "no operator"),
        ({"operator": "AND", "conditions": GOOD}, "conditions must be a list"),
        ({"field": 1, "operator": "==", "value": 1}, "field must be a string"),
        ({"field": "meta.n", "value": 1}, "'operator' is missing for the field 'meta.n'"),
        ({"field": "meta.n", "operator": "=="}, "'value' is missing for the field 'meta.n'"),
        (GOOD | {"operator": "like"}, "no operator 'like'"),
        (GOOD | {"operator": "in"}, "needs a list"),
        (nested(21), "nested more than 20 deep"),
    ],
)
def test_malformed_filters(filters: Any, reason: str) -> None:
    for given in (filters, {"operator": "AND", "conditions": [GOOD, filters]}):
        with pytest.raises(ValueError, match=f"^filters: .*{reason}"):
            check_filters(given)


def test_well_formed_filters() -> None:
    check_filters(nested(20))
    assert matches(nested(19), Document(content="x", meta={"n": 1}))
    assert not matches(nested(20), Document(content="x", meta={"n": 1}))


@pytest.mark.parametrize("value", ["a word", [1], {"a": 1}])
def test_values_that_cannot_be_compared(value: Any) -> None:
    filters = {"field": "meta.n", "operator": ">", "value": value}
    with pytest.raises(ValueError, match="filters do not fit document 'd'"):
        matches(filters, Document(id="d", content="x", meta={"n": 1}))


def test_a_search_checks_its_filters(index: PassageIndex) -> None:
    late = {"operator": "AND", "conditions": [GOOD, {"field": "meta.n"}]}
    for search in (index.search_bm25, index.search_dense):
        with pytest.raises(ValueError, match="'operator' is missing"):
            search("carps", filters=late)
