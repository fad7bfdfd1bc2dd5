"""Any text, number and JSON is answered or refused with a clear error, and never crashes."""

import json
import math
import string

import pytest
from haystack import Document
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.components import TRLMAnswerRanker, TRLMCitationAttributor, TRLMRanker
from trlm_retrieval.errors import TRLMError
from trlm_retrieval.lm.template import Template
from trlm_retrieval.passage_index import PassageIndex

fuzz = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# Everything that a str can hold: unpaired surrogates, NUL, other scripts, our own markers.
TEXT = st.one_of(
    st.text(st.characters(), max_size=80),
    st.text(st.sampled_from("\x00\ufeff\u202e\u200b\ud800\udfff\n\t .<|>é漢🙂"), max_size=40),
    st.sampled_from(["<|start|>", "<|end|>", "Passage: {passage}", "Question:", "[1][2]", " "]),
)
META = st.dictionaries(
    st.text(string.ascii_letters, min_size=1, max_size=8),
    st.one_of(TEXT, st.integers(), st.booleans(), st.none(), st.lists(st.integers(), max_size=3)),
    max_size=3,
)


def documents(texts, metas, scores):
    triples = zip(texts, metas, scores, strict=False)
    return [
        Document(id=str(number), content=text, meta=meta, score=score)
        for number, (text, meta, score) in enumerate(triples)
    ]


DOCUMENTS = st.builds(
    documents,
    st.lists(TEXT, max_size=6),
    st.lists(META, min_size=6, max_size=6),
    st.lists(st.none() | st.floats(-1e300, 1e300), min_size=6, max_size=6),
)


@fuzz
@given(query=TEXT, documents=DOCUMENTS, top_k=st.integers(-1, 8))
def test_ranker(tiny_lm, query, documents, top_k):
    ranker = TRLMRanker(tiny_lm, max_passage_tokens=64)
    try:
        found = ranker.run(query, documents, top_k=top_k, explain=True)["documents"]
    except ValueError as error:
        assert any(name in str(error) for name in ("query", "top_k", "document", "scores"))
        return
    scores = [document.score for document in found]
    assert len(found) == min(top_k, len(documents)) and scores == sorted(scores, reverse=True)
    assert all(math.isfinite(score) for score in scores)
    by_id = {document.id: document for document in documents}
    for document in found:
        assert document.content == by_id[document.id].content
        gains, gain = (document.meta["trlm"][name] for name in ("token_gains", "gain"))
        if gain is None:  # a blank document is not scored, and comes last
            assert not gains and not (document.content or "").strip()
            continue
        assert sum(token["gain"] for token in gains) == pytest.approx(gain, abs=1e-2)


@fuzz
@given(pairs=st.lists(st.tuples(TEXT, TEXT), max_size=5), direction=st.sampled_from(["ba", "fo"]))
def test_a_score_does_not_depend_on_the_others_in_its_batch(tiny_lm, pairs, direction):
    together = tiny_lm.score(pairs, direction)
    for pair, found in zip(pairs, together, strict=True):
        [alone] = tiny_lm.score([pair], direction)
        assert found.sum == pytest.approx(alone.sum, abs=1e-2) and found.sum <= 0


@fuzz
@given(reply=TEXT, documents=DOCUMENTS)
def test_citation_attributor(tiny_lm, reply, documents):
    attributor = TRLMCitationAttributor(tiny_lm, score_threshold=-1e9, write_markers=True)
    [answer] = attributor.run(replies=[reply], documents=documents)["answers"]
    for sentence in answer.meta["trlm"]["sentences"]:
        assert reply[sentence["start"] : sentence["end"]] == sentence["text"]
        for citation in sentence["citations"]:
            source = documents[citation["number"] - 1]
            assert source.content[citation["start"] : citation["end"]] == citation["quote"]


@fuzz
@given(query=TEXT, replies=st.lists(TEXT, max_size=5))
def test_answer_ranker(tiny_lm, query, replies):
    try:
        found = TRLMAnswerRanker(tiny_lm).run(query=query, replies=replies)
    except ValueError as error:
        assert "query" in str(error) or "repl" in str(error)
        return
    assert sorted(found["replies"]) == sorted(replies)
    assert all(math.isfinite(score) for score in found["scores"])


def _joined(text):
    """Two surrogates that make a pair are one character, as JSON reads them back."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


@fuzz
@example(documents=[Document(id="0", content="\ud800\udc00 of a pair")], query="pair", top_k=1)
@given(documents=DOCUMENTS, query=TEXT, top_k=st.integers(-1, 8))
def test_index(tmp_path_factory, word_embedder, documents, query, top_k):
    folder = tmp_path_factory.mktemp("fuzz") / "index"
    try:
        index = PassageIndex.build(folder, documents, embedder=word_embedder)
    except ValueError as error:
        assert "document" in str(error)
        assert not documents or any(not (d.content or "").strip() for d in documents)
        return
    try:
        found = index.search_bm25(query, top_k=top_k) + index.search_dense(query, top_k=top_k)
    except ValueError as error:
        assert "query" in str(error) or "top_k" in str(error)
        return
    by_id = {document.id: document for document in documents}
    assert all(document.content == _joined(by_id[document.id].content) for document in found)
    assert len(PassageIndex.open(folder)) == len(documents)


@fuzz
@given(context=TEXT, target=TEXT)
def test_template(context, target):
    try:
        template = Template("fuzz", "forward", context, target)
    except ValueError as error:
        assert "placeholder" in str(error)
        return
    assert set(template.fields) == {"query", "passage"}


@settings(fuzz, max_examples=25)
@given(line=st.lists(TEXT.filter(lambda text: text.isprintable()), max_size=4))
def test_command_line(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code = run_cli(["search", "--index", str(tmp_path / "no-index"), *line])
    printed = capsys.readouterr()
    assert code in (0, 2)
    assert code == 0 or ("error: " in printed.err and "Traceback" not in printed.err)


def test_manifest_of_anything(tmp_path, word_embedder):
    folder = tmp_path / "index"
    PassageIndex.build(folder, [Document(id="a", content="words")], embedder=word_embedder)
    manifest = folder / "manifest.json"
    whole = json.loads(manifest.read_text())

    @settings(max_examples=80, deadline=None)
    @given(
        key=st.sampled_from(sorted(whole)),
        value=st.recursive(
            st.none() | st.booleans() | st.integers() | TEXT,
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
            max_leaves=5,
        ),
    )
    def open_changed(key, value):
        manifest.write_text(json.dumps({**whole, key: value}))
        try:
            index = PassageIndex.open(folder)
        except TRLMError as error:
            assert str(folder) in str(error)
        else:
            assert len(index) == 1

    open_changed()
