"""Support scores and the three searches: what they find, and what they cost."""

import re
from math import ceil, log2
from types import SimpleNamespace

import pytest

from trlm_retrieval.citation.search import SEARCHES, search
from trlm_retrieval.citation.support import (
    CLAIM_GIVEN_SOURCE,
    SOURCE_GIVEN_CLAIM,
    SupportScorer,
    shared_words,
    support_template,
    word_sets,
)

CLAIM = "The needle is here."
LENGTHS = [*range(1, 18), 31, 32, 33, 64, 100]
MOST_CALLS = {
    "linear": lambda length: length,
    "binary": lambda length: 2 * ceil(log2(length)),
    "exclusion": lambda length: length + 1,
}


def by_needle(pairs, template):
    """Likelihoods of a model that only sees whether the source holds the needle."""
    return [SimpleNamespace(sum=0.0, mean=float("needle" in source)) for _, source in pairs]


def source_of(length, needle):
    return [f"Hay {i}. " if i != needle else "A needle. " for i in range(length)]


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_search_finds_the_sentence_at_a_known_cost(name, length):
    for needle in {0, length // 2, length - 1}:
        scorer = SupportScorer(by_needle, overlap_weight=0.0)
        [found] = search(name, [(CLAIM, source_of(length, needle))], scorer)
        assert (found.start, found.stop) == (needle, needle + 1)
        assert found.score == 1.0
        assert found.calls == scorer.calls <= (1 if length == 1 else MOST_CALLS[name](length))


def test_the_halves_of_binary_search_share_no_sentence_and_lose_none():
    sentences = [f"{letter} " for letter in "abcdefghijk"]
    seen = []

    def record(pairs, template):
        texts = [source for _, source in pairs if source]
        seen.extend([texts] if len(texts) == 2 else [])
        return [SimpleNamespace(sum=0.0, mean=float("g" in source)) for _, source in pairs]

    search("binary", [(CLAIM, sentences)], SupportScorer(record, overlap_weight=0.0))
    part = sentences
    for first, second in seen:
        assert first + second == "".join(part)
        part = [s for s in sentences if s in (first if "g" in first else second)]
    assert part == ["g "]


def test_exclusion_takes_the_lowest_remaining_score():
    sentences = ["Hay. ", "A needle. ", "More hay."]
    asked = []

    def record(pairs, template):
        asked.extend(source for _, source in pairs if source)
        return by_needle(pairs, template)

    [found] = search("exclusion", [(CLAIM, sentences)], SupportScorer(record, overlap_weight=0))
    assert asked == [
        "Hay. A needle. More hay.",
        "A needle. More hay.",
        "Hay. More hay.",
        "Hay. A needle. ",
    ]
    assert (found.start, found.score) == (1, 1.0)


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_side_by_side_find_what_they_find_alone(name, tiny_lm):
    tasks = [
        ("It calls exit.", ["The with statement. ", "It calls exit at the end. ", "So it is."]),
        ("A generator yields.", ["A generator yields values."]),
        ("Keys keep order.", [f"Sentence {i} of many. " for i in range(9)]),
    ]
    together = search(name, tasks, SupportScorer(tiny_lm.score))
    alone = [search(name, [task], SupportScorer(tiny_lm.score))[0] for task in tasks]
    for one, other in zip(together, alone, strict=True):
        assert (one.start, one.stop, one.calls) == (other.start, other.stop, other.calls)
        assert one.score == pytest.approx(other.score, abs=1e-3)


def test_a_search_needs_sentences_and_a_name(tiny_lm):
    scorer = SupportScorer(tiny_lm.score)
    with pytest.raises(ValueError, match="without sentences"):
        search("linear", [(CLAIM, [])], scorer)
    with pytest.raises(ValueError, match="linear, binary, exclusion, not 'ternary'"):
        search("ternary", [(CLAIM, ["One."])], scorer)
    assert search("linear", [], scorer) == []


@pytest.mark.parametrize("template", [CLAIM_GIVEN_SOURCE, SOURCE_GIVEN_CLAIM])
def test_support_is_the_gain_for_each_token_plus_the_weighted_share_of_words(template, tiny_lm):
    pairs = [("It calls exit.", "The end calls exit."), ("Keys.", "The end calls exit.")]
    scorer = SupportScorer(tiny_lm.score, template, overlap_weight=3.0)
    for (claim, source), support in zip(pairs, scorer.score(pairs), strict=True):
        [likelihood] = tiny_lm.score([(claim, source)], template, prior=True)
        assert support.gain == pytest.approx(likelihood.gain / len(likelihood), abs=1e-3)
        assert support.shared == shared_words(word_sets(claim), word_sets(source))
        assert support.score == pytest.approx(support.gain + 3.0 * support.shared)
    assert scorer.calls == 2


def test_priors_are_read_once():
    asked = []

    def record(pairs, template):
        asked.extend(pairs)
        return by_needle(pairs, template)

    scorer = SupportScorer(record)
    for source in ("one", "two"):
        scorer.score([("claim", source)])
    assert asked == [("claim", "one"), ("claim", ""), ("claim", "two")]


def test_empty_texts_support_nothing_and_cost_nothing():
    def refuse(pairs, template):
        assert not pairs
        return []

    scorer = SupportScorer(refuse)
    assert [s.score for s in scorer.score([("", "a source"), ("a claim", " ")])] == [0.0, 0.0]
    assert scorer.calls == 0


def test_shared_words():
    def shared(claim, source):
        return shared_words(word_sets(claim), word_sets(source))

    # Words: the, needl, fall. Pairs: all three; the source holds (fall, needl) the other way round.
    assert shared("The needle falls.", "the x x x x x falling needle") == pytest.approx(
        (3 / 3 + 1 / 3) / 2
    )
    assert shared("one two", "two x x x one") == 1.0
    assert shared("one two", "two x x x x one") == 0.5
    assert shared("Needle", "needles") == 1.0
    assert shared("...", "needles") == shared("needle", "") == 0.0


def test_templates_read_both_ways_round(make_tiny_lm):
    pair = [("CLAIMTEXT", "SOURCETEXT")]
    for reads_reversed in (False, True):
        lm = make_tiny_lm("reverse" if reads_reversed else "forward")
        for direction, scored in (("claim", "CLAIMTEXT"), ("source", "SOURCETEXT")):
            template = support_template(direction, reads_reversed)
            [likelihood] = lm.score(pair, template)
            assert re.fullmatch(rf" ?{scored}", "".join(lm.pieces(likelihood.token_ids)))
    with pytest.raises(ValueError, match="'claim' or 'source'"):
        support_template("query", False)
