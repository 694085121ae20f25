"""Runs with more traitors than any protocol can bear, made so that most of them fork the log.

The traitors all conspire, and the two halves of the honest members cannot hear each other for a
while. What must still hold is accountability: the certificates that a fork needs convict at least
f + 1 of the traitors, and never an honest member (CONSENSUS.md 3.9).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from consensus.sim.clock import SECOND
from consensus.sim.network import Cut
from consensus.sim.plan import plan
from consensus.sim.schedule import Schedule, Signatures

APART_US: Final = 20 * SECOND
"""How long the halves are kept apart."""


def conspiracy(
    seed: int, *, n: int, traitors: int, signatures: Signatures = Signatures.KEYED
) -> Schedule:
    """Return a run of ``n`` members of which the first ``traitors`` conspire."""
    drawn = plan(seed, n=n, actors=("Conspirator",), signatures=signatures, traitors_max=traitors)
    members = drawn.sets[0]
    honest = members[traitors:]
    one, two = honest[::2], honest[1::2]
    links = frozenset((a, b) for x, y in ((one, two), (two, one)) for a in x for b in y)
    return replace(
        drawn.without_trouble().with_one_set(),
        traitors=members[:traitors],
        actors=(("Conspirator",),) * traitors,
        gst_us=APART_US,
        cuts=(Cut(start_us=0, end_us=APART_US, links=links),),
        weather=replace(drawn.weather, loss=0, straggle=0, jammed=()),
    )
