"""Proof that members signed two histories of one log: two heads that cannot both be true.

Two heads of one *size* contradict each other when their roots differ. Two heads of different sizes
do when the block of some height has one header under the first and another under the second; each
header is then proved under its head, because a header commits to everything before it. A proof
stands by itself: whoever holds the trust of the network can judge it, offline, and name the members
who signed both. Specification: docs/spec/log-formats.md, "Split view".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from pyrsia_node.model import canonical
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.leaves import Header
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.note import NOTE_BYTES_MAX
from pyrsia_node.tlog.proof import PROOF_BYTES_MAX, EntryProof
from pyrsia_node.tlog.trust import Trust, cosigner_keys

SPLIT_VIEW_BYTES_MAX: Final = 2 * (NOTE_BYTES_MAX + PROOF_BYTES_MAX) + 4096
"""Longest encoded proof."""

_MEMBERS: Final = frozenset({"headers", "heads", "t", "v"})


@dataclass(frozen=True, slots=True)
class SplitViewProof:
    """Two heads, each with cosignatures; and, for different sizes, one header under each."""

    heads: tuple[SignedCheckpoint, SignedCheckpoint]
    headers: tuple[EntryProof, EntryProof] | None = None

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        headers = self.headers or ()
        return canonical.dumps(
            {
                "heads": [each.encode().decode() for each in self.heads],
                "headers": [each.encode().decode() for each in headers],
                "t": "split_view",
                "v": 1,
            }
        )

    @classmethod
    def decode(cls, data: bytes) -> SplitViewProof:
        """Return the proof that the bytes spell; nothing is judged yet.

        Raises:
            InvalidInputError: Too long or malformed.
        """
        value = canonical.loads(data, bytes_max=SPLIT_VIEW_BYTES_MAX)
        got = Fields(value, "split_view", _MEMBERS)
        got.schema("split_view")
        heads = got.texts("heads", count_max=2, length_max=NOTE_BYTES_MAX)
        headers = got.texts("headers", count_max=2, length_max=PROOF_BYTES_MAX)
        if len(heads) != 2 or len(headers) == 1:
            raise InvalidInputError(
                f"split view of {len(heads)} heads and {len(headers)} headers, not 2 and 0 or 2"
            )
        first, second = (SignedCheckpoint.parse(each.encode()) for each in heads)
        pair = None
        if headers:
            one, other = (EntryProof.parse(each.encode()) for each in headers)
            pair = (one, other)
        return cls((first, second), pair)

    def judge(self, trust: Trust) -> tuple[str, ...]:
        """Return the labels of the members who signed both heads, sorted.

        The two heads contradict each other even if nobody signed both: then two groups of members
        stand against each other, and the tuple is empty.

        Raises:
            InvalidInputError: A part is malformed.
            VerificationError: A head is of another log, no member signed it, a signature or a
                header's proof does not hold, or the two do not contradict each other.
        """
        signers = [_signers(each, trust) for each in self.heads]
        first, second = (each.checkpoint for each in self.heads)
        if first.size == second.size:
            if first.root == second.root:
                raise VerificationError(f"both heads have size {first.size} and the same root")
        else:
            self._judge_headers()
        return tuple(sorted(signers[0] & signers[1]))

    def reversed(self) -> SplitViewProof:
        """Return the same proof with its sides exchanged."""
        return SplitViewProof(self.heads[::-1], self.headers[::-1] if self.headers else None)

    def of_members(self, trust: Trust) -> SplitViewProof:
        """Return the proof without lines that prove nothing: those of keys that are no member's.

        Whoever shows a head may have put such lines into it, under any name. Judge the proof first.
        """
        first, second = (_of_members(each, trust) for each in self.heads)
        if self.headers is None:
            return SplitViewProof((first, second))
        one, other = self.headers
        return SplitViewProof(
            (first, second), (replace(one, signed=first), replace(other, signed=second))
        )

    def _judge_headers(self) -> None:
        if self.headers is None:
            raise VerificationError("heads of different sizes, and no header under each")
        found: list[Header] = []
        for head, proof in zip(self.heads, self.headers, strict=True):
            if proof.signed.checkpoint != head.checkpoint or proof.extra is None:
                raise VerificationError("a header is not proved under the head it stands for")
            proof.verify_leaf(proof.extra)
            header = Header.decode(proof.extra)
            if header.prev_size != proof.index:
                raise VerificationError(
                    f"header of height {header.height} stands at {proof.index}, "
                    f"says {header.prev_size}"
                )
            found.append(header)
        if found[0].height != found[1].height:
            raise VerificationError(
                f"headers of heights {found[0].height} and {found[1].height} contradict nothing"
            )
        if found[0] == found[1]:
            raise VerificationError(f"both heads have the same block of height {found[0].height}")


def _of_members(signed: SignedCheckpoint, trust: Trust) -> SignedCheckpoint:
    members = trust.epoch_at(signed.checkpoint.size).members
    keys = {(key.name, key.key_id) for key in cosigner_keys(members)}
    lines = tuple(line for line in signed.signatures if (line.name, line.key_id) in keys)
    return SignedCheckpoint(signed.checkpoint, lines)


def _signers(signed: SignedCheckpoint, trust: Trust) -> set[str]:
    """Return the labels of the members whose cosignatures of a head hold."""
    head = signed.checkpoint
    if head.origin != trust.origin:
        raise VerificationError(f"head is of log {head.origin!r:.120}, not {trust.origin!r}")
    keys = cosigner_keys(trust.epoch_at(head.size).members)
    return {each.key.name for each in signed.verified_by(keys)}
