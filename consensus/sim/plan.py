"""Draws a schedule from a seed.

The seed decides the mix: weather, jams, partitions, power cuts, clocks, changes of the member set,
work, and who is a traitor of which kind. Every draw comes from one generator, in one order.
"""

from __future__ import annotations

import random
from typing import Final

from consensus.sim import images
from consensus.sim.churn import arrival, changes, late_traitors
from consensus.sim.clock import MILLISECOND, SECOND
from consensus.sim.machine import TransactionKind, transaction
from consensus.sim.network import Cut, Weather
from consensus.sim.schedule import (
    Blackout,
    ClockJump,
    DiskTrouble,
    LostLog,
    Outage,
    Schedule,
    SickDisk,
    Signatures,
    Submission,
    Wrongness,
)
from consensus.timing import Timing
from consensus.types import NodeId, VoteKind
from consensus.wire import MessageKind

JAMS: Final = (
    (bytes([MessageKind.PROPOSAL]),),
    (bytes([MessageKind.VOTE, VoteKind.FINALIZE]),),
    (bytes([MessageKind.VOTE, VoteKind.NOTARIZE]),),
    (bytes([MessageKind.VOTE, VoteKind.FINALIZE]), bytes([MessageKind.CERTIFICATE])),
    (bytes([MessageKind.CERTIFICATE]),),
    (bytes([MessageKind.STATUS]),),
)
"""Kinds of frames that a jam swallows: heights that notarize and never finalize, views that only
time out, certificates that nobody relays."""

KINDS: Final = (TransactionKind.PLAIN,) * 6 + (TransactionKind.SLOW,)
"""What clients ask for, beside changes of the member set."""

PAST: Final = "Revenant"
"""The part that only matters where there were sets before."""

IMPATIENT: Final = Timing(
    delta_start_ms=300, delta_min_ms=300, delta_max_ms=2_000, view_max_ms=1_000
)
"""Views of a second at most, so that a siege runs through dozens of them."""


def plan(
    seed: int,
    *,
    n: int,
    actors: tuple[str, ...],
    signatures: Signatures = Signatures.KEYED,
    traitors_max: int | None = None,
) -> Schedule:
    """Return the plan of ``seed`` for a genesis set of ``n`` members.

    Args:
        seed: any non-negative integer.
        n: members of the genesis set; some plans have spares beside them that join later.
        actors: names of the fault classes that traitors may draw from.
        signatures: what signs votes; it does not change the plan.
        traitors_max: most traitors; f = (n - 1) // 3 if None. Above f the run shows whether a
            fork names its culprits.
    """
    chance = random.Random(seed * 1_000_003 + n)
    members = _names(0, n)
    is_over = traitors_max is not None and traitors_max > (n - 1) // 3
    traitors = _traitors(chance, members, traitors_max)
    sets, rotations = ((members,), (None,)) if is_over else changes(chance, members, traitors)
    if not is_over and traitors_max is None:
        traitors = late_traitors(chance, sets, traitors)
    nodes = tuple(sorted({node for one in sets for node in one}, key=_number))
    honest = tuple(node for node in nodes if node not in traitors)
    is_siege = n > 1 and chance.random() < 0.05
    gst_us = chance.choice((0, chance.randint(1, 10), chance.randint(1, 20), chance.randint(5, 40)))
    gst_us *= SECOND
    if is_siege:
        gst_us = chance.randint(30, 60) * SECOND
    cuts = _cuts(chance, nodes, gst_us)
    if is_siege:
        cuts = (_siege(chance.choice(honest), nodes, gst_us),)
    drawn = Schedule(
        seed=seed,
        signatures=signatures,
        nodes=nodes,
        sets=sets,
        rotations=rotations,
        arrivals_us=tuple(0 if node in members else arrival(chance, gst_us) for node in nodes),
        traitors=traitors,
        actors=tuple(_parts(chance, actors, has_past=len(sets) > 1) for _ in traitors),
        gst_us=gst_us,
        weather=_weather(chance, is_siege=is_siege),
        cuts=cuts,
        outages=_outages(chance, honest, gst_us),
        blackouts=_blackouts(chance, gst_us),
        sick_disks=_sick_disks(chance, honest, gst_us),
        lost_logs=_lost_logs(chance, sets, traitors, gst_us),
        restored=(),
        clocks=tuple(_wrongness(chance) for _ in nodes),
        clock_jumps=_clock_jumps(chance, honest, gst_us),
        timing=IMPATIENT if is_siege or chance.random() < 0.1 else Timing(),
        work=_work(chance, members, gst_us, set_changes=_set_changes(chance, len(sets))),
    )
    if traitors_max is None and images.is_drawn(seed, n):
        return images.with_image(drawn, chance)
    return drawn


