"""Names those who made a fork, from certificates alone (CONSENSUS 3.9).

Two final certificates of one height mean that more than f members are traitors. In one view their
signers overlap; in two views v < w the first proposal after v that is not for v's block had to
show a nullification, or another notarization, of v, and its signers overlap with those who
finalized in v. So the transcripts of honest nodes convict f + 1 members or more, and every
conviction is a pair of statements that stands by itself; an honest member never signs one.
Pure: whoever calls fetches the transcripts, from as many nodes as it likes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from consensus.contradiction import Contradiction, contradiction_of
from consensus.ed25519 import Verify
from consensus.errors import DecodeError
from consensus.evidence import VoteBook
from consensus.ingress import verify_certificate
from consensus.reader import Reader
from consensus.types import Certificate, Digest, Height, MemberSet, NodeId, VoteKind
from consensus.wire import certificate_bytes_max, decode_certificate, encode_certificate

TRANSCRIPT_CERTIFICATES_MAX: Final = 2_000
"""Most certificates of one height that are encoded or taken in; a thousand views have two each."""

TRANSCRIPT_BYTES_MAX: Final = 4 * 1024 * 1024
"""Longest encoded transcript; of a large set it holds fewer certificates."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the certificates of one height prove.

    Attributes:
        height: the height they are of.
        is_fork: whether two different blocks are final.
        contradictions: a proof for each culprit and crime, by culprit.
    """

    height: Height
    is_fork: bool
    contradictions: tuple[Contradiction, ...]

    @property
    def culprits(self) -> tuple[NodeId, ...]:
        """Return who is convicted, by id."""
        return tuple(sorted({proof.culprit for proof in self.contradictions}))


def judge(
    certificates: Iterable[Certificate],
    *,
    height: Height,
    members: MemberSet,
    chain_id: Digest,
    verify: Verify,
) -> Verdict:
    """Return what certificates, from whomever, prove of the members of one height.

    Those of another height, and those whose signatures do not hold under ``members``, are left
    out: a liar's file can add nothing. Costs a quorum of signature checks for each certificate.
    """
    book = VoteBook()
    final: set[Digest] = set()
    found: dict[tuple[NodeId, str], Contradiction] = {}
    for certificate in dict.fromkeys(certificates):
        if certificate.height != height:
            continue
        if not verify_certificate(certificate, members, chain_id, verify):
            continue
        if certificate.kind is VoteKind.FINALIZE:
            final.add(certificate.block_hash)
        for one, two in book.add_certificate(certificate):
            culprit = members.members[one.voter].id
            proof = contradiction_of(culprit, members.set_hash, one, two)
            found.setdefault((culprit, proof.crime.value), proof)
    proofs = tuple(found[key] for key in sorted(found))
    return Verdict(height, len(final) > 1, proofs)


def encode_transcript(certificates: Iterable[Certificate], *, n: int) -> bytes:
    """Return certificates of one height, each behind its u32 length; the first that fit."""
    room = min(TRANSCRIPT_CERTIFICATES_MAX, TRANSCRIPT_BYTES_MAX // (certificate_bytes_max(n) + 4))
    encoded = [encode_certificate(one, n=n) for one in islice(certificates, room)]
    return b"".join(len(one).to_bytes(4, "big") + one for one in encoded)


def decode_transcript(data: bytes, *, n: int) -> tuple[Certificate, ...]:
    """Undo ``encode_transcript`` under a set of ``n`` members. No signature is checked.

    Raises:
        DecodeError: malformed, or more certificates than the limit.
    """
    reader = Reader(data, "transcript")
    found: list[Certificate] = []
    while not reader.is_at_end:
        if len(found) == TRANSCRIPT_CERTIFICATES_MAX:
            raise DecodeError(f"transcript of more than {TRANSCRIPT_CERTIFICATES_MAX} certificates")
        found.append(decode_certificate(reader.prefixed(certificate_bytes_max(n)), n=n))
    return tuple(found)
