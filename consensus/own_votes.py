"""Notices votes that carry this node's signature and that this node did not cast.

Either it has forgotten them (its log was lost or restored), or the key is on two machines. Both
times it must vote no more. Every certificate that arrives is looked through before the core sees
it, so the first sign of a double stops this node before its next vote.
"""

from __future__ import annotations

from collections.abc import Callable

from consensus.evidence import votes_of
from consensus.types import Certificate, Decision, MemberSet, Message, NodeId, Proposal, Vote


def foreign_vote(
    message: Message, *, me: NodeId, members: MemberSet, has_cast: Callable[[Vote], bool]
) -> Vote | None:
    """Return a vote of ``me`` inside a verified message that ``has_cast`` does not know.

    Args:
        message: of the working height, with every signature verified.
        me: this node.
        members: the set of that height.
        has_cast: the signer's memory, which reaches back to the working height.
    """
    index = members.index_of(me)
    if index is None:
        return None
    for certificate in certificates_in(message):
        if index not in certificate.signers:
            continue
        own = next(vote for vote in votes_of(certificate) if vote.voter == index)
        if not has_cast(own):
            return own
    return None


def certificates_in(message: Message) -> tuple[Certificate, ...]:
    """Return every certificate of the message's own height that it carries."""
    match message:
        case Certificate():
            return (message,)
        case Decision():
            return (message.certificate,)
        case Proposal():
            known = () if message.notarization is None else (message.notarization,)
            return (*known, *message.nullifications)
        case _:
            return ()
