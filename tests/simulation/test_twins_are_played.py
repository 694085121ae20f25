"""Twins: each scenario is played once, equal ones are collapsed, and the core bears them all."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest

from consensus.sim.mutants import planted
from consensus.sim.stage import Stage
from consensus.sim.twins import Cast, Round

SMALL = Cast(n=4, pairs=1, rounds=1)
FOUR = Cast(n=4, pairs=1, rounds=4)
SEVEN = Cast(n=7, pairs=2, rounds=4)


def test_a_cast_knows_every_way_to_divide_its_copies() -> None:
    # The Stirling numbers S(5, 1) + S(5, 2) + S(5, 3) = 1 + 15 + 25.
    assert len(SMALL.partitions) == len(set(SMALL.partitions)) == 41
    assert SMALL.size == 4 * 41
    assert FOUR.size == (4 * 41) ** 4
    assert len(SEVEN.partitions) == 1 + 255 + 3_025


def test_the_walk_visits_one_scenario_of_each_family_once() -> None:
    visited = list(SMALL.walk(0, SMALL.size))
    families = {_family(SMALL.scenario(number)[0]) for number in range(SMALL.size)}
    assert len(visited) == len(set(visited)) == len(families)
    assert {_family(SMALL.scenario(number)[0]) for number in visited} == families


def _family(one: Round) -> frozenset[tuple[int, tuple[int, ...]]]:
    """Return every round that differs from ``one`` by the names of equal copies alone."""
    found = set()
    for others in permutations((1, 2, 3)):
        for twins in ((0, 4), (4, 0)):
            place = {0: twins[0], 4: twins[1], **dict(zip((1, 2, 3), others, strict=True))}
            parts = [0] * 5
            for copy, part in enumerate(one.parts):
                parts[place[copy]] = part
            numbers: dict[int, int] = {}
            in_order = tuple(numbers.setdefault(part, len(numbers)) for part in parts)
            found.add((one.leader if one.leader == 0 else place[one.leader], in_order))
    return frozenset(found)


def test_the_walk_can_be_cut_anywhere() -> None:
    cast = Cast(n=4, pairs=1, rounds=2)
    whole = list(cast.walk(0, 3_000))
    assert whole == [*cast.walk(0, 1_234), *cast.walk(1_234, 3_000)]
    assert len(set(whole)) == len(whole)
    assert list(cast.walk(cast.size - 1, cast.size + 500)) == list(
        cast.walk(cast.size - 1, cast.size)
    )


@pytest.mark.parametrize(("cast", "end"), [(FOUR, 600), (Cast(4, 1, 2), 400), (SEVEN, 6)])
def test_the_core_bears_a_sample_of_scenarios(cast: Cast, end: int) -> None:
    views: Counter[int] = Counter()
    for number in cast.walk(0, end):
        played = Stage(cast, number).play()
        assert played.violation is None, f"scenario {number} of {cast}: {played.violation}"
        views[played.view_max] += 1
    assert len(views) > 1, "the script delays some and not others"


def test_a_performance_is_a_function_of_its_number() -> None:
    number = next(FOUR.walk(40, 80))
    assert Stage(FOUR, number).play() == Stage(FOUR, number).play()


def test_telling_a_performance_changes_nothing() -> None:
    told: list[str] = []
    number = next(FOUR.walk(0, 80))
    assert Stage(FOUR, number, told.append).play() == Stage(FOUR, number).play()
    assert any("COMMITS 1" in line for line in told)


@pytest.mark.parametrize("bug", ["quorum-minus-one", "finalize-after-nullify"])
def test_twins_find_planted_bugs(bug: str) -> None:
    with planted(bug):
        found = (Stage(FOUR, number).play().violation for number in FOUR.walk(0, 3_000))
        assert any(found), f"no scenario shows {bug}"
