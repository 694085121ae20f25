"""The plan is the seed's; the weather does to packets what it says; a power cut takes its pages."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from tests.chaos.hub import FAIR, Weather, partition
from tests.chaos.plan import CUT_EVERY, SECONDS, WEIGHTS, Fault, episodes
from tests.chaos.power import PAGE_BYTES, Unsynced, cut_power, make_note, read_note

LABELS = [f"n{number}" for number in range(7)]


def test_a_plan_is_a_function_of_its_seed() -> None:
    first = list(islice(episodes(7, LABELS, seconds_max=60), 50))
    assert first == list(islice(episodes(7, LABELS, seconds_max=60), 50))
    assert first != list(islice(episodes(8, LABELS, seconds_max=60), 50))


def test_every_fault_comes_as_often_as_its_weight_says() -> None:
    pack = sum(WEIGHTS.values())
    between_cuts = pack * CUT_EVERY // (CUT_EVERY - 1)
    found = Counter(
        each.fault for each in islice(episodes(1, LABELS, seconds_max=60), between_cuts)
    )
    assert found.pop(Fault.POWER_CUT) == between_cuts // CUT_EVERY
    assert found == WEIGHTS
    assert set(SECONDS) == set(Fault)


def test_no_episode_is_longer_than_asked() -> None:
    assert all(each.seconds <= 3 for each in islice(episodes(2, LABELS, seconds_max=3), 100))


def test_a_partition_blocks_both_ways_between_groups_and_nothing_inside() -> None:
    assert partition(("a", "b"), ("c",)) == {("a", "c"), ("c", "a"), ("b", "c"), ("c", "b")}


def test_weather_blocks_one_way_delays_around_its_mean_and_loses_its_share() -> None:
    rng = Random(3)
    assert FAIR.delay_of("a", "b", rng) == 0.0
    one_way = Weather(blocked=frozenset({("a", "b")}))
    assert one_way.delay_of("a", "b", rng) is None
    assert one_way.delay_of("b", "a", rng) == 0.0
    slow = [Weather(delay_ms={"a": 100}).delay_of("a", "b", rng) for _ in range(200)]
    assert all(each is not None and 0.05 <= each <= 0.15 for each in slow)
    assert len(set(slow)) > 100
    poor = Weather(loss={"b": 0.25})
    lost = sum(poor.delay_of("a", "b", rng) is None for _ in range(2000))
    assert 400 < lost < 600
    assert all(poor.delay_of("a", "c", rng) == 0.0 for _ in range(100))


@pytest.mark.parametrize("fate", ["kept", "lost", "torn"])
def test_a_power_cut_takes_unsynced_pages_and_no_others(fate: str, tmp_path: Path) -> None:
    path = tmp_path / "1.wal"
    path.write_bytes(b"x" * (5 * PAGE_BYTES))
    unsynced = Unsynced(path, PAGE_BYTES, 3 * PAGE_BYTES)
    cut_power(unsynced, fate, Random(1))  # type: ignore[arg-type] # one of the three literals
    content = path.read_bytes()
    pages = [content[start : start + PAGE_BYTES] for start in range(0, len(content), PAGE_BYTES)]
    full, empty = b"x" * PAGE_BYTES, bytes(PAGE_BYTES)
    assert len(content) == 5 * PAGE_BYTES
    assert pages[0] == pages[4] == full
    lost = pages[1:4].count(empty)
    assert {"kept": lost == 0, "lost": lost == 3, "torn": 1 <= lost <= 3}[fate]
    assert lost + pages[1:4].count(full) == 3


def test_a_note_tells_what_is_not_synced(tmp_path: Path) -> None:
    note = tmp_path / "note"
    make_note(note)
    assert read_note(note) is None
    text = b"\x014096 8192 /data/wal/1 2.wal\0"
    note.write_bytes(text + note.read_bytes()[len(text) :])
    assert read_note(note) == Unsynced(Path("/data/wal/1 2.wal"), 4096, 8192)
