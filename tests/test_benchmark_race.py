"""The race of the benchmarks: what a first call took that compiled something says nothing about the next."""

from __future__ import annotations

import time

from benchmarks import worker


def test_a_first_call_that_compiles_is_made_again() -> None:
    waits = [1.1 * worker.SLOW, 0.0, 0.0]
    assert worker.first_call(lambda: time.sleep(waits.pop(0)))[0] < worker.SLOW
    assert len(waits) == 1


def test_a_slow_call_is_its_own_probe() -> None:
    waits = [1.1 * worker.SLOW] * 3
    assert worker.first_call(lambda: time.sleep(waits.pop()))[0] >= worker.SLOW
    assert len(waits) == 1


def test_a_quick_call_is_made_once() -> None:
    calls: list[int] = []
    assert worker.first_call(lambda: calls.append(1))[0] < worker.SLOW
    assert calls == [1]
