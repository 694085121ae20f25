"""The story of a run in words: one line for everything that matters, with its time.

It formats and nothing else; whether a line is wanted is decided by who calls it.
"""

from __future__ import annotations

from typing import assert_never

from consensus.sim.clock import SECOND
from consensus.types import (
    Certificate,
    Decision,
    Digest,
    Message,
    Proposal,
    Status,
    Vote,
    VoteKind,
)
from consensus.wire import block_hash

_NOUN = {
    VoteKind.NOTARIZE: "notarization",
    VoteKind.NULLIFY: "nullification",
    VoteKind.FINALIZE: "finalization",
}


def stamp(now_us: int) -> str:
    """Return a time as seconds, aligned for reading in columns."""
    return f"{now_us // SECOND:5d}.{now_us % SECOND:06d}"


def short(digest: Digest) -> str:
    """Return the first eight hex digits of a digest."""
    return digest.hex()[:8]


def describe(message: Message) -> str:
    """Say in a few words what a message is."""
    match message:
        case Vote():
            where = f"{message.height}/{message.view}"
            if message.kind is VoteKind.NULLIFY:
                return f"votes to NULLIFY {where}"
            return f"votes to {message.kind.name} {where} {short(message.block_hash)}"
        case Certificate():
            return describe_certificate(message)
        case Proposal():
            return _describe_proposal(message)
        case Decision():
            height = message.certificate.height
            return f"helps with decision {height} {short(message.certificate.block_hash)}"
        case Status():
            return _describe_status(message)
        case _:
            assert_never(message)


def describe_certificate(certificate: Certificate) -> str:
    """Say what a certificate certifies and who signed it."""
    signers = ",".join(str(index) for index in certificate.signers)
    where = f"{certificate.height}/{certificate.view}"
    block = "" if certificate.kind is VoteKind.NULLIFY else f" {short(certificate.block_hash)}"
    return f"passes on the {_NOUN[certificate.kind]} of {where}{block} by {signers}"


def _describe_proposal(proposal: Proposal) -> str:
    where = f"{proposal.height}/{proposal.view}"
    text = f"proposes {short(block_hash(proposal.block))} for {where}"
    if proposal.notarization is not None:
        text += f", notarized in view {proposal.notarization.view}"
    if proposal.nullifications:
        views = ",".join(str(one.view) for one in proposal.nullifications)
        text += f", over the nullified views {views}"
    return text


def _describe_status(status: Status) -> str:
    text = f"is at {status.height}/{status.view}"
    if status.missing_views:
        text += f", lacks views {','.join(f'{a}-{b}' for a, b in status.missing_views)}"
    if status.missing_bodies:
        text += f", lacks bodies {','.join(short(one) for one in status.missing_bodies)}"
    return text
