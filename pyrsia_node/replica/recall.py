"""Answers another member's start question: which is the newest vote of yours that I know?

What this node knows is the votes of its working height, and the certificates of the newest
committed ones: of those that took more than one view all that it knew, not only the final one, for
a NULLIFY that was forgotten is in none of those. The answer carries a vote with the asker's own
signature, so it needs no trust, and the height committed here: of older heights this node no longer
knows every vote, so the asker waits until it has committed them too.
"""

from __future__ import annotations

from consensus.amnesia import (
    Answer,
    Recollection,
    decode_question,
    encode_answer,
    heights_to_look_through,
    newest_in,
    newest_of,
)
from consensus.errors import DecodeError
from consensus.replica import Replica
from consensus.types import Height, NodeId
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.replica.transcripts import Transcripts


class Recall:
    """The memory of one member, for the others."""

    def __init__(self, *, chain: Chain, replica: Replica, transcripts: Transcripts) -> None:
        """Answer from the working height of ``replica`` and the certificates of ``chain``."""
        self._chain = chain
        self._replica = replica
        self._transcripts = transcripts

    def answer(self, member: NodeId | None, question: bytes) -> bytes:
        """Return the newest vote of ``member`` known here, above the height it names.

        Who is no member has no votes to look for: one that is about to be admitted asks, too.

        Raises:
            InvalidInputError: the question is malformed.
        """
        try:
            began = decode_question(question)
        except DecodeError as error:
            raise InvalidInputError(str(error)) from error
        tip = Height(self._chain.tip.height)
        newest = None if member is None else self._newest(member, tip, began)
        return encode_answer(Answer(tip, newest))

    def _newest(self, member: NodeId, tip: Height, began: Height) -> Recollection | None:
        members = self._replica.members
        vote = newest_of(self._replica.votes_of(member))
        if vote is not None:
            return Recollection(members.set_hash, vote)
        for height in heights_to_look_through(tip, began):
            found = self._in_certificates(member, height)
            if found is not None:
                return found
        return None

    def _in_certificates(self, member: NodeId, height: int) -> Recollection | None:
        members = self._transcripts.members_of(height)
        index = members.index_of(member)
        if index is None:
            return None
        vote = newest_in(self._transcripts.certificates(height), index)
        return None if vote is None else Recollection(members.set_hash, vote)
