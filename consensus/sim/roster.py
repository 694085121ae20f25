"""Every kind of traitor by name, in the order that is part of what a seed means."""

from __future__ import annotations

from typing import Final

from consensus.sim.faults import (
    Actor,
    CertificateCompleter,
    Conspirator,
    Equivocator,
    Nullifier,
    Silent,
    StaleVoter,
    UnjustifiedLeader,
    WithholdingLeader,
    WrongBody,
)
from consensus.sim.forgers import Flooder, Forger, PageForger
from consensus.sim.puppet import Puppeteer
from consensus.sim.revenant import Revenant
from consensus.sim.twin import Twin

ACTORS: Final[dict[str, type[Actor]]] = {
    actor.__name__: actor
    for actor in (
        Silent,
        Equivocator,
        Conspirator,
        WithholdingLeader,
        StaleVoter,
        CertificateCompleter,
        WrongBody,
        UnjustifiedLeader,
        Nullifier,
        Forger,
        Flooder,
        PageForger,
        Revenant,
        Puppeteer,
    )
}
"""Actors that need nothing but a hand."""

TWIN: Final = Twin.__name__
"""The one that needs a key of its own, to run whole nodes with."""

ACTOR_NAMES: Final = (*sorted(ACTORS), TWIN)
"""What a traitor may draw."""
