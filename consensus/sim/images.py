"""Schedules in which one member comes back from an older image of its disk, among liars.

Chain and log are put back together, so nothing on that disk shows what was forgotten; traitors
say that they know of no vote. What the other members remember must show it, as far as the design
claims (docs/design/consensus.md 8): all but f of the honest ones have heard the forgotten votes.
Two stories are told. In one, f honest members were cut off while those votes were cast, and are the
only ones within reach afterwards. In the other everybody heard them and has gone on to a later
height, of which the restored member learns nothing yet.

Such a run may stop for ever, for f members are traitors and one more is silent. It is judged by
what is said alone.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Final

from consensus.sim.clock import MILLISECOND, SECOND
from consensus.sim.frames import SideKind
from consensus.sim.machine import TransactionKind, transaction
from consensus.sim.network import Cut, Weather
from consensus.sim.schedule import Restored, Schedule, Submission
from consensus.timing import Timing
from consensus.types import NodeId, VoteKind
from consensus.wire import MessageKind

EVERY: Final = 25
"""One seed in so many is a run of this kind."""
REMAINDER: Final = 3

LIARS: Final = (
    "CertificateCompleter",
    "Conspirator",
    "Equivocator",
    "Nullifier",
    "Puppeteer",
    "WithholdingLeader",
)
"""Traitors that vote, so that there is something to forget, and that deny what they remember."""
HELPFUL_LIARS: Final = ("Conspirator", "WithholdingLeader")
"""Those that vote as expected, so that others decide without the member that will forget."""

_GST_US: Final = 60 * SECOND

_DECISIONS: Final = (bytes([MessageKind.DECISION]), bytes([SideKind.DECISIONS]))
"""How the frames begin that help somebody on to a later height."""
_FINALIZE: Final = (bytes([MessageKind.VOTE, VoteKind.FINALIZE]),)
_TALK: Final = tuple(bytes([kind]) for kind in (*MessageKind, SideKind.BODY, SideKind.DECISIONS))
"""How the frames begin that others vote and commit by; questions and their answers do not."""

Links = frozenset[tuple[NodeId, NodeId]]


@dataclass(frozen=True, slots=True)
class _Cast:
    """Who is who, and when the image is taken and put back."""

    forgetful: NodeId
    traitors: list[NodeId]
    unaware: list[NodeId]
    aware: list[NodeId]
    taken_us: int
    at_us: int


def is_drawn(seed: int, n: int) -> bool:
    """Say whether the plan of ``seed`` is one of these; with three members nobody may lie."""
    return n >= 4 and seed % EVERY == REMAINDER


def with_image(drawn: Schedule, chance: random.Random) -> Schedule:
    """Return a run of the same members and clients in which an image is put back, and no more."""
    calm = drawn.without_trouble().with_one_set()
    cast = _cast(chance, calm.nodes)
    down_us = chance.choice((10, 500)) * MILLISECOND
    is_outrun = chance.random() < 0.5
    liars = HELPFUL_LIARS if is_outrun else LIARS
    return replace(
        calm,
        traitors=tuple(sorted(cast.traitors)),
        actors=tuple((name,) for name in chance.choices(liars, k=len(cast.traitors))),
        gst_us=_GST_US,
        weather=Weather(500, 2_000, loss=0, duplicate=0, straggle=0, straggle_us_max=0),
        cuts=_outrun(cast) if is_outrun else _unheard(cast),
        restored=(Restored(cast.forgetful, cast.taken_us, cast.at_us, down_us),),
        timing=Timing(),
        work=_work(chance, cast, is_outrun=is_outrun),
    )


def _cast(chance: random.Random, nodes: tuple[NodeId, ...]) -> _Cast:
    members = chance.sample(nodes, len(nodes))
    f = (len(members) - 1) // 3
    taken_us = chance.randint(2_000, 4_000) * MILLISECOND
    return _Cast(
        forgetful=members[0],
        traitors=members[1 : 1 + f],
        unaware=members[1 + f : 1 + 2 * f],
        aware=members[1 + 2 * f :],
        taken_us=taken_us,
        at_us=taken_us + chance.randint(1_000, 9_000) * MILLISECOND,
    )


def _unheard(cast: _Cast) -> tuple[Cut, ...]:
    """Keep some apart while the votes are cast that will be forgotten, the others afterwards."""
    lonely = [cast.forgetful, *cast.unaware]
    return (
        Cut(cast.taken_us, cast.at_us, _between(cast.unaware, [cast.forgetful, *cast.aware])),
        Cut(cast.at_us, _GST_US, _between(cast.aware, lonely)),
        Cut(cast.taken_us, _GST_US, _between(cast.traitors, lonely), jammed=_DECISIONS),
    )


def _outrun(cast: _Cast) -> tuple[Cut, ...]:
    """Let the member that comes back ask everybody, and hear nothing else of any honest one."""
    honest = [*cast.unaware, *cast.aware]
    late = frozenset((cast.forgetful, one) for one in honest)
    return (
        # Its finalizations come too late for any certificate: they are remembered nowhere else.
        Cut(cast.taken_us, cast.at_us, late, jammed=_FINALIZE, is_delay=True),
        Cut(cast.at_us, _GST_US, _between([cast.forgetful], honest), jammed=_TALK),
        Cut(cast.at_us, _GST_US, _between([cast.forgetful], cast.traitors), jammed=_DECISIONS),
    )


def _between(some: list[NodeId], others: list[NodeId]) -> Links:
    return frozenset(
        pair for one in some for other in others for pair in ((one, other), (other, one))
    )


def _work(chance: random.Random, cast: _Cast, *, is_outrun: bool) -> tuple[Submission, ...]:
    """Return work before the image, before it is put back, after that, and at the end."""
    aware, unaware = cast.aware[0], cast.unaware[0]
    forgotten = [
        (chance.randint(cast.taken_us, cast.at_us - 500 * MILLISECOND), cast.forgetful),
        (chance.randint(cast.taken_us, cast.at_us), aware),
    ]
    times = (
        (chance.randint(0, 500) * MILLISECOND, aware),
        *(forgotten[:1] if is_outrun else forgotten),
        (cast.at_us + 2 * SECOND, unaware),
        (cast.at_us + 3 * SECOND, cast.forgetful),
        (_GST_US + SECOND, aware),
    )
    return tuple(
        Submission(when_us, node, transaction(TransactionKind.PLAIN, number))
        for number, (when_us, node) in enumerate(times)
    )
