"""Sentences as queries for the passages they were taken out of."""

from trlm_retrieval.text.sentences import sentence_spans
from trlm_retrieval.training.cloze import cloze_pairs
from trlm_retrieval.training.corpus import Section

TEXT = " ".join(
    f"Sentence number {n} says that the river of town {n} is {n} miles long." for n in range(40)
)


def test_each_query_is_a_sentence_that_its_passage_lacks():
    pairs = list(cloze_pairs([Section("Rivers", TEXT)], characters=400))
    sentences = [span.of(TEXT) for span in sentence_spans(TEXT)]
    assert len(pairs) >= 4
    for pair in pairs:
        assert pair.heading in sentences
        assert pair.heading not in pair.text
        assert 250 < len(pair.text) < 500
    told = [s for s in sentences if any(s in pair.text or s == pair.heading for pair in pairs)]
    assert told == sentences[: len(told)]
    assert len(told) > 37, "only the rest that makes no passage is left out"


def test_the_same_text_gives_the_same_pairs_and_half_of_them_name_their_section():
    sections = [Section(f"Rivers {n}", TEXT.replace("miles", f"miles or {n}")) for n in range(20)]
    pairs = list(cloze_pairs(sections))
    assert pairs == list(cloze_pairs(sections))
    named = sum(pair.text.startswith("Rivers ") for pair in pairs)
    assert 0.3 < named / len(pairs) < 0.7
    assert list(cloze_pairs(sections[:1])) == pairs[: len(pairs) // 20]


def test_texts_without_a_sentence_to_spare_make_no_pair():
    assert not list(cloze_pairs([Section("", "One. Two. Three."), Section("", "A title only")]))
