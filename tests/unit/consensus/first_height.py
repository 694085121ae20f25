"""Blocks and certificates of a first height, for the tests of the rules R1 to R7.

n = 4, height 1, no history: m001 leads view 0, m002 view 1, m003 view 2, m000 view 3. The tests run
one node and speak for its peers.
"""

from __future__ import annotations

from consensus import wire
from consensus.types import Certificate, Proposal
from tests.unit.consensus.committee import (
    GENESIS_TIP,
    F,
    N,
    X,
    certificate_of,
    make_block,
    member_set,
    names,
    proposal_of,
)

SET = member_set(names(4))


def block_of(view: int, proposer: str, *transactions: bytes) -> bytes:
    return make_block(
        height=1,
        view=view,
        proposer=proposer,
        parent=GENESIS_TIP,
        transactions=transactions or (b"tx",),
    )


B0 = block_of(0, "m001")
H0 = wire.block_hash(B0)
OTHER = block_of(0, "m001", b"another")
H_OTHER = wire.block_hash(OTHER)
FORGED = wire.encode_block(wire.split_block(B0).header, b"", (b"other bytes, true header",))


def proposal_0(block: bytes = B0) -> Proposal:
    return proposal_of("m001", SET, block, view=0)


def nullified(view: int) -> Certificate:
    return certificate_of(SET, X, view=view)


def notarized(view: int = 0, block: bytes = B0) -> Certificate:
    return certificate_of(SET, N, view=view, block_hash=wire.block_hash(block))


def finalized(view: int = 0, block: bytes = B0) -> Certificate:
    return certificate_of(SET, F, view=view, block_hash=wire.block_hash(block))
