"""Wire forms of the peer protocols: frames, ask requests and answers, lists. Pure.

Everything is u32 big-endian length-prefixed and bounded before a byte is stored, so the largest
thing a hostile length can cost is the limit. Decoders raise only ``InvalidInputError``; the
callers that know the peer turn it into ``PeerMisbehaviorError``. No stream is touched here.
Specification: docs/spec/peer-protocols.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)

MEMBER_FRAME_BYTES_MAX: Final = 2 * 1024 * 1024
"""Largest frame on a member stream: one proposal with its block."""

METHOD_BYTES_MAX: Final = 32
"""Longest name of an ask method."""

ERROR_TEXT_BYTES_MAX: Final = 1024
"""Longest error text that is sent or believed."""

_LENGTH: Final = struct.Struct(">I")
LENGTH_BYTES: Final = _LENGTH.size


class Status(IntEnum):
    """First byte of an ask answer: OK, or whose fault it was (the error tree, in order)."""

    OK = 0
    INVALID = 1
    NOT_FOUND = 2
    VERIFICATION = 3
    PEER = 4
    UNAVAILABLE = 5
    CORRUPT = 6
    INTERNAL = 7


def encode_frame(payload: bytes) -> bytes:
    """Return ``payload`` behind its u32 length."""
    return _LENGTH.pack(len(payload)) + payload


def decode_length(head: bytes, *, bytes_max: int) -> int:
    """Return the length in a 4-byte head.

    Raises:
        InvalidInputError: The head is short or announces more than ``bytes_max``.
    """
    if len(head) != LENGTH_BYTES:
        raise InvalidInputError(f"a frame's length has 4 bytes, not {len(head)}")
    length = int(_LENGTH.unpack(head)[0])
    if length > bytes_max:
        raise InvalidInputError(f"a frame of {length} bytes exceeds the limit of {bytes_max}")
    return length


class FrameDecoder:
    """Cuts a byte stream into frames; holds at most one incomplete frame."""

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Return the frames completed by ``data``, in order.

        Raises:
            InvalidInputError: A frame announces more than the limit; the stream is then useless.
        """
        self._buffer += data
        frames: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= LENGTH_BYTES:
            body = start + LENGTH_BYTES
            length = decode_length(bytes(self._buffer[start:body]), bytes_max=self._bytes_max)
            if len(self._buffer) - body < length:
                break
            frames.append(bytes(self._buffer[body : body + length]))
            start = body + length
        # One cut for all frames of a read: a cut per frame would be quadratic in their number.
        if start:
            del self._buffer[:start]
        return frames

    @property
    def pending(self) -> int:
        """Bytes of an incomplete frame held back."""
        return len(self._buffer)


@dataclass(frozen=True, slots=True)
class AskRequest:
    """One request: which method, with what."""

    method: str
    payload: bytes


def encode_request(method: str, payload: bytes) -> bytes:
    """Return a request frame with its length.

    Raises:
        InvalidInputError: The method is no short ASCII name.
    """
    name = _method_bytes(method)
    return encode_frame(bytes([len(name)]) + name + payload)


def decode_request(frame: bytes) -> AskRequest:
    """Return what a request frame says.

    Raises:
        InvalidInputError: The frame is empty or truncated, or its method is no short ASCII name.
    """
    if not frame:
        raise InvalidInputError("an empty request")
    end = 1 + frame[0]
    if end > len(frame):
        raise InvalidInputError("a request that ends within its method")
    try:
        method = frame[1:end].decode("ascii")
    except UnicodeDecodeError:
        raise InvalidInputError("a method that is not ASCII") from None
    _method_bytes(method)
    return AskRequest(method, frame[end:])


def encode_answer(status: Status, payload: bytes) -> bytes:
    """Return an answer frame with its length."""
    return encode_frame(bytes([status]) + payload)


def decode_answer(frame: bytes, *, peer: str) -> bytes:
    """Return the payload of an OK answer.

    Raises:
        InvalidInputError: The frame is empty or its status is unknown.
        PyrsiaError: What the answerer raised, with its id before its text. Faults of the
            answerer's own state come back as ``UnavailableError``: another peer may do better.
    """
    if not frame:
        raise InvalidInputError("an empty answer")
    try:
        status = Status(frame[0])
    except ValueError:
        raise InvalidInputError(f"an answer of unknown status {frame[0]}") from None
    if status is Status.OK:
        return frame[1:]
    raise _error_of(status, f"peer {peer} answered: {_readable(frame[1:])}")


def encode_error(error: BaseException) -> bytes:
    """Return the answer frame of an error.

    Only errors that we raise on purpose are told; anything else is "internal error", because its
    text may hold what is no peer's business.
    """
    status = _status_of(error)
    text = "internal error" if status is Status.INTERNAL else str(error)
    return encode_answer(status, text.encode("utf-8", "replace")[:ERROR_TEXT_BYTES_MAX])


def encode_list(items: Iterable[bytes]) -> bytes:
    """Return the items, each behind its u32 length."""
    return b"".join(encode_frame(item) for item in items)


def decode_list(data: bytes, *, items_max: int, item_bytes_max: int) -> list[bytes]:
    """Return the items of a list.

    Raises:
        InvalidInputError: Too many items, one too long, or bytes left over.
    """
    items: list[bytes] = []
    at = 0
    while at < len(data):
        if len(items) == items_max:
            raise InvalidInputError(f"a list of more than {items_max} items")
        body = at + LENGTH_BYTES
        length = decode_length(data[at:body], bytes_max=item_bytes_max)
        if len(data) - body < length:
            raise InvalidInputError("a list that ends within an item")
        items.append(data[body : body + length])
        at = body + length
    return items


def _method_bytes(method: str) -> bytes:
    letters = method.replace("_", "")
    if not (letters.isascii() and letters.isalnum() and len(method) <= METHOD_BYTES_MAX):
        raise InvalidInputError(f"method {method[:64]!r} is no name of at most 32 letters")
    return method.encode("ascii")


def _readable(text: bytes) -> str:
    decoded = text[:ERROR_TEXT_BYTES_MAX].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else " " for letter in decoded)


def _status_of(error: BaseException) -> Status:
    match error:
        case InvalidInputError():
            return Status.INVALID
        case NotFoundError():
            return Status.NOT_FOUND
        case VerificationError():
            return Status.VERIFICATION
        case PeerMisbehaviorError():
            return Status.PEER
        case UnavailableError():
            return Status.UNAVAILABLE
        case CorruptStateError():
            return Status.CORRUPT
        case _:
            return Status.INTERNAL


def _error_of(status: Status, text: str) -> PyrsiaError:
    match status:
        case Status.INVALID:
            return InvalidInputError(text)
        case Status.NOT_FOUND:
            return NotFoundError(text)
        case Status.VERIFICATION:
            return VerificationError(text)
        case _:
            return UnavailableError(text)
