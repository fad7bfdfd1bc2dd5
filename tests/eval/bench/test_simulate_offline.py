"""The simulation gives what can be worked out by hand."""

import pytest

from trlm_retrieval.eval.bench.simulate_offline import (
    Plan,
    arithmetic,
    main,
    simulate,
    simulate_plan,
)


def test_without_failures_actors_share_the_shards():
    found = simulate([10.0] * 8, [1.0, 1.0], load_seconds=5, restart_seconds=3)
    assert (found.seconds, found.failures, found.lost) == (45, 0, 0)
    assert found.loading == 10


def test_a_killed_actor_loses_its_shard_and_loads_again():
    found = simulate([10.0] * 4, [1.0], 5, 3, killed=[(22.0, 0)])
    # loads 0-5, shard to 15, dies at 22 in the second, back at 30, three shards more
    assert (found.seconds, found.failures, found.lost) == (60, 1, 7)
    assert found.loading == 5 + 3 + 5


def test_a_slow_actor_does_not_hold_up_the_end():
    found = simulate([10.0] * 3, [1.0, 0.1], 0, 0)
    # the fast one does two shards, then the one that the slow one would have had until 100
    assert found.seconds == 30


def test_failures_come_as_often_as_is_assumed():
    plan = Plan(pairs=2e8, actors=16, hours_between_failures=0.5, speed_spread=0.0)
    found = [simulate_plan(plan, seed) for seed in range(20)]
    hours = sum(one.seconds for one in found) / 3600 * plan.actors
    assert sum(one.failures for one in found) == pytest.approx(hours / 0.5, rel=0.2)
    ideal = plan.pairs / plan.pairs_a_second / plan.actors
    assert all(ideal < one.seconds < 1.5 * ideal for one in found)


def test_the_arithmetic_adds_up(capsys):
    plan = Plan()
    cells = [list(column.cells) for column in arithmetic(plan).columns]
    assert cells[1][0] == f"{1e9 * 176:.3g}" and cells[4][2] == "378 TB"
    hours = 1e9 * 176 / (990e12 * 0.15 / 270e6) / 3600
    assert cells[2][0] == f"{hours:,.1f}"
    main(["--pairs", "1e7", "--runs", "2"])
    assert "simulated, median of 2" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--actors", "0"])
