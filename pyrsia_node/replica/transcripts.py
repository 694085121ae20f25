"""What was certified at each height: the certificates that would name the makers of a fork.

Beside a block that was not simply decided in view 0 the node keeps every certificate it knew of
that height (CONSENSUS.md 3.9). They are written before the block is committed: a crash between
leaves the transcript of a height to come, which the next commit of that height writes again.
Anybody may ask for them (``transcript``); who gets them checks every signature.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from consensus import wire
from consensus.errors import DecodeError
from consensus.judge import decode_transcript, encode_transcript
from consensus.types import Certificate, Height, MemberSet
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError, NotFoundError
from pyrsia_node.ports import KeyValueStore

SETS_MAX: Final = 64
"""Epochs whose set is at hand as consensus knows it."""

_PREFIX: Final = b"replica/transcript/"
_QUESTION_BYTES: Final = 8


class Transcripts:
    """The certificates of every height of one chain."""

    def __init__(self, store: KeyValueStore, chain: Chain) -> None:
        """Keep transcripts in ``store``, beside ``chain``."""
        self._store = store
        self._chain = chain
        self._sets: OrderedDict[int, MemberSet] = OrderedDict()

    def members_of(self, height: int) -> MemberSet:
        """Return the set that decides a height up to the working height.

        Raises:
            NotFoundError: the chain does not reach there.
        """
        # Every late certificate asks, and who decides a height is settled before it begins. By
        # epoch, or a walk through old heights would make each of them cost a set.
        epoch = self._chain.epoch_at(height)
        found = self._sets.pop(epoch, None)
        if found is None:
            found = self._chain.set_leaf_of(epoch).to_consensus()
        self._sets[epoch] = found
        if len(self._sets) > SETS_MAX:
            self._sets.popitem(last=False)
        return found

    def keep(self, height: int, certificates: Iterable[Certificate]) -> None:
        """Add certificates of a height to what is kept of it; durable on return."""
        n = len(self.members_of(height).members)
        together = dict.fromkeys((*self._kept(height, n=n), *certificates))
        self._store.write([(_key(height), encode_transcript(together, n=n))], sync=True)

    def certificates(self, height: int) -> tuple[Certificate, ...]:
        """Return everything known of a height: what was kept, and what finalized its block.

        Raises:
            NotFoundError: the chain does not reach there.
        """
        n = len(self.members_of(height).members)
        found = self._kept(height, n=n)
        decision = self._chain.decision(height)
        if decision is None:
            return found
        return tuple(dict.fromkeys((wire.decode_certificate(decision[1], n=n), *found)))

    def answer(self, question: bytes) -> bytes:
        """Return the certificates of the height that a peer asks for.

        Raises:
            InvalidInputError: the question is no height.
            NotFoundError: the chain does not reach there.
        """
        if len(question) != _QUESTION_BYTES:
            raise InvalidInputError(f"transcript: height of {len(question)} bytes, 8 expected")
        height = int.from_bytes(question, "big")
        if not 0 < height <= self._chain.tip.height + 1:
            raise NotFoundError(f"height {height} is not known here")
        members = self.members_of(height)
        return encode_transcript(self.certificates(height), n=len(members.members))

    def _kept(self, height: int, *, n: int) -> tuple[Certificate, ...]:
        data = self._store.get(_key(height))
        try:
            return decode_transcript(data or b"", n=n)
        except DecodeError as error:
            raise CorruptStateError(f"transcript of height {height}: {error}") from error


def encode_question(height: Height | int) -> bytes:
    """Return the request for the certificates of a height."""
    return int(height).to_bytes(_QUESTION_BYTES, "big")


def _key(height: int) -> bytes:
    return _PREFIX + height.to_bytes(8, "big")
