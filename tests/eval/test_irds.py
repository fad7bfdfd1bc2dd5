"""Collections of ir_datasets, made of local files and registered under names of their own."""

from typing import NamedTuple

import ir_datasets
import pytest
from ir_datasets.formats import BaseDocs, TrecQrels, TsvDocs, TsvQueries

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.dataset import load_dataset

from .conftest import CORPUS, QRELS, QUERIES, write_lines


class Titled(NamedTuple):
    doc_id: str
    title: str
    text: str


class Headed(NamedTuple):
    doc_id: str
    head: str
    body: str

    def default_text(self):
        return f"{self.head} {self.body}"


class Picture(NamedTuple):
    doc_id: str
    png: bytes


class Docs(BaseDocs):
    """Documents from memory."""

    def __init__(self, *documents):
        self.documents = documents

    def docs_iter(self):
        return iter(self.documents)


@pytest.fixture
def files(tmp_path):
    """The tiny collection in the formats that ir_datasets reads."""
    paths = {kind: tmp_path / "irds" / kind for kind in ("docs", "queries", "qrels")}
    write_lines(paths["docs"], [f"{key}\t{text}" for key, (_, text) in CORPUS.items()])
    write_lines(paths["queries"], [f"{key}\t{text}" for key, text in QUERIES.items()])
    write_lines(
        paths["qrels"], [f"{query} 0 {document} {grade}" for query, document, grade in QRELS]
    )
    return paths


@pytest.fixture
def register():
    """Registers a collection made of these parts; gives what `--data` takes."""
    names = []

    def register(*parts):
        names.append(f"trlm-test-{len(names)}")
        ir_datasets.registry.register(names[-1], ir_datasets.Dataset(*parts))
        return f"irds:{names[-1]}"

    yield register
    for name in names:
        del ir_datasets.registry._registered[name]


@pytest.fixture
def judged(files):
    """Queries and judgements, without documents."""
    local = ir_datasets.util.LocalDownload
    return TsvQueries(local(files["queries"])), TrecQrels(local(files["qrels"]), {})


def test_it_is_the_collection_that_the_beir_folder_is(files, register, beir):
    made = ir_datasets.create_dataset(
        docs_tsv=files["docs"], queries_tsv=files["queries"], qrels_trec=files["qrels"]
    )
    data = register(made)
    found, expected = load_dataset(data), load_dataset(str(beir))
    assert found.name == data and found.warnings == []
    assert found.queries == expected.queries and found.qrels == expected.qrels
    assert {d.id: d.content for d in found.documents} == {
        d.id: d.content for d in expected.documents
    }


def test_titles_and_documents_of_other_shapes(judged, register):
    documents = Docs(Titled("d1", "With", "calls exit"), Headed("d2", "Generator", "yields values"))
    first, second = load_dataset(register(documents, *judged)).documents
    assert (first.id, first.content, first.meta) == ("d1", "calls exit", {"title": "With"})
    assert (second.id, second.content, second.meta) == ("d2", "Generator yields values", {})
    with pytest.raises(DataError, match=r"its documents hold no plain text, only .*png"):
        load_dataset(register(Docs(Picture("d1", b"")), *judged))


def test_an_unknown_name():
    with pytest.raises(DataError, match="irds:nowhere/test: ir_datasets has no collection of that"):
        load_dataset("irds:nowhere/test")
    with pytest.raises(DataError, match="no collection of that name"):
        load_dataset("irds:")


def test_what_a_collection_lacks_is_named(judged, register):
    queries, qrels = judged
    documents = Docs(Titled("d1", "", "text"))
    for parts, told in (
        ((documents, queries), "the collection has no judgements; often an id below it"),
        ((queries, qrels), "the collection has no documents; "),
        ((documents,), "the collection has no queries and no judgements; "),
    ):
        with pytest.raises(DataError, match=told):
            load_dataset(register(*parts))
    # A real one, of which nothing is needed to know this.
    with pytest.raises(DataError, match="irds:beir/scifact: the collection has no judgements"):
        load_dataset("irds:beir/scifact")


def test_what_is_not_on_the_disk_and_cannot_be_downloaded(files, judged, register, tmp_path):
    files["docs"].unlink()
    missing = TsvDocs(ir_datasets.util.LocalDownload(files["docs"]))
    nobody = ir_datasets.util.RequestsDownload("http://127.0.0.1:9/docs.tsv", tries=1)
    refused = ir_datasets.util.Download([nobody], tmp_path / "docs.tsv")
    for documents, told in ((missing, "FileNotFoundError"), (TsvDocs(refused), "ConnectionError")):
        with pytest.raises(DataError, match=rf"{told}.*copy ~/\.ir_datasets from there"):
            load_dataset(register(documents, *judged))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("q1 0 d1 1", "row 6: gives document 'd1' the grade 1 .* and row 1 gives it 2"),
        ("q1 0 d2 high", "ir_datasets cannot give it"),
    ],
)
def test_bad_judgements_are_told(files, judged, register, line, told):
    with files["qrels"].open("a") as out:
        out.write(line + "\n")
    documents = TsvDocs(ir_datasets.util.LocalDownload(files["docs"]))
    with pytest.raises(DataError, match=told):
        load_dataset(register(documents, *judged))


def test_the_command_evaluates_it(files, register, tmp_path, capsys):
    made = ir_datasets.create_dataset(
        docs_tsv=files["docs"], queries_tsv=files["queries"], qrels_trec=files["qrels"]
    )
    options = ["--systems", "bm25", "--cache-dir", str(tmp_path / "cache")]
    data = register(made)
    assert run_cli(["eval", "retrieval", "--data", data, *options]) == 0
    assert capsys.readouterr().out.startswith(f"{data}: 3 queries, no model")
    assert run_cli(["eval", "retrieval", "--data", "irds:nowhere", *options]) == 2
    assert capsys.readouterr().err.startswith("error: --data irds:nowhere: ir_datasets has no")
