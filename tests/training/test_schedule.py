"""Learning rates over a run, by steps and by time."""

import pytest

from trlm_retrieval.training.schedule import Schedule


def test_a_cosine_rises_then_falls_to_zero():
    schedule = Schedule(steps=100, learning_rate=1.0, warmup=0.1)
    rates = [schedule.rate(step, 0.0) for step in range(101)]
    assert 0 < rates[0] < rates[5] < rates[9] <= 1.0
    assert rates[10] == pytest.approx(1.0) and rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0.0) and rates[10:] == sorted(rates[10:], reverse=True)


def test_warm_up_stable_decay():
    schedule = Schedule(minutes=10, learning_rate=2.0, warmup=0.1, decay="wsd")
    rates = [schedule.rate(0, 60 * minute) for minute in range(11)]
    assert 0 < rates[0] < 0.1 and rates[1:9] == pytest.approx([2.0] * 8)
    assert rates[9] == pytest.approx(1.0) and rates[10] == pytest.approx(0.0)


def test_a_run_ends_by_what_was_given():
    assert Schedule(steps=4).done(4, 1e9) == 1 and Schedule(steps=4).done(3, 1e9) < 1
    assert Schedule(minutes=1).done(10**9, 59) < 1 and Schedule(minutes=1).done(1, 61) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"steps": 1, "minutes": 1.0},
        {"steps": 0},
        {"steps": 1, "learning_rate": 0.0},
        {"steps": 1, "warmup": 1.0},
        {"steps": 1, "decay": "linear"},
    ],
)
def test_bad_schedules(settings):
    with pytest.raises(ValueError):
        Schedule(**settings)
