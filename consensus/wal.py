"""Bytes of the write-ahead log, and what a damaged file means. No files here: see the driver.

A file is preallocated with zeros. A batch is a run of whole 4 KiB pages; every page stands alone::

    page   = magic[4] | u64 batch number | u32 index in the batch | u16 used | u8 is last
             | BLAKE2b-16 of all that and of the data | data, ``used`` bytes, then zeros
    data   = the batch's records, joined and cut at page ends
    record = u32 length | u8 kind | payload | BLAKE2b-8 of (kind | payload)

Batch b + 1 is written only after the fdatasync of b returned. So, where a batch is not whole:

* no good page of a later batch anywhere after it: it was being written when the power went, none
  of it was ever sent, and it is dropped (TORN);
* a good page of a later batch: it had been durable, so this file has forgotten votes (AMNESIA).

Judging by single records instead calls most power cuts amnesia, because the pages of one fdatasync
reach the disk in any order. Every page has a head of its own because payloads are hostile: with
heads only where batches start, a traitor's transaction, laid on a page boundary, could pass for a
later batch and make a node silence itself after a power cut.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from consensus.effects import Record, RecordKind

PAGE_BYTES: Final = 4096
MAGIC: Final = b"PYW1"

_HEAD: Final = struct.Struct(">4sQIHB")
_CHECK_BYTES: Final = 16
_DATA_AT: Final = _HEAD.size + _CHECK_BYTES
_DATA_BYTES: Final = PAGE_BYTES - _DATA_AT
_RECORD_HEAD: Final = struct.Struct(">IB")
_RECORD_CHECK_BYTES: Final = 8


class ScanState(Enum):
    """What a file's content says: whole, cut off in its last batch, or with a hole."""

    CLEAN = "clean"
    TORN = "torn"
    AMNESIA = "amnesia"


@dataclass(frozen=True, slots=True)
class Scan:
    """Records of the whole batches; where and with which number the next batch goes."""

    records: tuple[Record, ...]
    next_number: int
    end_offset: int
    state: ScanState


@dataclass(frozen=True, slots=True)
class _Page:
    number: int
    index: int
    is_last: bool
    data: bytes


def encode_batch(number: int, records: Sequence[Record]) -> bytes:
    """Return one batch: at least one page, a multiple of 4 KiB."""
    body = b"".join(_encode_record(record) for record in records)
    starts = range(0, max(len(body), 1), _DATA_BYTES)
    pages = []
    for index, start in enumerate(starts):
        data = body[start : start + _DATA_BYTES]
        is_last = index == len(starts) - 1
        head = _HEAD.pack(MAGIC, number, index, len(data), is_last)
        pages.append((head + _check(head, data) + data).ljust(PAGE_BYTES, b"\0"))
    return b"".join(pages)


def scan(content: bytes, first_batch: int) -> Scan:
    """Read batches ``first_batch``, ``first_batch`` + 1, … from the start of a file's content.

    Args:
        content: the whole file. A length that is no multiple of 4 KiB is a file cut short, which
            only damage does: AMNESIA. Whether it has the length it was given is the caller's to
            check, who knows it.
        first_batch: the number of the file's first batch.
    """
    records: list[Record] = []
    number, offset = first_batch, 0
    while (batch := _batch_at(content, offset, number)) is not None:
        found, offset = batch
        records += found
        number += 1
    return Scan(tuple(records), number, offset, _judge_tail(content, offset, number))


def _judge_tail(content: bytes, offset: int, number: int) -> ScanState:
    if len(content) % PAGE_BYTES:
        return ScanState.AMNESIA
    if not content[offset:].strip(b"\0"):
        return ScanState.CLEAN
    later = (_page_at(content, at) for at in range(offset, len(content), PAGE_BYTES))
    if any(page is not None and page.number > number for page in later):
        return ScanState.AMNESIA
    return ScanState.TORN


def _batch_at(content: bytes, offset: int, number: int) -> tuple[list[Record], int] | None:
    """Return the records of batch ``number`` at ``offset`` and where the next one starts."""
    pieces: list[bytes] = []
    for page in _pages_from(content, offset):
        if (page.number, page.index) != (number, len(pieces)):
            return None
        pieces.append(page.data)
        if page.is_last:
            records = _decode_records(b"".join(pieces))
            return None if records is None else (records, offset + len(pieces) * PAGE_BYTES)
    return None


def _pages_from(content: bytes, offset: int) -> Iterator[_Page]:
    """Yield good pages from ``offset`` on, up to the first that is not."""
    while (page := _page_at(content, offset)) is not None:
        yield page
        offset += PAGE_BYTES


def _page_at(content: bytes, offset: int) -> _Page | None:
    if content[offset : offset + len(MAGIC)] != MAGIC or offset + PAGE_BYTES > len(content):
        return None
    _, number, index, used, is_last = _HEAD.unpack_from(content, offset)
    if used > _DATA_BYTES or is_last > 1:
        return None
    head = content[offset : offset + _HEAD.size]
    data = content[offset + _DATA_AT : offset + _DATA_AT + used]
    if content[offset + _HEAD.size : offset + _DATA_AT] != _check(head, data):
        return None
    return _Page(number, index, bool(is_last), data)


def _check(head: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(head + data, digest_size=_CHECK_BYTES).digest()


def _encode_record(record: Record) -> bytes:
    head = _RECORD_HEAD.pack(len(record.payload), record.kind)
    return head + record.payload + _record_check(record.kind, record.payload)


def _record_check(kind: int, payload: bytes) -> bytes:
    return hashlib.blake2b(bytes((kind,)) + payload, digest_size=_RECORD_CHECK_BYTES).digest()


def _decode_records(body: bytes) -> list[Record] | None:
    records: list[Record] = []
    offset = 0
    while offset < len(body):
        if offset + _RECORD_HEAD.size > len(body):
            return None
        length, kind = _RECORD_HEAD.unpack_from(body, offset)
        start = offset + _RECORD_HEAD.size
        end = start + length
        payload = body[start:end]
        check = body[end : end + _RECORD_CHECK_BYTES]
        if kind not in RecordKind.__members__.values() or check != _record_check(kind, payload):
            return None
        records.append(Record(RecordKind(kind), payload))
        offset = end + _RECORD_CHECK_BYTES
    return records
