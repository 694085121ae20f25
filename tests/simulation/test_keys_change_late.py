"""A rotated member goes on for a while with the key that the set no longer names."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from consensus.sim import keys
from consensus.sim.clock import SECOND
from consensus.sim.cluster import Cluster
from consensus.sim.machine import TransactionKind, transaction
from consensus.sim.mutants import planted
from consensus.sim.network import Weather
from consensus.sim.plan import plan
from consensus.sim.schedule import Schedule, Submission
from consensus.types import NodeId

NODES = tuple(NodeId(f"n{number}") for number in range(4))
ROTATED = NODES[1]
CALM = Weather(1_000, 2_000, loss=0, duplicate=0, straggle=0, straggle_us_max=SECOND)


def rotation(seed: int, n: int) -> Schedule:
    """One rotation among work for ten seconds, and some more when the network has settled."""
    drawn = plan(seed, n=n, actors=(), traitors_max=0).without_trouble()
    work = [
        Submission(
            at_us=number * SECOND // 4 if number < 40 else (number - 9) * SECOND,
            node=NODES[number % n],
            transaction=transaction(
                TransactionKind.NEW_SET if number == 4 else TransactionKind.PLAIN, number
            ),
        )
        for number in range(44)
    ]
    return replace(
        drawn,
        nodes=NODES[:n],
        sets=(NODES[:n],) * 2,
        rotations=(None, ROTATED),
        arrivals_us=(0,) * n,
        traitors=(),
        actors=(),
        gst_us=30 * SECOND,
        weather=CALM,
        clocks=drawn.clocks[:1] * n,
        work=tuple(work),
    )


def story_of(schedule: Schedule) -> list[str]:
    """Return what the rotated member did, in order."""
    lines: list[str] = []
    outcome = Cluster(schedule, lines.append).run()
    assert outcome.violation is None
    told = [line.split(maxsplit=1)[1] for line in lines]
    return [line.removeprefix(f"{ROTATED} ").strip() for line in told if line.startswith(ROTATED)]


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_between_rotation_and_start_it_says_nothing_and_then_it_votes(seed: int, n: int) -> None:
    story = story_of(rotation(seed, n))
    held = story.index("holds a key that was replaced")
    begun = next(at for at, line in enumerate(story) if at > held and line.startswith("boots"))
    assert not [line for line in story[held:begun] if "votes to" in line or "proposes" in line]
    assert [line for line in story[:held] if "votes to" in line]
    assert [line for line in story[begun:] if "votes to" in line]


def test_of_four_the_others_commit_meanwhile_and_it_follows() -> None:
    counts = []
    for seed in range(8):
        story = story_of(rotation(seed, 4))
        held = story.index("holds a key that was replaced")
        begun = next(at for at, line in enumerate(story) if at > held and line.startswith("boots"))
        counts.append(sum(line.startswith("COMMITS") for line in story[held:begun]))
    assert max(counts) > 3


def test_signer_that_does_not_look_at_the_set_is_caught() -> None:
    with planted("stale-key-signs"):
        outcomes = [Cluster(rotation(seed, 3)).run().violation for seed in range(4)]
    rules = {found.rule for found in outcomes if found is not None}
    assert rules
    assert rules <= {"bad signature", "foreign proposal"}


def test_key_file_signs_with_the_key_it_holds_and_changes_it_only_when_told() -> None:
    made = keys.keyed(NODES, seed=random.Random(1).randrange(2**32))
    before = keys.member_set(NODES, made, epoch=0)
    after = keys.member_set(NODES, made, epoch=1, generations={ROTATED: 1})
    file = keys.KeyFile(ROTATED, made.ring)
    assert not file.is_replaced(before)
    assert file.is_replaced(after)
    old = file.public
    assert made.verify(old, b"text", file.sign(b"text"))
    file.follow(after)
    assert (file.public != old, file.is_replaced(after)) == (True, False)
    assert made.verify(file.public, b"text", file.sign(b"text"))
    assert not made.verify(old, b"text", file.sign(b"text"))
    file.follow(keys.member_set(NODES[2:], made, epoch=2))
    assert not file.is_replaced(after), "outside the set it keeps what it has"
