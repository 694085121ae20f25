"""Bytes of the write-ahead log, and what a damaged file means. No files here: see the driver.

A file is preallocated with zeros. Each batch starts on a 4 KiB boundary::

    magic[8] | u64 number | u32 length | checksum[16] | records, ``length`` bytes
    record = u32 length | u8 kind | payload | BLAKE2b-8 of (kind | payload)

The checksum is BLAKE2b-16 over magic, number, length and records. Batch b + 1 is written only after
the fdatasync of batch b returned. Hence the judgement of a bad batch:

* no valid later-numbered batch after it: it was being written when the power went, none of it was
  ever sent, and it is dropped (TORN);
* a valid later batch after it: it had been durable, so this file has forgotten votes (AMNESIA).

Judging by single records instead calls most power cuts amnesia, because the pages of one fdatasync
reach the disk in any order.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from consensus.effects import Record, RecordKind

PAGE_BYTES: Final = 4096
MAGIC: Final = b"PYRSIAW1"
_HEAD: Final = struct.Struct(">8sQI16s")
_RECORD_HEAD: Final = struct.Struct(">IB")
_RECORD_CHECK_BYTES: Final = 8


class ScanState(Enum):
    """What a file's content says: whole, cut off in its last batch, or with a hole."""

    CLEAN = "clean"
    TORN = "torn"
    AMNESIA = "amnesia"


@dataclass(frozen=True, slots=True)
class Scan:
    """Records of the valid batches; where and with which number the next batch goes."""

    records: tuple[Record, ...]
    next_number: int
    end_offset: int
    state: ScanState


def encode_batch(number: int, records: Sequence[Record]) -> bytes:
    """Return one batch, padded with zeros to a multiple of 4 KiB."""
    body = b"".join(_encode_record(record) for record in records)
    head = _HEAD.pack(MAGIC, number, len(body), _checksum(number, body))
    batch = head + body
    return batch + bytes(-len(batch) % PAGE_BYTES)


def scan(content: bytes, first_batch: int) -> Scan:
    """Read batches ``first_batch``, ``first_batch`` + 1, … from the start of a file's content."""
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
    for later in range(offset + PAGE_BYTES, len(content), PAGE_BYTES):
        found = _number_at(content, later)
        if found is not None and found > number and _batch_at(content, later, found) is not None:
            return ScanState.AMNESIA
    return ScanState.TORN


def _encode_record(record: Record) -> bytes:
    head = _RECORD_HEAD.pack(len(record.payload), record.kind)
    return head + record.payload + _record_check(record.kind, record.payload)


def _record_check(kind: int, payload: bytes) -> bytes:
    return hashlib.blake2b(bytes((kind,)) + payload, digest_size=_RECORD_CHECK_BYTES).digest()


def _checksum(number: int, body: bytes) -> bytes:
    head = MAGIC + struct.pack(">QI", number, len(body))
    return hashlib.blake2b(head + body, digest_size=16).digest()


def _number_at(content: bytes, offset: int) -> int | None:
    if content[offset : offset + len(MAGIC)] != MAGIC or offset + _HEAD.size > len(content):
        return None
    number = _HEAD.unpack_from(content, offset)[1]
    return int(number)


def _batch_at(content: bytes, offset: int, number: int) -> tuple[list[Record], int] | None:
    """Return the records of batch ``number`` at ``offset`` and where the next one starts."""
    if _number_at(content, offset) != number:
        return None
    _, _, length, checksum = _HEAD.unpack_from(content, offset)
    start = offset + _HEAD.size
    body = content[start : start + length]
    if len(body) != length or _checksum(number, body) != checksum:
        return None
    records = _decode_records(body)
    if records is None:
        return None
    return records, -(-(start + length) // PAGE_BYTES) * PAGE_BYTES


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
