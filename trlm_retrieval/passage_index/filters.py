"""Filters in Haystack's syntax: checked as a whole before a search, then matched."""

from typing import Any

from haystack import Document
from haystack.errors import FilterError
from haystack.utils.filters import (
    COMPARISON_OPERATORS,
    LOGICAL_OPERATORS,
    document_matches_filter,
)

Filters = dict[str, Any]

_DEEPEST = 20


def check_filters(filters: Any, depth: int = 1) -> None:
    """
    Check that filters are well formed, also where matching would never come to look.

    :raises ValueError: if they are not.
    """
    if not isinstance(filters, dict):
        raise ValueError(f"filters: a condition must be an object, not {filters!r:.80}")
    if depth > _DEEPEST:
        raise ValueError(f"filters: conditions are nested more than {_DEEPEST} deep")
    if "field" in filters:
        _check_comparison(filters)
        return
    for key in ("operator", "conditions"):
        if key not in filters:
            raise ValueError(f"filters: {key!r} is missing in {filters!r:.80}")
    _check_operator(filters["operator"], LOGICAL_OPERATORS)
    if not isinstance(filters["conditions"], list):
        raise ValueError(f"filters: conditions must be a list, not {filters['conditions']!r:.80}")
    for condition in filters["conditions"]:
        check_filters(condition, depth + 1)


def matches(filters: Filters, document: Document) -> bool:
    """
    Whether a document matches.

    :raises ValueError: if a value cannot be compared with the document's, as a number and a word.
    """
    try:
        return document_matches_filter(filters, document)
    except (FilterError, TypeError) as error:
        raise ValueError(f"filters do not fit document {document.id!r}: {error}") from error


def _check_comparison(condition: Filters) -> None:
    field = condition["field"]
    if not isinstance(field, str):
        raise ValueError(f"filters: field must be a string, not {field!r:.80}")
    for key in ("operator", "value"):
        if key not in condition:
            raise ValueError(f"filters: {key!r} is missing for the field {field!r}")
    operator = condition["operator"]
    _check_operator(operator, COMPARISON_OPERATORS)
    if operator in ("in", "not in") and not isinstance(condition["value"], list):
        raise ValueError(f"filters: {operator!r} needs a list of values for the field {field!r}")


def _check_operator(operator: Any, known: dict[str, Any]) -> None:
    if not isinstance(operator, str) or operator not in known:
        raise ValueError(
            f"filters: there is no operator {operator!r:.80}; give one of {', '.join(known)}"
        )
