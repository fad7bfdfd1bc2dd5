"""The plan's arithmetic is what can be worked out by hand."""

import pytest

from trlm_retrieval.eval.bench.offline_plan import Plan, arithmetic, main


def test_the_arithmetic_adds_up(capsys):
    cells = [list(column.cells) for column in arithmetic(Plan()).columns]
    hours = 1e9 * 176 / (990e12 * 0.15 / 270e6) / 3600
    assert cells[1][0] == f"{1e9 * 176:.3g}" and cells[5][2] == "378 TB"
    assert cells[2][0] == f"{hours:,.1f}" and cells[3][0] == f"{hours / 64:,.2f}"
    main(["--pairs", "1e7", "--gpus", "2"])
    assert "100 shards" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--gpus", "0"])
