"""The only code that touches the vote key, with a memory and a judgement of its own.

It re-checks what R2, R5 and R6 promise against its own table of everything it has signed, and it
refuses heights that are committed. A bug elsewhere in the core can then make this node fall
silent, but never contradict itself. The table is fed from the write-ahead log at start; within a
run it is ahead of the log by at most the records that the same step asks to persist.

It signs for the working height alone, and only if the set of that height names this very key for
this member. A vote by another key counts for nobody else, but its maker would count it, believe in
certificates that no one else has, and be bound by them (design, section 8, "Another key").
"""

from __future__ import annotations

from typing import Final

from consensus.ed25519 import Sign
from consensus.errors import SignerRefusal
from consensus.types import (
    ZERO_DIGEST,
    Digest,
    Height,
    MemberSet,
    NodeId,
    View,
    Vote,
    VoteKind,
)
from consensus.wire import proposal_bytes, vote_bytes

GENESIS: Final = Height(0)
"""Height of the genesis, on which nobody votes."""


class Signer:
    """Signs votes and proposals of one member, never two that contradict each other."""

    __slots__ = (
        "_chain_id",
        "_committed",
        "_first_height",
        "_is_named",
        "_me",
        "_proposals",
        "_public_key",
        "_set_hash",
        "_sign",
        "_votes",
    )

    def __init__(
        self,
        chain_id: Digest,
        me: NodeId,
        public_key: bytes,
        sign: Sign,
        *,
        first_height: Height | None = GENESIS,
    ) -> None:
        """Hold the key behind ``sign``; nothing is signed before ``enter``.

        Args:
            chain_id: hash of the genesis; part of all that is signed.
            me: the member whose votes these are.
            public_key: belongs to ``sign``; 32 bytes.
            sign: signs bytes with the vote key that this node holds.
            first_height: nothing below it is ever signed; None is silence until ``resume``. A node
                that may have forgotten votes (amnesia, CONSENSUS 3.6.4) starts silent.
        """
        self._chain_id = chain_id
        self._me = me
        self._public_key = public_key
        self._sign = sign
        self._first_height = first_height
        self._committed = GENESIS
        self._set_hash = ZERO_DIGEST
        self._is_named = False
        self._votes: dict[tuple[Height, View], dict[VoteKind, Vote]] = {}
        self._proposals: dict[tuple[Height, View], Digest] = {}

    @property
    def chain_id(self) -> Digest:
        """Return the hash of the genesis that everything signed here is bound to."""
        return self._chain_id

    @property
    def me(self) -> NodeId:
        """Return the member whose votes are signed here."""
        return self._me

    # -- feeding ---------------------------------------------------------------------------------

    def restore_vote(self, vote: Vote) -> None:
        """Note an own vote of an earlier life."""
        self._votes.setdefault((vote.height, vote.view), {}).setdefault(vote.kind, vote)

    def restore_proposal(self, height: Height, view: View, block_hash: Digest) -> None:
        """Note an own proposal of an earlier life."""
        self._proposals.setdefault((height, view), block_hash)

    def enter(self, height: Height, members: MemberSet) -> None:
        """Work at ``height``, whose set is ``members``: all below is committed and forgotten."""
        assert height > self._committed, "heights only grow"
        self._committed = Height(height - 1)
        self._set_hash = members.set_hash
        self._is_named = members.vote_key_of(self._me) == self._public_key
        self._votes = {key: cast for key, cast in self._votes.items() if key[0] >= height}
        self._proposals = {key: name for key, name in self._proposals.items() if key[0] >= height}

    def resume(self, first_height: Height) -> None:
        """End a silence: sign from ``first_height`` on."""
        self._first_height = first_height

    def silence(self) -> None:
        """Sign nothing any more until ``resume``: votes of ours were seen that we do not know."""
        self._first_height = None

    # -- asking ----------------------------------------------------------------------------------

    def may_sign(self, height: Height) -> bool:
        """Say whether anything of ``height`` can be signed at all."""
        return not self._why_silent(height)

    def has_cast(self, vote: Vote) -> bool:
        """Say whether this very vote is ours, cast in this life or an earlier one.

        Knows the working height and those above; what is below is committed and forgotten.
        """
        known = self._votes.get((vote.height, vote.view), {}).get(vote.kind)
        return known is not None and known.block_hash == vote.block_hash

    def votes(self, height: Height) -> list[Vote]:
        """Return the votes signed at ``height``, by view and kind."""
        cast = (votes for (at, _), votes in self._votes.items() if at == height)
        found = [vote for votes in cast for vote in votes.values()]
        return sorted(found, key=lambda vote: (vote.view, vote.kind))

    # -- signing ---------------------------------------------------------------------------------

    def sign_vote(
        self, kind: VoteKind, height: Height, view: View, block_hash: Digest, *, voter: int
    ) -> Vote:
        """Return the signed vote; the same vote again if it was signed before.

        Raises:
            SignerRefusal: it would contradict an earlier vote, or the height is not ours to sign.
        """
        self._check_height(height)
        cast = self._votes.setdefault((height, view), {})
        earlier = cast.get(kind)
        if earlier is not None and earlier.block_hash == block_hash:
            return earlier
        refusal = _why_not(kind, block_hash, cast)
        if refusal:
            raise SignerRefusal(f"{kind.name} at {height}/{view}: {refusal}")
        message = vote_bytes(
            kind, height, view, block_hash, chain_id=self._chain_id, set_hash=self._set_hash
        )
        vote = Vote(kind, height, view, block_hash, voter, self._sign(message))
        cast[kind] = vote
        return vote

    def sign_proposal(self, height: Height, view: View, block_hash: Digest) -> bytes:
        """Return the leader's signature over a block for a view.

        Raises:
            SignerRefusal: another block was proposed in this view, or the view was nullified.
        """
        self._check_height(height)
        where = f"proposal at {height}/{view}"
        if self._proposals.get((height, view), block_hash) != block_hash:
            raise SignerRefusal(f"{where}: another block was proposed")
        if VoteKind.NULLIFY in self._votes.get((height, view), {}):
            raise SignerRefusal(f"{where}: the view was nullified")
        self._proposals[height, view] = block_hash
        return self._sign(
            proposal_bytes(
                height, view, block_hash, chain_id=self._chain_id, set_hash=self._set_hash
            )
        )

    def _check_height(self, height: Height) -> None:
        refusal = self._why_silent(height)
        if refusal:
            raise SignerRefusal(f"height {height}: {refusal}")

    def _why_silent(self, height: Height) -> str:
        """Return why nothing of ``height`` is signed, or nothing."""
        if self._first_height is None or height < self._first_height:
            return f"committed {self._committed}, first {self._first_height}"
        if height != self._committed + 1:
            # What lies above has a set that is not known yet.
            return f"committed {self._committed}; only the next height is signed for"
        if not self._is_named:
            return f"its set does not name this vote key for {self._me}"
        return ""


def _why_not(kind: VoteKind, block_hash: Digest, cast: dict[VoteKind, Vote]) -> str:
    """Return what forbids a vote beside those already cast in its view, or nothing."""
    if kind in cast:
        return "another block has this vote"
    match kind:
        case VoteKind.NOTARIZE:  # R5
            if VoteKind.NULLIFY in cast:
                return "the view was nullified"
            if VoteKind.FINALIZE in cast:
                return "the view was finalized"
        case VoteKind.FINALIZE:  # R2
            if VoteKind.NULLIFY in cast:
                return "the view was nullified"
            notarized = cast.get(VoteKind.NOTARIZE)
            if notarized is not None and notarized.block_hash != block_hash:
                return "another block was notarized"
        case VoteKind.NULLIFY:  # R6
            if VoteKind.FINALIZE in cast:
                return "the view was finalized"
    return ""
