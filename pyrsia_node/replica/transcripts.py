"""What was certified at each height: the certificates that would name the makers of a fork.

Beside a block that was not simply decided in view 0 the node keeps every certificate it knew of
that height (CONSENSUS.md 3.9). They are written before the block is committed: a crash between
leaves the transcript of a height to come, which the next commit of that height writes again.
Of each statement (kind, view and block) one certificate is kept, with the signatures of all that
were seen: a liar's hundred choices of signers take the room of one. Final ones come first, then
those of the views in which something was final, so what convicts the makers of a fork is never cut.
Anybody may ask for them (``transcript``); who gets them checks every signature.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from consensus import wire
from consensus.errors import DecodeError
from consensus.judge import decode_transcript, encode_transcript
from consensus.types import Certificate, Digest, Height, MemberSet, View, VoteKind
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
        self._answered: tuple[tuple[int, int, int], bytes] | None = None
        self.additions = 0
        """How often something was added: what was concluded from transcripts holds until then."""

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
        """Add certificates of a height to what is kept of it; durable on return.

        Their signatures hold: one that does not would spoil what it is merged with.
        """
        n = len(self.members_of(height).members)
        together = encode_transcript(merged((*self.certificates(height), *certificates)), n=n)
        if together == self._store.get(_key(height)):
            return
        self._store.write([(_key(height), together)], sync=True)
        self.additions += 1

    def certificates(self, height: int) -> tuple[Certificate, ...]:
        """Return everything known of a height: what was kept, and what finalized its block.

        Raises:
            NotFoundError: the chain does not reach there.
        """
        n = len(self.members_of(height).members)
        found = self._kept(height, n=n)
        final = self._chain.certificates(height)
        if final is None:
            return found
        return merged((wire.decode_certificate(final[0], n=n), *found))

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
        # Everybody asks for the same one, that of a fork, and it may have megabytes.
        key = (height, self.additions, self._chain.tip.height)
        if self._answered is None or self._answered[0] != key:
            n = len(self.members_of(height).members)
            self._answered = (key, encode_transcript(self.certificates(height), n=n))
        return self._answered[1]

    def _kept(self, height: int, *, n: int) -> tuple[Certificate, ...]:
        data = self._store.get(_key(height))
        try:
            return decode_transcript(data or b"", n=n)
        except DecodeError as error:
            raise CorruptStateError(f"transcript of height {height}: {error}") from error


def merged(certificates: Iterable[Certificate]) -> tuple[Certificate, ...]:
    """Return one certificate for each kind, view and block, with the signatures of all of them.

    Of two signatures of one member under one statement the first is taken. Order: final ones, those
    of views with a final one, the others, each by view.
    """
    signatures: dict[tuple[VoteKind, View, Digest], dict[int, bytes]] = {}
    heights = set()
    for one in certificates:
        heights.add(one.height)
        known = signatures.setdefault((one.kind, one.view, one.block_hash), {})
        for signer, signature in zip(one.signers, one.signatures, strict=True):
            known.setdefault(signer, signature)
    assert len(heights) <= 1, "a transcript is of one height"
    final_views = {view for kind, view, _ in signatures if kind is VoteKind.FINALIZE}

    def place(statement: tuple[VoteKind, View, Digest]) -> tuple[bool, bool, View, int, Digest]:
        kind, view, block = statement
        return kind is not VoteKind.FINALIZE, view not in final_views, view, kind, block

    return tuple(
        Certificate(
            kind=statement[0],
            height=height,
            view=statement[1],
            block_hash=statement[2],
            signers=tuple(sorted(signatures[statement])),
            signatures=tuple(each for _, each in sorted(signatures[statement].items())),
        )
        for height in heights
        for statement in sorted(signatures, key=place)
    )


def encode_question(height: Height | int) -> bytes:
    """Return the request for the certificates of a height."""
    return int(height).to_bytes(_QUESTION_BYTES, "big")


def _key(height: int) -> bytes:
    return _PREFIX + height.to_bytes(8, "big")