def _names(first: int, count: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(f"n{number}") for number in range(first, first + count))


def _number(node: NodeId) -> int:
    return int(node[1:])


def _traitors(
    chance: random.Random, nodes: tuple[NodeId, ...], traitors_max: int | None
) -> tuple[NodeId, ...]:
    most = (len(nodes) - 1) // 3 if traitors_max is None else traitors_max
    count = 0 if chance.random() < 0.15 else chance.randint(min(1, most), most)
    if most > (len(nodes) - 1) // 3:
        count = most
    return tuple(sorted(chance.sample(nodes, count)))


def _parts(chance: random.Random, actors: tuple[str, ...], *, has_past: bool) -> tuple[str, ...]:
    """Return what one traitor plays; where sets change, often one that speaks for old ones."""
    parts = set(chance.sample(actors, min(len(actors), chance.choice((1, 1, 2, 3)))))
    if has_past and PAST in actors and chance.random() < 0.25:
        parts.add(PAST)
    return tuple(sorted(parts))


def _weather(chance: random.Random, *, is_siege: bool) -> Weather:
    is_rough = chance.random() < 0.6
    jammed: tuple[bytes, ...] = ()
    if is_siege:
        jammed = JAMS[0]
    elif chance.random() < 0.25:
        jammed = chance.choice(JAMS)
    return Weather(
        delay_us_min=chance.choice((200, 1_000, 5_000)),
        delay_us_mean=chance.choice((1, 10, 60, 400)) * MILLISECOND,
        loss=chance.choice((10, 50, 150, 350)) if is_rough else 0,
        duplicate=chance.choice((0, 20, 200)) if is_rough else 0,
        straggle=chance.choice((0, 10, 100)) if is_rough else 0,
        straggle_us_max=chance.choice((2, 10, 40)) * SECOND,
        jammed=jammed,
    )


def _cuts(chance: random.Random, nodes: tuple[NodeId, ...], gst_us: int) -> tuple[Cut, ...]:
    if not gst_us or len(nodes) == 1 or chance.random() < 0.4:
        return ()
    return tuple(_cut(chance, nodes, gst_us) for _ in range(chance.randint(1, 3)))


def _siege(lonely: NodeId, nodes: tuple[NodeId, ...], gst_us: int) -> Cut:
    """Cut one node off for good, so that it comes back many failed views later."""
    links = {(a, b) for a in nodes for b in nodes if a != b and lonely in {a, b}}
    return Cut(start_us=0, end_us=gst_us, links=frozenset(links))


