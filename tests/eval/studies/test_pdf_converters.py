"""The figures of a converter of PDF tell joined and cut words, and what of a book was read."""

import gzip

from tests.passage_index.examples import pdf
from trlm_retrieval.eval.studies import pdf_converters
from trlm_retrieval.eval.studies.pdf_converters import Found, measure

KNOWN = {"pump", "valve", "opens", "water", "slowly"}


def test_figures():
    found = Found()
    measure(["The pump opens\nwatervalve slow-\nly", " "], KNOWN, "The pump opens slowly", found)
    assert (found.pages, found.empty, found.hyphens) == (2, 1, 1)
    assert (found.words, found.known, found.joined) == (4, 2, 1)
    assert (found.precision, found.recall) == ([3 / 6], [3 / 4])


def test_the_table_and_a_failure(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.pdf").write_bytes(pdf("The pump opens", "slowly"))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"The pump opens slowly"))
    (tmp_path / "b.pdf").write_bytes(b"no pdf")
    (tmp_path / "words").write_text("\n".join(KNOWN))
    converters = {"pypdfium2": pdf_converters.pypdfium2}
    monkeypatch.setattr(pdf_converters, "CONVERTERS", converters)
    arguments = ["x", str(tmp_path / "a.pdf"), str(tmp_path / "b.pdf")]
    monkeypatch.setattr("sys.argv", [*arguments, "--words", str(tmp_path / "words")])
    pdf_converters.main()
    shown = capsys.readouterr().out
    [row] = [line for line in shown.splitlines() if "pypdfium2 │" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[0] == "pypdfium2" and cells[3:] == [
        "0 of 2", "100.00%", "0.00%", "0", "100.00%", "100.00%", "1",
    ]  # fmt: skip
    assert "b.pdf: damaged PDF" in shown
