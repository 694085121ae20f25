"""Draws how the member set of a run changes: who joins, leaves, rotates a key, turns up late.

A change is what one block may do to the set in the product (CONSENSUS.md 3.8), or harsher: a swap
changes two members at once, and after the last set the circle closes with whatever lies between.
Traitors come and go like everybody else, but no set ever holds more of them than it can bear.
"""

from __future__ import annotations

import random
from typing import Final

from consensus.types import NodeId

CHANGES_MAX: Final = 4
"""Most sets that follow the genesis set before the circle closes."""

Sets = tuple[tuple[NodeId, ...], ...]


def changes(
    chance: random.Random, members: tuple[NodeId, ...], traitors: tuple[NodeId, ...]
) -> tuple[Sets, tuple[NodeId | None, ...]]:
    """Return the sets of a run and who rotates its key as each begins; often nothing changes."""
    if chance.random() < 0.45:
        return (members,), (None,)
    sets: list[tuple[NodeId, ...]] = [members]
    rotations: list[NodeId | None] = [None]
    spares = [NodeId(f"n{len(members) + number}") for number in range(chance.randint(1, 2))]
    for _ in range(chance.randint(1, CHANGES_MAX)):
        now = list(sets[-1])
        rotating: NodeId | None = None
        match chance.choice(("join", "leave", "swap", "rotate")):
            case "join" if spares:
                now.append(spares.pop())
            case "leave" if _can_bear(now, traitors, fewer=1):
                now.remove(chance.choice(now))
            case "swap" if spares and _can_bear(now, traitors, fewer=0):
                now.remove(chance.choice(now))
                now.append(spares.pop())
            case _:
                rotating = chance.choice(now)
        sets.append(tuple(sorted(now, key=_number)))
        rotations.append(rotating)
    return tuple(sets), tuple(rotations)


def late_traitors(
    chance: random.Random, sets: Sets, traitors: tuple[NodeId, ...]
) -> tuple[NodeId, ...]:
    """Return the traitors and, now and then, one that joins later, where every set can bear it."""
    late = sorted({node for one in sets for node in one} - set(sets[0]), key=_number)
    if not late or chance.random() < 0.6:
        return traitors
    more = (*traitors, chance.choice(late))
    is_borne = all(sum(node in more for node in one) <= (len(one) - 1) // 3 for one in sets)
    return tuple(sorted(more, key=_number)) if is_borne else traitors


def arrival(chance: random.Random, gst_us: int) -> int:
    """Return when a node that joins later starts: with the others, or with a chain to catch up."""
    return chance.choice((0, chance.randint(0, gst_us), gst_us))


def _can_bear(now: list[NodeId], traitors: tuple[NodeId, ...], *, fewer: int) -> bool:
    """Say whether any ``fewer`` members may go and the traitors stay no more than f."""
    n = len(now) - fewer
    return n >= 1 and sum(node in traitors for node in now) <= (n - 1) // 3


def _number(node: NodeId) -> int:
    return int(node[1:])
