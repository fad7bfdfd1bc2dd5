"""Sixteen threads share one ranker, whose states are thrown out all the time."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from haystack import Document

from trlm_retrieval.components import TRLMRanker
from trlm_retrieval.lm import PassageStates

THREADS, ROUNDS = 16, 6
DOCUMENTS = [
    Document(id=str(i), content=f"Passage {i} tells of {'generators and ' * (i % 7)}keys.")
    for i in range(24)
]
QUERIES = [f"what does passage {i} tell about keys" for i in range(THREADS)]


@pytest.mark.parametrize("bytes_of_states", [0, 30_000, 10_000_000])
def test_sixteen_threads_get_the_scores_of_one(tiny_lm, bytes_of_states):
    tiny_lm.states = PassageStates(0)
    alone = TRLMRanker(tiny_lm, first_stage_weight=0.0, top_k=24)
    expected = [
        {document.id: document.score for document in alone.run(query, DOCUMENTS)["documents"]}
        for query in QUERIES
    ]
    shared = TRLMRanker(tiny_lm, first_stage_weight=0.0, top_k=24)
    shared.warm_up()
    states = tiny_lm.states = PassageStates(bytes_of_states)

    def ask(number):
        found = [
            shared.run(QUERIES[number], DOCUMENTS[number % 5 :: 1 + turn])["documents"]
            for turn in range(ROUNDS)
        ]
        return [{document.id: document.score for document in documents} for documents in found]

    with ThreadPoolExecutor(THREADS) as threads:
        answers = list(threads.map(ask, range(THREADS)))
    for number, rounds in enumerate(answers):
        assert len(rounds[0]) == len(DOCUMENTS[number % 5 :])
        for scores in rounds:
            assert scores == pytest.approx({id: expected[number][id] for id in scores}, abs=1e-3)
    assert states.bytes <= bytes_of_states
    assert bytes_of_states == 0 or states.hits > 0
