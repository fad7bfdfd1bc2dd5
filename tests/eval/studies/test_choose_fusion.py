"""The fusions that a study compares are those that users have."""

import sys

from haystack import Document
from haystack.components.joiners import DocumentJoiner

from trlm_retrieval.eval.dataset import load_dataset
from trlm_retrieval.eval.retrieval.first_stage import joined, search
from trlm_retrieval.eval.studies import choose_fusion
from trlm_retrieval.eval.studies.choose_fusion import EQUAL, RANKS


def test_equal_weights_are_what_the_evaluation_fuses(beir, tmp_path):
    dataset = load_dataset(str(beir))
    runs = search(dataset, ("bm25", "dense"), (), 100, "minilm", tmp_path, {}, show_progress=False)
    mean = joined([runs["bm25"], runs["dense"]], choose_fusion.joiners()[EQUAL])
    assert mean == runs["fusion"]
    ranks = joined([runs["bm25"], runs["dense"]], choose_fusion.joiners()[RANKS])
    query = next(iter(ranks))
    lists = [
        [Document(id=name, score=score) for name, score in runs[stage][query].items()]
        for stage in ("bm25", "dense")
    ]
    expected = DocumentJoiner(join_mode="reciprocal_rank_fusion").run(lists)["documents"]
    assert ranks[query] == {document.id: document.score for document in expected}
    assert ranks != mean


def test_the_command_prints_a_row_for_each_fusion_and_tests(beir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["choose_fusion", str(beir)])
    choose_fusion.main()
    out = capsys.readouterr().out
    assert sum("/" in line for line in out.splitlines()) == len(choose_fusion.joiners()) + 1
    assert f"{EQUAL} less {RANKS}" in out
