"""The demo corpus: cut sensibly, free of repetitions, judged."""

import sys
from collections import Counter

import pytest

from trlm_retrieval.index_data import (
    JUDGED_VERSION,
    demo_documents,
    demo_qrels,
    demo_queries,
    missing_judged_ids,
)
from trlm_retrieval.index_data.topics import FEWEST_WORDS, MOST_WORDS, cut_topics

CODE = "   for i in range(3):\n       print(i)\n\n   done()"
LONG = "\n\n".join(f"Paragraph {i} " + "word " * 60 for i in range(6))
TOPICS = {
    "loops": f"""
Loops
*****

An introduction to loops that says what they are for and when to use one.

The "for" loop
==============

It runs over items:

{CODE}

The "while" loop
================

{LONG}
""",
    "again": f"""
Loops again
***********

{LONG}
""",
}


@pytest.fixture(scope="module")
def documents():
    return demo_documents()


def test_headings_give_paths_ids_and_titles():
    passages = {passage.id: passage for passage in cut_topics({"loops": TOPICS["loops"]})}
    assert passages["loops/loops/1"].headings == ("Loops",)
    assert passages["loops/the-for-loop/1"].headings == ("Loops", 'The "for" loop')
    assert {p.headings for p in passages.values() if "while" in p.id} == {
        ("Loops", 'The "while" loop')
    }
    assert not any("***" in p.text or "===" in p.text for p in passages.values())


def test_code_stays_whole_with_its_paragraph():
    [passage] = [p for p in cut_topics(TOPICS) if "for-loop" in p.id]
    assert passage.text == f"It runs over items:\n\n{CODE}"


def test_long_sections_are_cut_between_paragraphs_and_nothing_is_lost():
    passages = [p for p in cut_topics({"loops": TOPICS["loops"]}) if "while" in p.id]
    assert len(passages) > 1
    assert "\n\n".join(p.text for p in passages).split() == LONG.split()
    assert all(p.text.startswith("Paragraph") for p in passages)


def test_a_repeated_section_is_kept_once():
    ids = [passage.id for passage in cut_topics(TOPICS)]
    assert any(i.startswith("again/") for i in ids)
    assert not any("while" in i for i in ids)  # the same text stands under "again"


def test_a_paragraph_longer_than_a_passage_is_cut_between_lines():
    wall = "\n".join(" ".join(f"w{i}x{j}" for j in range(20)) for i in range(40))
    passages = cut_topics({"wall": f"Wall\n****\n\n{wall}\n"})
    assert len(passages) > 1
    assert sum(len(p.text.split()) for p in passages) == 800


def test_odd_texts_do_not_crash():
    for text in ("", "no heading at all", "***", "Title\n*****\n", "\n\n\n"):
        cut_topics({"odd": text})


def test_sizes_and_ids(documents):
    words = [len(document.content.split()) for document in documents]
    assert len(documents) > 200
    assert max(words) <= MOST_WORDS
    assert sum(count < FEWEST_WORDS for count in words) < 0.1 * len(words)
    assert len({document.id for document in documents}) == len(documents)
    assert all(document.meta["title"] and " " not in document.id for document in documents)
    assert [d.id for d in documents] == [d.id for d in demo_documents()]


def test_every_question_is_judged_and_has_an_answer():
    queries, qrels = demo_queries(), demo_qrels()
    assert len(queries) >= 80 and set(qrels) == set(queries)
    assert len(set(queries.values())) == len(queries)
    for query, grades in qrels.items():
        assert max(grades.values()) > 0, queries[query]
        assert len(grades) >= 10
    assert set(Counter(g for grades in qrels.values() for g in grades.values())) == {0, 1, 2, 3}


@pytest.mark.skipif(
    sys.version_info[:2] != JUDGED_VERSION, reason="the judgements name passages of CPython 3.11"
)
def test_judged_passages_exist():
    assert missing_judged_ids() == []
