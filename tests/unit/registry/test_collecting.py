"""One collection at a time, by a timer or by hand, and an error ends nothing but its run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.registry.collecting import Collections
from pyrsia_node.registry.collector import Collector, Tally
from pyrsia_node.schema.collection import CollectionReport
from tests.fakes.collected_registry import POLICY, CollectedRegistry, in_memory


def _collections(shop: CollectedRegistry, pause_s: float) -> Collections:
    collector = Collector(shop.ports, shop.clock, shop.policy)
    return Collections(collector, shop.clock, pause_s=pause_s)


async def _report(collections: Collections, number: int) -> CollectionReport:
    async with asyncio.timeout(10):
        while True:
            last = collections.status().last
            if last is not None and last.number >= number:
                return last
            await asyncio.sleep(0.001)


def test_run_that_was_asked_for_is_reported(tmp_path: Path) -> None:
    async def scenario() -> None:
        shop = in_memory(tmp_path)
        shop.push("a", b"alone")
        shop.clock.ms += POLICY.grace_ms + 1
        collections = _collections(shop, 0)
        collections.start()
        assert (collections.status().number, collections.status().next_ms) == (0, 0)
        assert collections.begin(dry_run=True).number == 1
        with pytest.raises(UnavailableError, match="under way"):
            collections.begin()
        report = await _report(collections, 1)
        assert (report.dry_run, report.blobs) == (True, 1)
        collections.begin()
        report = await _report(collections, 2)
        assert (report.dry_run, report.blobs) == (False, 1)
        assert collections.status().stage == "idle"
        await collections.close()

    asyncio.run(scenario())


def test_timer_collects_again_and_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        collections = _collections(in_memory(tmp_path), 0.001)
        collections.start()
        await _report(collections, 3)
        await collections.close()
        number = collections.status().number
        await asyncio.sleep(0.01)
        assert collections.status().number == number

    asyncio.run(scenario())


def test_run_that_fails_is_told_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Collector, number: int, tally: Tally, *, dry_run: bool) -> CollectionReport:
        raise UnavailableError("the disk is full")

    async def scenario() -> None:
        collections = _collections(in_memory(tmp_path), 0)
        with monkeypatch.context() as patched:
            patched.setattr(Collector, "run", fail)
            collections.begin()
            assert (await _report(collections, 1)).error == "the disk is full"
        collections.begin()
        assert (await _report(collections, 2)).error == ""
        await collections.close()

    asyncio.run(scenario())
