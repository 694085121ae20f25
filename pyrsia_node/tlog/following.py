"""A light client: follows a log by its set changes and heads, and never goes back.

It holds a trust file and, beside it, the largest head that it has believed (``<trust file>.head``,
the signed checkpoint itself). Each step is a pure function from what is held and what somebody
brought to what is held next; whoever keeps the files writes the trust file first and the head
second, so that a crash between the two leaves an older head under newer sets, which still holds.

What it refuses, whoever brings it: a set change that is not certified or leaves out an epoch; one
that would have happened before a head seen later under the old set; a head cosigned by keys that
have handed over; a smaller head, another root at the same size, a larger one that does not extend
what was seen; and one that no quorum has stood behind lately. What it cannot notice by itself is a
history that a *retired* quorum makes up from exactly where the client stopped: compare heads from
two sources, or take a recent trust file from somebody you trust (weak subjectivity).
Specification: docs/spec/log-formats.md, "Following a log".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.proofs import verify_consistency
from pyrsia_node.tlog.trust import Cosigned, SetChange, Trust, TrustFile

HEAD_AGE_S_MAX: Final = 3600
"""Default age at which a head is stale. Members cosign an unchanged head every ten minutes."""

CLOCK_AHEAD_S_MAX: Final = 600
"""How far a quorum's time may lie ahead of the client's clock."""


@dataclass(frozen=True, slots=True)
class Following:
    """What a client holds. ``head`` is None before the first one was believed."""

    file: TrustFile
    trust: Trust
    head: Cosigned | None = None
    note: bytes = b""

    @classmethod
    def load(
        cls, trust_file: bytes, note: bytes | None = None, *, network_id: bytes | None = None
    ) -> Following:
        """Return what the two files hold, all of it checked again.

        Args:
            trust_file: The bytes of the trust file.
            note: The bytes of the head file; None where there is none.
            network_id: The network's id when it is known from elsewhere.

        Raises:
            InvalidInputError: A file is malformed.
            VerificationError: A part of one does not hold.
        """
        file = TrustFile.parse(trust_file)
        trust = Trust.establish(file, network_id=network_id)
        if note is None:
            return cls(file, trust)
        return cls(file, trust, trust.check(SignedCheckpoint.parse(note)), note)

    def with_changes(self, changes: Sequence[SetChange]) -> Following:
        """Return what is held after the set changes that follow the current epoch.

        Raises:
            InvalidInputError: A part is malformed.
            VerificationError: As ``Trust.extended``; or a change ends before the head, which the
                set before it signed.
        """
        trust = self.trust.extended(*changes)
        for epoch in trust.epochs[len(self.trust.epochs) :]:
            seen = self.head.checkpoint.size if self.head is not None else 0
            if epoch.after_size < seen:
                raise VerificationError(
                    f"change to epoch {epoch.members.epoch} ends at size {epoch.after_size}, but "
                    f"the set before it signed size {seen}: two histories"
                )
        file = TrustFile(self.file.genesis, (*self.file.changes, *changes))
        return replace(self, file=file, trust=trust)

    def with_newer(self, other: TrustFile) -> Following:
        """Return what is held after those changes of another trust file that are news.

        Raises:
            InvalidInputError: A part is malformed.
            VerificationError: It is of another network, or as ``with_changes``.
        """
        if other.genesis != self.file.genesis:
            raise VerificationError("the other trust file is of another network")
        return self.with_changes(other.changes[len(self.file.changes) :])

    def with_head(
        self,
        note: bytes,
        proof: Sequence[bytes],
        *,
        now_s: int,
        age_s_max: int = HEAD_AGE_S_MAX,
    ) -> Following:
        """Return what is held after a head that somebody brought.

        Args:
            note: The signed checkpoint.
            proof: That the head held is a prefix of it; ignored where none is held yet.
            now_s: The client's clock, Unix seconds.
            age_s_max: Oldest time, back from now, at which a quorum may last have stood behind it.

        Raises:
            InvalidInputError: Malformed.
            VerificationError: It lacks a quorum of its epoch, went back, forked, or is stale.
        """
        signed = SignedCheckpoint.parse(note)
        new = self.trust.check(signed)
        self._check_growth(new, proof)
        age_s = now_s - new.time_s
        if age_s > age_s_max:
            raise VerificationError(
                f"the head of size {new.checkpoint.size} is stale: a quorum last stood behind it "
                f"{age_s} s ago, {age_s_max} s is the limit"
            )
        if age_s < -CLOCK_AHEAD_S_MAX:
            raise VerificationError(
                f"the head of size {new.checkpoint.size} was signed {-age_s} s from now: one of "
                "the clocks is wrong"
            )
        return replace(self, head=new, note=note)

    def _check_growth(self, new: Cosigned, proof: Sequence[bytes]) -> None:
        if self.head is None:
            return
        old, head = self.head.checkpoint, new.checkpoint
        if head.size < old.size:
            raise VerificationError(
                f"the log went back: size {head.size}, but size {old.size} was seen before"
            )
        try:
            verify_consistency(
                old_size=old.size,
                old_root=old.root,
                new_size=head.size,
                new_root=head.root,
                proof=() if head.size == old.size else proof,
            )
        except InvalidInputError as error:
            raise VerificationError(f"the log forked: {error}") from None
        except VerificationError as error:
            raise VerificationError(f"the log forked: {error}") from None
