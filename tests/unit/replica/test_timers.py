"""Timers fire in order of time, and a new one of a kind replaces the old."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from consensus.effects import SetTimer
from consensus.events import TimerFired, TimerKind
from consensus.types import Height, View
from pyrsia_node.replica.timers import Timers


def timer(kind: TimerKind, view: int, delay_ms: int) -> SetTimer:
    return SetTimer(kind, Height(1), View(view), delay_ms)


async def test_the_earlier_deadline_fires_first(autojump_clock: MockClock) -> None:
    timers = Timers()
    timers.set(timer(TimerKind.VIEW, 0, 900))
    timers.set(timer(TimerKind.RETRY, 0, 300))
    assert await timers.next() == TimerFired(TimerKind.RETRY, Height(1), View(0))
    assert trio.current_time() >= 0.3
    assert await timers.next() == TimerFired(TimerKind.VIEW, Height(1), View(0))
    assert trio.current_time() >= 0.9


async def test_a_new_timer_of_a_kind_replaces_the_old_one(autojump_clock: MockClock) -> None:
    timers = Timers()
    timers.set(timer(TimerKind.VIEW, 0, 100))
    timers.set(timer(TimerKind.VIEW, 1, 500))
    assert await timers.next() == TimerFired(TimerKind.VIEW, Height(1), View(1))
    assert trio.current_time() >= 0.5


async def test_a_timer_set_while_waiting_is_noticed(autojump_clock: MockClock) -> None:
    timers = Timers()
    timers.set(timer(TimerKind.VIEW, 0, 60_000))
    fired: list[TimerFired] = []

    async def wait() -> None:
        fired.append(await timers.next())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(0.01)
        timers.set(timer(TimerKind.RETRY, 3, 20))
    assert fired == [TimerFired(TimerKind.RETRY, Height(1), View(3))]
    assert trio.current_time() < 1
