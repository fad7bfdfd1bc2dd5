"""The gate lets in what it can do and turns all else away."""

import asyncio
import threading
import time

import pytest

from trlm_retrieval.serving.gate import Busy, Gate, TooSlow


class Blocker:
    """Work that waits until it is released."""

    def __init__(self):
        self.began, self.go_on = threading.Event(), threading.Event()

    def __call__(self):
        self.began.set()
        assert self.go_on.wait(10)
        return "done"


async def begun(blocker):
    assert await asyncio.to_thread(blocker.began.wait, 10)


async def test_work_runs_in_another_thread_and_its_errors_come_back():
    gate = Gate(workers=1, queue=0, timeout=5)
    assert await gate.run(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await gate.run(lambda: 1 / 0)

    def own_timeout():
        raise TimeoutError("of the work itself")

    with pytest.raises(TimeoutError, match="of the work itself"):
        await gate.run(own_timeout)
    assert not gate.is_full


async def test_one_more_than_workers_and_queue_is_turned_away_at_once():
    changes = []
    gate = Gate(workers=1, queue=1, timeout=5, on_change=changes.append)
    first, second = Blocker(), Blocker()
    running = asyncio.create_task(gate.run(first))
    await begun(first)
    waiting = asyncio.create_task(gate.run(second))
    await asyncio.sleep(0)
    assert gate.is_full
    with pytest.raises(Busy):
        await gate.run(lambda: pytest.fail("must not run"))
    first.go_on.set()
    second.go_on.set()
    assert await asyncio.gather(running, waiting) == ["done", "done"]
    assert await gate.run(lambda: "again") == "again"
    assert sum(changes) == 0 and changes.count(1) == 3


async def test_who_waits_too_long_is_turned_away_and_never_run():
    gate = Gate(workers=1, queue=1, timeout=0.2)
    blocker, ran = Blocker(), []
    running = asyncio.create_task(gate.run(blocker))
    await begun(blocker)
    with pytest.raises(TooSlow):
        await running
    with pytest.raises(Busy):
        await gate.run(lambda: ran.append(1))
    blocker.go_on.set()
    assert await gate.run(lambda: "free") == "free"
    assert not ran


async def test_the_time_of_work_begins_when_its_wait_is_over():
    gate = Gate(workers=1, queue=1, timeout=0.5)
    waits = [0.4, 0.4]
    found = await asyncio.gather(*(gate.run(lambda wait=wait: time.sleep(wait)) for wait in waits))
    assert found == [None, None]  # the second is done 0.8 s after it came


async def test_slow_work_keeps_its_place_until_it_is_done():
    gate = Gate(workers=1, queue=0, timeout=0.1)
    blocker = Blocker()
    with pytest.raises(TooSlow):
        await gate.run(blocker)
    with pytest.raises(Busy):
        await gate.run(lambda: None)
    blocker.go_on.set()
    deadline = time.monotonic() + 5
    while gate.is_full and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    assert await gate.run(lambda: "free") == "free"


async def test_a_request_given_up_leaves_the_queue():
    gate = Gate(workers=1, queue=1, timeout=5)
    blocker, ran = Blocker(), []
    running = asyncio.create_task(gate.run(blocker))
    await begun(blocker)
    waiting = asyncio.create_task(gate.run(lambda: ran.append(1)))
    await asyncio.sleep(0.01)
    assert gate.is_full
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not gate.is_full
    blocker.go_on.set()
    assert await running == "done" and not ran


async def test_a_closed_gate_finishes_what_began_and_lets_nobody_in():
    gate = Gate(workers=1, queue=1, timeout=5)
    blocker = Blocker()
    running = asyncio.create_task(gate.run(blocker))
    await begun(blocker)
    gate.close()
    with pytest.raises(Busy):
        await gate.run(lambda: None)
    blocker.go_on.set()
    assert await running == "done"
