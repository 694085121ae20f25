"""Answers another member's start question: which is the newest vote of yours that I know?

What this node knows is the votes of its working height, and the certificates of the newest
committed ones: of those that took more than one view all that it knew, not only the final one, for
a NULLIFY that was forgotten is in none of those. The answer carries a vote with the asker's own
signature, so it needs no trust, and the height committed here: of older heights this node no longer
knows every vote, so the asker waits until it has committed them too.

An answer may read the certificates of 32 heights, some milliseconds of the thread that votes. So a
member gets one a second, and some more at once for its start; who asks faster is to ask again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

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
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.replica.budget import Budget
from pyrsia_node.replica.transcripts import Transcripts

ANSWERS_PER_S: Final = 1.0
ANSWERS_BURST: Final = 10.0
"""What a member may be answered; one that starts asks five times within its first four seconds."""


class Recall:
    """The memory of one member, for the others."""

    def __init__(
        self,
        *,
        chain: Chain,
        replica: Replica,
        transcripts: Transcripts,
        now_s: Callable[[], float] = trio.current_time,
    ) -> None:
        """Answer from the working height of ``replica`` and the certificates of ``chain``."""
        self._chain = chain
        self._replica = replica
        self._transcripts = transcripts
        self._now_s = now_s
        self._budget = Budget(per_s=ANSWERS_PER_S, burst=ANSWERS_BURST)

    def answer(self, member: NodeId | None, question: bytes) -> bytes:
        """Return the newest vote of ``member`` known here, above the height it names.

        Who is no member has no votes to look for: one that is about to be admitted asks, too.

        Raises:
            InvalidInputError: the question is malformed.
            UnavailableError: the member has asked too often; later it is answered again.
        """
        try:
            began = decode_question(question)
        except DecodeError as error:
            raise InvalidInputError(str(error)) from error
        if member is not None and not self._budget.take(member, self._now_s()):
            raise UnavailableError("recall: too many questions; ask again in a second")
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
