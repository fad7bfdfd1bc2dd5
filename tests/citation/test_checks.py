"""Numbers, dates and negations that differ are named, and agreement is not."""

import pytest

from trlm_retrieval.citation.checks import conflicts


@pytest.mark.parametrize(
    ("claim", "quote", "named"),
    [
        ("The bridge was finished in 1933.", "The bridge was finished in 1932.", "1933"),
        ("It holds 1,200 people.", "It holds 1300 people.", "1,200"),
        ("Take three pills.", "Take 2 pills a day.", "three"),
        ("It opened on May 3.", "It opened on June 3.", "May"),
        ("It is always allowed.", "It is not allowed.", "only the source"),
        ("It doesn't float.", "It floats.", "only the sentence"),
    ],
)
def test_what_differs_is_named(claim, quote, named):
    assert any(named in conflict for conflict in conflicts(claim, [quote]))


@pytest.mark.parametrize(
    ("claim", "quote"),
    [
        ("It holds 1,200 people.", "It holds 1200 people in 3 halls."),
        ("It takes 2.50 hours.", "It takes 2.5 hours."),
        ("Three pills.", "Take 3 pills."),
        ("It is not allowed.", "It is never allowed."),
        ("It may rain in 2020.", "Rain may fall in 2020."),
        ("Ten people came.", "Many people came."),
    ],
)
def test_agreement_is_no_conflict(claim, quote):
    assert conflicts(claim, [quote]) == []


def test_nothing_quoted():
    assert conflicts("It is not 5.", []) == []
