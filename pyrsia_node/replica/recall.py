"""Answers another member's start question: which is the newest vote of yours that I know?

What this node knows is the votes of its working height, and the certificates of the newest blocks.
Older ones do not matter: whoever asks goes through them while it catches up, each with its
certificate. The answer carries a vote with the asker's own signature, so it needs no trust.
"""

from __future__ import annotations

from typing import Final

from consensus import wire
from consensus.amnesia import (
    Recollection,
    decode_question,
    encode_recollection,
    newest_of,
)
from consensus.errors import DecodeError
from consensus.evidence import votes_of
from consensus.replica import Replica
from consensus.types import Height, MemberSet, NodeId
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.model.members import SetLeaf

HEIGHTS_LOOKED_THROUGH_MAX: Final = 32
"""Who is further behind catches up first and asks again."""


class Recall:
    """The memory of one member, for the others."""

    def __init__(self, *, chain: Chain, replica: Replica) -> None:
        """Answer from the working height of ``replica`` and the certificates of ``chain``."""
        self._chain = chain
        self._replica = replica
        self._sets: dict[int, MemberSet] = {}

    def answer(self, member: NodeId, question: bytes) -> bytes:
        """Return the newest vote of ``member`` known here, above the height it names.

        Raises:
            InvalidInputError: the question is malformed.
            UnavailableError: the asker is too far behind to be answered.
        """
        try:
            committed = decode_question(question)
        except DecodeError as error:
            raise InvalidInputError(str(error)) from error
        tip = self._chain.tip.height
        if tip - committed > HEIGHTS_LOOKED_THROUGH_MAX:
            raise UnavailableError(f"height {committed} is far behind {tip}: catch up, then ask")
        return encode_recollection(self._newest(member, committed))

    def _newest(self, member: NodeId, committed: Height) -> Recollection | None:
        members = self._replica.members
        vote = newest_of(self._replica.votes_of(member))
        if vote is not None:
            return Recollection(members.set_hash, vote)
        for height in range(self._chain.tip.height, committed, -1):
            found = self._in_certificate(member, height)
            if found is not None:
                return found
        return None

    def _in_certificate(self, member: NodeId, height: int) -> Recollection | None:
        decision = self._chain.decision(height)
        assert decision is not None, "a committed height has a decision"
        members = self._members_of(height)
        certificate = wire.decode_certificate(decision[1], n=len(members.members))
        for vote in votes_of(certificate):
            if members.members[vote.voter].id == member:
                return Recollection(members.set_hash, vote)
        return None

    def _members_of(self, height: int) -> MemberSet:
        """Return the set that decided a committed height."""
        leaf = self._chain.block(height).voters_leaf
        if leaf not in self._sets:
            self._sets = {leaf: SetLeaf.decode(self._chain.leaf(leaf)).to_consensus()}
        return self._sets[leaf]
