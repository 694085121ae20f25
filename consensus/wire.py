"""Bytes of the protocol, both ways: the only module that knows a layout.

Every decoder takes bytes from a hostile peer: it checks sizes before it reads, accepts exactly one
encoding of each value, and raises nothing but ``DecodeError``. No signature is checked here (see
``ingress``) and no header is parsed: a block is opaque parts plus a digest.
Layout: docs/spec/consensus-wire.md. All integers are big-endian.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Final, assert_never

from consensus.errors import DecodeError
from consensus.quorum import bitmap_bytes, pack_bitmap, quorum, unpack_bitmap
from consensus.reader import Reader
from consensus.types import (
    ZERO_DIGEST,
    Certificate,
    Decision,
    Digest,
    Height,
    Message,
    Proposal,
    Status,
    View,
    Vote,
    VoteKind,
)

FRAME_BYTES_MAX: Final = 2 * 1024 * 1024
"""Most bytes of one message with its kind byte."""

BLOCK_BYTES_MAX: Final = 1024 * 1024
"""Most bytes of a block: header, parent certificate, transactions and their length prefixes."""

LEAF_BYTES_MAX: Final = 48_000
"""Most bytes of a header or of one transaction: each becomes a leaf of the log."""

TRANSACTIONS_MAX: Final = 5_000
"""Most transactions of one block."""

MEMBERS_MAX: Final = 512
"""Largest member set whose certificates fit; the set leaf of the ledger ends far below."""

NULLIFICATIONS_MAX: Final = 64
"""Most nullifications inside a proposal; older ones travel by Status (R8)."""

STATUS_ITEMS_MAX: Final = 64
"""Most ranges, and most bodies, that one Status names."""

_VOTE: Final = struct.Struct(">BQI32sH64s")
_CERTIFICATE_HEAD: Final = struct.Struct(">BQI32s")
_POSITION: Final = struct.Struct(">QI")
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_RANGE: Final = struct.Struct(">II")

_VOTE_DOMAIN: Final = b"pyrsia/vote/1\0"
_PROPOSAL_DOMAIN: Final = b"pyrsia/proposal/1\0"

HEIGHT_MAX: Final = 2**53 - 1
"""Largest height: the header writes it as a JSON integer."""


class MessageKind(IntEnum):
    """First byte of a consensus frame."""

    VOTE = 1
    CERTIFICATE = 2
    PROPOSAL = 3
    DECISION = 4
    STATUS = 5


@dataclass(frozen=True, slots=True)
class BlockParts:
    """A block taken apart; the parts are opaque here."""

    header: bytes
    parent_certificate: bytes
    transactions: tuple[bytes, ...]


# -- what is signed ------------------------------------------------------------------------------


def vote_bytes(
    kind: VoteKind,
    height: Height,
    view: View,
    block_hash: Digest,
    *,
    chain_id: Digest,
    set_hash: Digest,
) -> bytes:
    """Return the bytes that a vote signs: bound to the chain, the member set and its epoch."""
    position = struct.pack(">QIB", height, view, kind)
    return b"".join((_VOTE_DOMAIN, chain_id, set_hash, position, block_hash))


def proposal_bytes(
    height: Height, view: View, block_hash: Digest, *, chain_id: Digest, set_hash: Digest
) -> bytes:
    """Return the bytes that the leader of a view signs for its block."""
    position = _POSITION.pack(height, view)
    return b"".join((_PROPOSAL_DOMAIN, chain_id, set_hash, position, block_hash))


# -- votes and certificates ----------------------------------------------------------------------


def encode_vote(vote: Vote) -> bytes:
    """Return the 111 bytes of a vote."""
    return _VOTE.pack(
        vote.kind, vote.height, vote.view, vote.block_hash, vote.voter, vote.signature
    )


def decode_vote(data: bytes, *, n: int = MEMBERS_MAX) -> Vote:
    """Return the vote that ``data`` encodes; its voter is below ``n``.

    Raises:
        DecodeError: anything but the one encoding of a vote.
    """
    if len(data) != _VOTE.size:
        raise DecodeError(f"vote of {len(data)} bytes, {_VOTE.size} expected")
    kind, height, view, block_hash, voter, signature = _VOTE.unpack(data)
    if voter >= n:
        # ASA-2024-011: an index is compared with the set before any list sees it.
        raise DecodeError(f"voter {voter} of {n} members")
    return Vote(
        kind=_vote_kind(kind, block_hash),
        height=_height(height),
        view=View(view),
        block_hash=Digest(block_hash),
        voter=voter,
        signature=signature,
    )


def encode_certificate(certificate: Certificate, *, n: int) -> bytes:
    """Return the bytes of a certificate under a set of ``n`` members."""
    assert len(certificate.signers) == len(certificate.signatures)
    head = _CERTIFICATE_HEAD.pack(
        certificate.kind, certificate.height, certificate.view, certificate.block_hash
    )
    return b"".join((head, pack_bitmap(certificate.signers, n=n), *certificate.signatures))


def decode_certificate(data: bytes, *, n: int) -> Certificate:
    """Return the certificate that ``data`` encodes under a set of ``n`` members.

    Raises:
        DecodeError: wrong length, a stray bit, fewer signers than a quorum, or an unknown kind.
    """
    start = _CERTIFICATE_HEAD.size + bitmap_bytes(n)
    if len(data) < start:
        raise DecodeError(f"certificate of {len(data)} bytes is cut short")
    kind, height, view, block_hash = _CERTIFICATE_HEAD.unpack_from(data)
    signers = unpack_bitmap(data[_CERTIFICATE_HEAD.size : start], n=n)
    if len(signers) < quorum(n):
        raise DecodeError(f"certificate of {len(signers)} votes, {quorum(n)} needed of {n}")
    if len(data) != start + 64 * len(signers):
        # ASA-2025-003: the number of set bits and of elements must be the same number.
        raise DecodeError(f"certificate of {len(data)} bytes for {len(signers)} signers")
    return Certificate(
        kind=_vote_kind(kind, block_hash),
        height=_height(height),
        view=View(view),
        block_hash=Digest(block_hash),
        signers=signers,
        signatures=tuple(data[at : at + 64] for at in range(start, len(data), 64)),
    )


def certificate_height(data: bytes) -> Height:
    """Return the height of an encoded certificate, under whatever set it was encoded.

    Raises:
        DecodeError: cut short.
    """
    return _height(
        _CERTIFICATE_HEAD.unpack(Reader(data, "certificate").take(_CERTIFICATE_HEAD.size))[1]
    )


def certificate_bytes_max(n: int) -> int:
    """Return the length of a certificate that all ``n`` members signed."""
    return _CERTIFICATE_HEAD.size + bitmap_bytes(n) + 64 * n


# -- blocks --------------------------------------------------------------------------------------


def encode_block(header: bytes, parent_certificate: bytes, transactions: Sequence[bytes]) -> bytes:
    """Return a block of its parts, each behind its u32 length. Bounds are the decoder's.

    Raises:
        ValueError: the block would break a limit, so that no peer could read it.
    """
    parts = (header, parent_certificate, *transactions)
    block = b"".join(_U32.pack(len(part)) + part for part in parts)
    try:
        split_block(block)
    except DecodeError as error:
        raise ValueError(f"unreadable block: {error}") from error
    return block


def split_block(block: bytes) -> BlockParts:
    """Take a block apart.

    Raises:
        DecodeError: a length or count beyond its limit, an empty part, or trailing bytes.
    """
    if len(block) > BLOCK_BYTES_MAX:
        raise DecodeError(f"block of {len(block)} bytes, {BLOCK_BYTES_MAX} allowed")
    reader = Reader(block, "block")
    header = reader.prefixed(LEAF_BYTES_MAX)
    parent_certificate = reader.prefixed(certificate_bytes_max(MEMBERS_MAX))
    transactions: list[bytes] = []
    while not reader.is_at_end:
        if len(transactions) == TRANSACTIONS_MAX:
            raise DecodeError(f"block of more than {TRANSACTIONS_MAX} transactions")
        transactions.append(reader.prefixed(LEAF_BYTES_MAX))
    if not header or not all(transactions):
        raise DecodeError("block with an empty header or transaction")
    return BlockParts(header, parent_certificate, tuple(transactions))


def block_hash(block: bytes) -> Digest:
    """Return the block's name: SHA-256(0x00 || header), the leaf hash of its header.

    Raises:
        DecodeError: the header is cut short, empty or too long.
    """
    header = Reader(block, "block").prefixed(LEAF_BYTES_MAX)
    if not header:
        raise DecodeError("block with an empty header or transaction")
    return Digest(hashlib.sha256(b"\0" + header).digest())


def body_id(block: bytes) -> Digest:
    """Return SHA-256 of the whole block: what a verdict of the state machine belongs to."""
    return Digest(hashlib.sha256(block).digest())


# -- proposals, decisions, statuses --------------------------------------------------------------


def encode_proposal(proposal: Proposal, *, n: int) -> bytes:
    """Return the bytes of a proposal under a set of ``n`` members."""
    notarization = b""
    if proposal.notarization is not None:
        notarization = encode_certificate(proposal.notarization, n=n)
    nullifications = [encode_certificate(one, n=n) for one in proposal.nullifications]
    return b"".join(
        (
            _POSITION.pack(proposal.height, proposal.view),
            proposal.signature,
            _U32.pack(len(notarization)) + notarization,
            _U16.pack(len(nullifications)),
            *(_U32.pack(len(one)) + one for one in nullifications),
            proposal.block,
        )
    )


def decode_proposal(data: bytes, *, n: int) -> Proposal:
    """Return the proposal that ``data`` encodes under a set of ``n`` members.

    What is inside fits together: certificates of this height and of earlier views, the
    nullifications ascending by view, the notarization naming this very block.

    Raises:
        DecodeError: anything else.
    """
    reader = Reader(data, "proposal")
    height, view = _POSITION.unpack(reader.take(_POSITION.size))
    signature = reader.take(64)
    size_max = certificate_bytes_max(n)
    encoded = reader.prefixed(size_max)
    notarization = decode_certificate(encoded, n=n) if encoded else None
    count = reader.count(NULLIFICATIONS_MAX)
    nullifications = tuple(decode_certificate(reader.prefixed(size_max), n=n) for _ in range(count))
    block = reader.rest()
    split_block(block)
    proposal = Proposal(_height(height), View(view), block, notarization, nullifications, signature)
    _check_justification(proposal)
    return proposal


def proposal_height(data: bytes) -> Height:
    """Return the height of an encoded proposal, under whatever set it was encoded.

    Raises:
        DecodeError: cut short.
    """
    return _height(_POSITION.unpack(Reader(data, "proposal").take(_POSITION.size))[0])


def encode_decision(decision: Decision, *, n: int) -> bytes:
    """Return the bytes of a decision under the set of ``n`` members of its height."""
    return join_decision(decision.block, encode_certificate(decision.certificate, n=n))


def join_decision(block: bytes, certificate: bytes) -> bytes:
    """Return the bytes of a decision from its encoded parts, as they are stored."""
    return _U32.pack(len(certificate)) + certificate + block


def split_decision(data: bytes) -> tuple[bytes, bytes]:
    """Return (block, certificate) of a decision, still encoded; needs no member set.

    Raises:
        DecodeError: cut short, or a part beyond its limit.
    """
    reader = Reader(data, "decision")
    certificate = reader.prefixed(certificate_bytes_max(MEMBERS_MAX))
    block = reader.rest()
    split_block(block)
    return block, certificate


def decode_decision(data: bytes, *, n: int) -> Decision:
    """Return the decision that ``data`` encodes under a set of ``n`` members.

    Raises:
        DecodeError: malformed, or the certificate finalizes another block.
    """
    block, encoded = split_decision(data)
    certificate = decode_certificate(encoded, n=n)
    if certificate.kind is not VoteKind.FINALIZE:
        raise DecodeError(f"decision with a {certificate.kind.name} certificate")
    if certificate.block_hash != block_hash(block):
        raise DecodeError("decision whose certificate names another block")
    return Decision(block, certificate)


def encode_status(status: Status) -> bytes:
    """Return the bytes of a status."""
    assert max(len(status.missing_views), len(status.missing_bodies)) <= STATUS_ITEMS_MAX
    return b"".join(
        (
            _POSITION.pack(status.height, status.view),
            _U16.pack(len(status.missing_views)),
            *(_RANGE.pack(first, last) for first, last in status.missing_views),
            _U16.pack(len(status.missing_bodies)),
            *status.missing_bodies,
        )
    )


def decode_status(data: bytes) -> Status:
    """Return the status that ``data`` encodes: ranges ascend with gaps between, hashes ascend.

    Raises:
        DecodeError: anything but the one encoding.
    """
    reader = Reader(data, "status")
    height, view = _POSITION.unpack(reader.take(_POSITION.size))
    count = reader.count(STATUS_ITEMS_MAX)
    pairs = [_RANGE.unpack(reader.take(_RANGE.size)) for _ in range(count)]
    ranges = tuple((View(first), View(last)) for first, last in pairs)
    bodies = tuple(Digest(reader.take(32)) for _ in range(reader.count(STATUS_ITEMS_MAX)))
    reader.end()
    free = 0
    for first, last in ranges:
        if not free <= first <= last:
            raise DecodeError(f"status with the range {first}..{last} out of order")
        free = last + 2
    if any(one >= two for one, two in pairwise(bodies)):
        raise DecodeError("status with body hashes out of order")
    return Status(_height(height), View(view), ranges, bodies)


# -- frames --------------------------------------------------------------------------------------


def encode_message(message: Message, *, n: int) -> bytes:
    """Return the frame of a message; ``n`` is the size of the member set of its height."""
    match message:
        case Vote():
            frame = bytes([MessageKind.VOTE]) + encode_vote(message)
        case Certificate():
            frame = bytes([MessageKind.CERTIFICATE]) + encode_certificate(message, n=n)
        case Proposal():
            frame = bytes([MessageKind.PROPOSAL]) + encode_proposal(message, n=n)
        case Decision():
            frame = bytes([MessageKind.DECISION]) + encode_decision(message, n=n)
        case Status():
            frame = bytes([MessageKind.STATUS]) + encode_status(message)
        case _:
            assert_never(message)
    assert len(frame) <= FRAME_BYTES_MAX, "a proposer keeps its proposal within a frame"
    return frame


def decode_message(frame: bytes, *, n: int) -> Message:
    """Return the message of a frame, under a set of ``n`` members.

    Raises:
        DecodeError: anything but the one encoding of a message.
    """
    kind = _frame_kind(frame)
    payload = frame[1:]
    match kind:
        case MessageKind.VOTE:
            return decode_vote(payload, n=n)
        case MessageKind.CERTIFICATE:
            return decode_certificate(payload, n=n)
        case MessageKind.PROPOSAL:
            return decode_proposal(payload, n=n)
        case MessageKind.DECISION:
            return decode_decision(payload, n=n)
        case MessageKind.STATUS:
            return decode_status(payload)
        case _:
            assert_never(kind)


def peek(frame: bytes) -> tuple[MessageKind, Height, View]:
    """Return kind, height and view of a frame without decoding the rest; costs no hash.

    Raises:
        DecodeError: no known kind, cut short, or larger than a frame may be.
    """
    kind = _frame_kind(frame)
    match kind:
        case MessageKind.VOTE | MessageKind.CERTIFICATE:
            at = 2
        case MessageKind.DECISION:
            at = _U32.size + 2
        case MessageKind.PROPOSAL | MessageKind.STATUS:
            at = 1
        case _:
            assert_never(kind)
    if len(frame) < at + _POSITION.size:
        raise DecodeError(f"{kind.name} of {len(frame)} bytes is cut short")
    height, view = _POSITION.unpack_from(frame, at)
    return kind, _height(height), View(view)


def _frame_kind(frame: bytes) -> MessageKind:
    if not 1 <= len(frame) <= FRAME_BYTES_MAX:
        raise DecodeError(f"frame of {len(frame)} bytes, 1 to {FRAME_BYTES_MAX} allowed")
    try:
        return MessageKind(frame[0])
    except ValueError:
        raise DecodeError(f"frame of unknown kind {frame[0]}") from None


# -- pieces --------------------------------------------------------------------------------------


def _vote_kind(number: int, block: bytes) -> VoteKind:
    try:
        kind = VoteKind(number)
    except ValueError:
        raise DecodeError(f"vote of unknown kind {number}") from None
    if (kind is VoteKind.NULLIFY) != (block == ZERO_DIGEST):
        raise DecodeError(f"{kind.name} of block {block.hex()}")
    return kind


def _height(height: int) -> Height:
    if height > HEIGHT_MAX:
        raise DecodeError(f"height {height} is beyond {HEIGHT_MAX}")
    return Height(height)


def _check_justification(proposal: Proposal) -> None:
    """Refuse certificates that could not justify this proposal, whoever signed them."""
    notarization = proposal.notarization
    views = [one.view for one in proposal.nullifications]
    if any(one >= two for one, two in pairwise(views)):
        raise DecodeError("proposal with nullifications out of order")
    if any(one.kind is not VoteKind.NULLIFY for one in proposal.nullifications):
        raise DecodeError("proposal with another certificate among its nullifications")
    certificates = [*proposal.nullifications, *([notarization] if notarization else [])]
    if any(one.height != proposal.height for one in certificates):
        raise DecodeError("proposal with a certificate of another height")
    if any(one.view >= proposal.view for one in certificates):
        raise DecodeError("proposal with a certificate of a view that is not before its own")
    if notarization is None:
        return
    if notarization.kind is not VoteKind.NOTARIZE:
        raise DecodeError(f"proposal justified by a {notarization.kind.name} certificate")
    if notarization.block_hash != block_hash(proposal.block):
        raise DecodeError("proposal whose notarization names another block")
