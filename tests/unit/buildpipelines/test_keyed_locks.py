"""One task at a time works on a key, whatever becomes of the others; no lock stays behind."""

from __future__ import annotations

import asyncio

import pytest

from buildpipelines.inputs.keyed_locks import KeyedLocks


def test_one_at_a_time_works_on_a_key_also_after_one_that_failed() -> None:
    async def run() -> list[str]:
        locks, seen = KeyedLocks(), list[str]()

        async def work(name: str, *, fails: bool = False) -> None:
            async with locks.hold("key"):
                seen.append(f"{name} begins")
                await asyncio.sleep(0)
                seen.append(f"{name} ends")
                if fails:
                    raise ValueError(name)

        one = asyncio.create_task(work("one", fails=True))
        two = asyncio.create_task(work("two"))
        with pytest.raises(ValueError, match="one"):
            await one
        await asyncio.gather(two, work("three"))
        return seen

    names = ("one", "two", "three")
    assert asyncio.run(run()) == [f"{n} {what}" for n in names for what in ("begins", "ends")]


def test_other_keys_wait_for_nobody_and_no_lock_stays_behind() -> None:
    async def run() -> None:
        locks = KeyedLocks()
        async with locks.hold("a"):
            async with locks.hold("b"):
                pass
            waiting = asyncio.create_task(locks.hold("a").__aenter__())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        assert not locks._locks
        assert not locks._users

    asyncio.run(run())
