"""The simulated disk: what survives a power loss, and what must not."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from consensus.effects import Record, RecordKind
from consensus.sim.disk import PAGE, SECTOR, Disk
from consensus.sim.journal import Journal
from consensus.types import Height


def test_synced_bytes_survive_every_power_loss() -> None:
    for seed in range(50):
        disk = Disk()
        disk.allocate("a", 2 * PAGE)
        disk.sync_names()
        disk.write("a", 0, b"kept" * 1024)
        disk.sync("a")
        disk.write("a", PAGE, b"lost" * 1024)
        disk.lose_power(random.Random(seed))
        assert disk.read("a")[:PAGE] == b"kept" * 1024


def test_unsynced_pages_reach_the_platter_in_any_order() -> None:
    seen: set[tuple[bool, bool]] = set()
    for seed in range(200):
        disk = Disk()
        disk.allocate("a", 2 * PAGE)
        disk.sync_names()
        disk.write("a", 0, b"\1" * (2 * PAGE))
        disk.lose_power(random.Random(seed))
        content = disk.read("a")
        seen.add((content[:PAGE] == b"\1" * PAGE, content[PAGE:] == b"\1" * PAGE))
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


def test_a_torn_page_is_made_of_whole_sectors() -> None:
    torn = 0
    for seed in range(100):
        disk = Disk()
        disk.allocate("a", PAGE)
        disk.sync_names()
        disk.write("a", 0, b"\1" * PAGE)
        disk.lose_power(random.Random(seed))
        content = disk.read("a")
        sectors = {content[at : at + SECTOR] for at in range(0, PAGE, SECTOR)}
        assert sectors <= {bytes(SECTOR), b"\1" * SECTOR}
        torn += len(sectors) == 2
    assert torn > 10


def test_a_name_that_was_not_synced_may_vanish_and_a_removed_one_may_return() -> None:
    outcomes: set[tuple[str, ...]] = set()
    for seed in range(50):
        disk = Disk()
        disk.allocate("old", PAGE)
        disk.sync_names()
        disk.remove("old")
        disk.allocate("new", PAGE)
        assert disk.names() == ["new"]
        disk.lose_power(random.Random(seed))
        outcomes.add(tuple(disk.names()))
    assert outcomes == {(), ("new",), ("old",), ("new", "old")}


def test_a_process_reads_what_it_wrote_before_the_sync() -> None:
    disk = Disk()
    disk.allocate("a", PAGE)
    disk.write("a", 0, b"fresh")
    assert disk.read("a").startswith(b"fresh")


class _PowerFailsError(Exception):
    pass


@given(
    sizes=st.lists(st.integers(1, 9_000), min_size=1, max_size=12),
    fails_at=st.integers(0, 40),
    seed=st.integers(0, 2**32),
)
def test_a_journal_keeps_every_batch_that_was_acknowledged(
    sizes: list[int], fails_at: int, seed: int
) -> None:
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps > fails_at:
            raise _PowerFailsError

    disk = Disk()
    journal = Journal(disk, step, step)
    assert journal.load(Height(1)) == ()
    acknowledged: list[Record] = []
    written = [Record(RecordKind.BODY, bytes([number]) * size) for number, size in enumerate(sizes)]
    try:
        for record in written:
            journal.append((record,), Height(1))
            acknowledged.append(record)
    except _PowerFailsError:
        disk.lose_power(random.Random(seed))
    found = Journal(disk, lambda: None, lambda: None).load(Height(1))
    # All that was acknowledged, and at most the one batch that the power loss interrupted.
    assert list(found) in (acknowledged, written[: len(acknowledged) + 1])
