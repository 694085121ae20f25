"""Requests and answers of joining, byte for byte: ``snapshot``, ``bucket``, ``history``.

Nothing in an answer is believed here. Specification: docs/spec/peer-protocols.md, "ask".
"""

from __future__ import annotations

import operator
import struct
from dataclasses import dataclass
from itertools import islice
from typing import Final

from pyrsia_node.ledger.adopting import WholeBlock
from pyrsia_node.ledger.commitment import KEY_BYTES_MAX
from pyrsia_node.ledger.snapshot import BUCKETS_MAX, Offer, Page
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.leaves import Header
from pyrsia_node.replica.catchup_wire import join_prefixed, split_prefixed

BUCKET_NAME_BYTES_MAX: Final = 64
BUCKET_REQUEST_BYTES_MAX: Final = 8 + 4 + BUCKET_NAME_BYTES_MAX + 4 + KEY_BYTES_MAX
_HASH_BYTES: Final = 32
_LAST, _MORE = b"\x01", b"\x00"
_PARTS_BEFORE_LEAVES: Final = 2
_PAIRS_MAX: Final = 500_000
_LEAVES_MAX: Final = 200_000


@dataclass(frozen=True, slots=True)
class BucketRequest:
    """Asks for the pairs of a bucket, of the snapshot of a height, that follow a key."""

    height: int
    bucket: str
    after: bytes


def encode_offer(offer: Offer) -> bytes:
    """Return the answer that offers a snapshot."""
    buckets = [name.encode("ascii") + value for name, value in offer.buckets]
    return join_prefixed([offer.header, offer.certificate, *buckets])


def decode_offer(answer: bytes) -> Offer:
    """Return an offered snapshot, unchecked.

    Raises:
        InvalidInputError: malformed, or a bucket occurs twice.
    """
    parts = split_prefixed(answer, items_max=2 + BUCKETS_MAX)
    if len(parts) < 2:
        raise InvalidInputError("snapshot: header or certificate is missing")
    buckets = [(_name(each[:-_HASH_BYTES]), each[-_HASH_BYTES:]) for each in parts[2:]]
    names = [name for name, _ in buckets]
    if names != sorted(set(names)):
        raise InvalidInputError("snapshot: buckets are not in order, or one occurs twice")
    return Offer(parts[0], parts[1], tuple(buckets))


def encode_bucket_request(request: BucketRequest) -> bytes:
    """Return the request for a page of a bucket."""
    name = request.bucket.encode("ascii")
    return struct.pack(">Q", request.height) + join_prefixed([name, request.after])


def decode_bucket_request(payload: bytes) -> BucketRequest:
    """Return what a request for a page asks.

    Raises:
        InvalidInputError: malformed.
    """
    parts = split_prefixed(payload[8:], items_max=2)
    if len(parts) != 2 or len(parts[1]) > KEY_BYTES_MAX:
        raise InvalidInputError("bucket: a height, a name and a key are expected")
    (height,) = struct.unpack(">Q", payload[:8])
    return BucketRequest(height, _name(parts[0]), parts[1])


def encode_page(page: Page) -> bytes:
    """Return the answer that carries a page."""
    parts = [part for pair in page.pairs for part in pair]
    return (_LAST if page.is_last else _MORE) + join_prefixed(parts)


def decode_page(answer: bytes) -> Page:
    """Return a page, unchecked.

    Raises:
        InvalidInputError: malformed, a key is too long, or its keys are not in order.
    """
    if answer[:1] not in {_LAST, _MORE}:
        raise InvalidInputError("bucket: the page does not say whether it is the last")
    parts = split_prefixed(answer[1:], items_max=2 * _PAIRS_MAX)
    pairs = tuple(zip(parts[::2], parts[1::2], strict=False))
    keys = parts[::2]
    if len(parts) % 2 or not pairs or not all(map(operator.lt, keys, islice(keys, 1, None))):
        raise InvalidInputError("bucket: a page of pairs in order of key is expected")
    longest = max(map(len, keys))
    if longest > KEY_BYTES_MAX:
        raise InvalidInputError(f"bucket: a key of {longest} bytes exceeds {KEY_BYTES_MAX}")
    return Page(pairs, is_last=answer[:1] == _LAST)


def encode_whole_block(certificate: bytes, parent_certificate: bytes, leaves: list[bytes]) -> bytes:
    """Return one block of a ``history`` answer."""
    return join_prefixed([certificate, parent_certificate, *leaves])


def split_whole_block(data: bytes) -> tuple[bytes, bytes, list[bytes]]:
    """Return certificate, parent certificate and leaves, at least the header.

    Raises:
        InvalidInputError: malformed.
    """
    parts = split_prefixed(data, items_max=_PARTS_BEFORE_LEAVES + _LEAVES_MAX)
    if len(parts) <= _PARTS_BEFORE_LEAVES:
        raise InvalidInputError("history: a block without a header")
    return parts[0], parts[1], parts[2:]


def decode_whole_block(data: bytes) -> WholeBlock:
    """Return one block of a ``history`` answer, unchecked.

    Raises:
        InvalidInputError: malformed.
    """
    certificate, parent_certificate, leaves = split_whole_block(data)
    return WholeBlock(Header.decode(leaves[0]), certificate, parent_certificate, tuple(leaves))


def _name(data: bytes) -> str:
    if not 0 < len(data) <= BUCKET_NAME_BYTES_MAX or not data.isascii():
        raise InvalidInputError(f"bucket name {data[:40]!r} is not 1 to 64 ASCII characters")
    return data.decode("ascii")
