"""The same system of several evaluations, compared query by query."""

import json

import pytest

from trlm_retrieval.cli import run as run_cli
from trlm_retrieval.errors import DataError
from trlm_retrieval.eval.compare import compare_results
from trlm_retrieval.eval.result import summarise


@pytest.fixture
def write(tmp_path):
    def write(name, values, data="few", measure="nDCG@10"):
        per_query = {"reverse": {measure: dict(zip("abcdefgh", values, strict=False))}}
        result = summarise(data, f"{name} model", per_query, measure, [], {"reverse": 1.0}, {}, [])
        result.write_json(tmp_path / f"{name}.json")
        return tmp_path / f"{name}.json"

    return write


def test_each_is_tested_against_the_one_before(write):
    files = [
        write("low", [0.1] * 8),
        write("high", [0.9, 0.8, 0.9, 0.7, 0.9, 0.8, 0.9, 0.7]),
        write("same", [0.9, 0.8, 0.9, 0.7, 0.9, 0.8, 0.9, 0.7]),
    ]
    found = compare_results(files, "reverse")
    assert list(found.systems) == ["low", "high", "same"]
    assert list(found.tests) == ["high vs low", "same vs high"]
    assert found.tests["high vs low"].difference == pytest.approx(0.725)
    assert found.tests["high vs low"].p < 0.05 < found.tests["same vs high"].p
    assert found.settings["models"]["low"] == "low model"


def test_what_does_not_fit_is_refused(write, tmp_path):
    one = write("one", [0.1, 0.2])
    for other, message in (
        (write("data", [0.1, 0.2], data="other"), "data 'other'"),
        (write("measure", [0.1, 0.2], measure="AP"), "measure 'AP'"),
        (write("fewer", [0.1]), "different queries"),
    ):
        with pytest.raises(DataError, match=message):
            compare_results([one, other], "reverse")
    with pytest.raises(DataError, match="no system 'forward'; it has reverse"):
        compare_results([one, one], "forward")
    with pytest.raises(DataError, match="different names"):
        compare_results([one, one], "reverse")
    (tmp_path / "odd.json").write_text(json.dumps({"per_query": {}}))
    with pytest.raises(DataError, match=r"odd\.json is not what"):
        compare_results([one, tmp_path / "odd.json"], "reverse")


def test_the_command_prints_the_ladder(write, capsys):
    files = [write("low", [0.1] * 8), write("high", [0.9] * 8)]
    assert run_cli(["eval", "compare", *map(str, files)]) == 0
    printed = capsys.readouterr().out
    assert "few: 8 queries, reverse" in printed and "high vs low: nDCG@10 +0.800" in printed
    assert run_cli(["eval", "compare", str(files[0])]) == 2
