"""Draws a schedule from a seed.

The seed decides the mix: weather, jams, partitions, power cuts, clocks, changes of the member set,
work, and who is a traitor of which kind. Every draw comes from one generator, in one order.
"""

from __future__ import annotations

import random
from typing import Final

from consensus.sim.clock import MILLISECOND, SECOND
from consensus.sim.machine import TransactionKind, transaction
from consensus.sim.network import Cut, Weather
from consensus.sim.schedule import (
    Blackout,
    Outage,
    Schedule,
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
    traitors = _traitors(chance, members, traitors_max)
    sets = _sets(chance, members, traitors)
    nodes = tuple(sorted({node for one in sets for node in one}, key=lambda one: int(one[1:])))
    honest = tuple(node for node in nodes if node not in traitors)
    is_siege = n > 1 and chance.random() < 0.05
    gst_us = chance.choice((0, chance.randint(1, 10), chance.randint(1, 20), chance.randint(5, 40)))
    gst_us *= SECOND
    if is_siege:
        gst_us = chance.randint(30, 60) * SECOND
    cuts = _cuts(chance, nodes, gst_us)
    if is_siege:
        cuts = (_siege(chance.choice(honest), nodes, gst_us),)
    return Schedule(
        seed=seed,
        signatures=signatures,
        nodes=nodes,
        sets=sets,
        traitors=traitors,
        actors=tuple(
            tuple(sorted(chance.sample(actors, min(len(actors), chance.choice((1, 1, 2, 3))))))
            for _ in traitors
        ),
        gst_us=gst_us,
        weather=_weather(chance, is_siege=is_siege),
        cuts=cuts,
        outages=_outages(chance, honest, gst_us),
        blackouts=_blackouts(chance, gst_us),
        clocks=tuple(_wrongness(chance) for _ in nodes),
        timing=IMPATIENT if is_siege or chance.random() < 0.1 else Timing(),
        work=_work(chance, members, gst_us, set_changes=2 if len(sets) > 1 else 1),
    )


def _names(first: int, count: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(f"n{number}") for number in range(first, first + count))


def _sets(
    chance: random.Random, members: tuple[NodeId, ...], traitors: tuple[NodeId, ...]
) -> tuple[tuple[NodeId, ...], ...]:
    """Return the genesis set and what becomes of it; traitors stay, and never exceed f."""
    sets = [members]
    if chance.random() < 0.6 or len(traitors) > (len(members) - 1) // 3:
        return (members,)
    spares = list(_names(len(members), chance.randint(1, 2)))
    for _ in range(chance.randint(1, 3)):
        now = list(sets[-1])
        leavers = [node for node in now if node not in traitors]
        may_shrink = len(now) > 1 and len(traitors) <= (len(now) - 2) // 3
        change = chance.choice(("join", "leave", "swap"))
        if change != "join" and leavers and (may_shrink or (change == "swap" and spares)):
            now.remove(chance.choice(leavers))
        if change != "leave" and spares:
            now.append(spares.pop())
        sets.append(tuple(sorted(now, key=lambda one: int(one[1:]))))
    return tuple(sets)


def _traitors(
    chance: random.Random, nodes: tuple[NodeId, ...], traitors_max: int | None
) -> tuple[NodeId, ...]:
    most = (len(nodes) - 1) // 3 if traitors_max is None else traitors_max
    count = 0 if chance.random() < 0.15 else chance.randint(min(1, most), most)
    if most > (len(nodes) - 1) // 3:
        count = most
    return tuple(sorted(chance.sample(nodes, count)))


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
    kinds = [TransactionKind.PLAIN] * 6 + [TransactionKind.SLOW]
    kinds += [TransactionKind.NEW_SET] * set_changes
    early = [chance.randint(0, gst_us) for _ in range(chance.randint(2, 6))]
    late = [gst_us + chance.randint(1, 5_000) * MILLISECOND for _ in range(chance.randint(1, 2))]
    return tuple(
        Submission(
            at_us=at_us,
            node=chance.choice(nodes),
            transaction=transaction(
                chance.choice(kinds), number, size=chance.choice((24, 24, 300, 3_000))
            ),
        )
        for number, at_us in enumerate(sorted(early + late))
    )
