"""FilesToPassages gives what `trlm index` indexes."""

import pytest

from trlm_retrieval.components import FilesToPassages
from trlm_retrieval.errors import DataError
from trlm_retrieval.passage_index.reading import read


def test_reads_as_the_command_does(tmp_path, caplog):
    (tmp_path / "a.txt").write_text("Plain words. " * 20)
    (tmp_path / "b.png").write_bytes(b"x")
    found = FilesToPassages(max_characters=100).run([str(tmp_path)])
    assert found["documents"] == read([tmp_path], 100).passages
    assert len(found["documents"]) > 1
    [skipped] = found["skipped"]
    assert skipped == {"path": str(tmp_path / "b.png"), "reason": ".png files are not read"}
    assert f"skipped {tmp_path / 'b.png'}: .png files are not read" in caplog.text


def test_survives_a_round_trip(tmp_path):
    data = FilesToPassages(max_characters=90, duplicates="last").to_dict()
    again = FilesToPassages.from_dict(data)
    assert (again.max_characters, again.duplicates) == (90, "last")
    (tmp_path / "a.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}\n')
    [kept] = again.run([tmp_path])["documents"]
    assert kept.content == "b"
    with pytest.raises(DataError, match="--duplicates"):
        FilesToPassages().run([tmp_path])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="max_characters must be positive, not 0"):
        FilesToPassages(0)
    with pytest.raises(ValueError, match="duplicates must be 'fail', 'first' or 'last', not 'no'"):
        FilesToPassages(duplicates="no")