def _cut(chance: random.Random, nodes: tuple[NodeId, ...], gst_us: int) -> Cut:
    shape = chance.randrange(3)
    if shape == 0:  # two sides that hear nothing of each other
        side = set(chance.sample(nodes, chance.randint(1, len(nodes) - 1)))
        links = {(a, b) for a in nodes for b in nodes if (a in side) != (b in side)}
    elif shape == 1:  # one node that is heard but does not hear, or the other way round
        lonely = chance.choice(nodes)
        is_deaf = chance.random() < 0.5
        links = {(a, lonely) if is_deaf else (lonely, a) for a in nodes if a != lonely}
    else:  # single links
        pairs = [(a, b) for a in nodes for b in nodes if a != b]
        links = set(chance.sample(pairs, chance.randint(1, max(1, len(pairs) // 2))))
    start_us = chance.randrange(gst_us)
    is_sieve = chance.random() < 0.4
    return Cut(
        start_us=start_us,
        end_us=chance.randint(start_us + 1, gst_us),
        links=frozenset(links),
        period_us=chance.choice((0, 0, 300 * MILLISECOND, 2 * SECOND)),
        jammed=chance.choice(JAMS) if is_sieve else (b"",),
        is_delay=chance.random() < 0.3,
    )


def _outages(chance: random.Random, honest: tuple[NodeId, ...], gst_us: int) -> tuple[Outage, ...]:
    if not gst_us or chance.random() < 0.35:
        return ()
    return tuple(
        Outage(
            node=chance.choice(honest),
            armed_us=chance.randrange(gst_us),
            steps=chance.randint(1, 40),
            down_us=chance.choice((10, 500, 3_000, 20_000)) * MILLISECOND,
            in_write=chance.random() < 0.5,
        )
        for _ in range(chance.randint(1, 6))
    )


def _blackouts(chance: random.Random, gst_us: int) -> tuple[Blackout, ...]:
    if not gst_us or chance.random() < 0.65:
        return ()
    return tuple(
        Blackout(
            at_us=chance.randrange(gst_us), down_us=chance.choice((10, 2_000, 15_000)) * MILLISECOND
        )
        for _ in range(chance.randint(1, 2))
    )


def _sick_disks(
    chance: random.Random, honest: tuple[NodeId, ...], gst_us: int
) -> tuple[SickDisk, ...]:
    if not gst_us or chance.random() < 0.8:
        return ()
    start_us = chance.randrange(gst_us)
    return tuple(
        SickDisk(
            node=node,
            trouble=chance.choice(tuple(DiskTrouble)),
            start_us=start_us,
            end_us=chance.randint(start_us + 1, gst_us),
        )
        for node in chance.sample(honest, chance.randint(1, len(honest)))
    )


def _lost_logs(
    chance: random.Random,
    sets: tuple[tuple[NodeId, ...], ...],
    traitors: tuple[NodeId, ...],
    gst_us: int,
) -> tuple[LostLog, ...]:
    """Let one honest member forget what it voted, where the others can do without its vote."""
    if not gst_us or chance.random() < 0.5:
        return ()
    honest = [node for node in sets[0] if node not in traitors]
    node = chance.choice(honest)
    silent = {node, *traitors}
    if any(len(silent & set(one)) > (len(one) - 1) // 3 for one in sets):
        return ()
    at_us = chance.randrange(gst_us)
    return (LostLog(node, at_us, chance.choice((10, 2_000)) * MILLISECOND),)


def _clock_jumps(
    chance: random.Random, honest: tuple[NodeId, ...], gst_us: int
) -> tuple[ClockJump, ...]:
    if not gst_us or chance.random() < 0.7:
        return ()
    return tuple(
        ClockJump(
            node=chance.choice(honest),
            at_us=chance.randrange(gst_us),
            offset_ms=chance.choice((-3_600_000, -15_000, -1_000, 1_000, 15_000, 3_600_000)),
        )
        for _ in range(chance.randint(1, 4))
    )


def _wrongness(chance: random.Random) -> Wrongness:
    return Wrongness(
        offset_ms=chance.choice(
            (0, 0, chance.randint(-3_000, 3_000), chance.choice((-15_000, 15_000)))
        ),
        settled_offset_ms=chance.randint(-2_000, 2_000),
        timer_permille=chance.choice((1_000, 1_000, 900, 1_100)),
    )


def _work(
    chance: random.Random, nodes: tuple[NodeId, ...], gst_us: int, *, set_changes: int
) -> tuple[Submission, ...]:
    early = [chance.randint(0, gst_us) for _ in range(chance.randint(1, 5))]
    late = [gst_us + chance.randint(1, 5_000) * MILLISECOND for _ in range(chance.randint(1, 4))]
    times = sorted(early + late)
    forced = set(chance.sample(range(len(times)), min(set_changes, len(times))))
    return tuple(
        Submission(
            at_us=at_us,
            node=chance.choice(nodes),
            transaction=transaction(
                TransactionKind.NEW_SET if number in forced else chance.choice(KINDS),
                number,
                size=chance.choice((24, 24, 300, 3_000)),
            ),
        )
        for number, at_us in enumerate(times)
    )


def _set_changes(chance: random.Random, sets: int) -> int:
    """Return how many transactions of the work change the set, if there is what to change to.

    Only one fits a block, so many of them change the set at almost every height.
    """
    return 0 if sets == 1 else chance.choice((1, 1, 2, 3, 6))
