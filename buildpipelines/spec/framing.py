"""The frame codec of every local link: 4-byte length, JSON, request id.

It turns bytes into requests and answers and back, and nothing else: no socket, no event loop, no
knowledge of any method. It lives here because the build worker may import nothing of the node,
while both sides of the build link, and the node's own control links, speak this one format.
Format: docs/spec/links.md. Whoever sends us bytes may be hostile, so every size is bounded before
memory is spent, and every parser raises :class:`FrameError` alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, cast

FRAME_BYTES_MAX: Final = 1024 * 1024
"""Largest payload of one frame, in bytes; the 4-byte length before it is not counted."""

HEADER_BYTES: Final = 4

ID_MAX: Final = 2**53 - 1
"""Largest request id: the largest integer that every JSON reader keeps exact."""

MESSAGE_CHARACTERS_MAX: Final = 4000
"""Longer error texts are cut when they are encoded."""

KINDS: Final = (
    "invalid",
    "not_found",
    "verification",
    "peer",
    "unavailable",
    "corrupt",
    "internal",
)
"""What an error answer may say, in the order of the error tree."""

_METHOD = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")

JsonObject = dict[str, object]
"""A parsed JSON object. Values are checked by whoever reads them."""


class FrameError(ValueError):
    """Bytes or a value that do not fit the format; the text names what was wrong."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call. ``id`` is chosen by the caller and unique among its open calls."""

    id: int
    method: str
    params: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Result:
    """The good answer to the request with the same ``id``."""

    id: int
    result: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Failure:
    """The bad answer. ``kind`` is one of :data:`KINDS`; ``message`` is fit for a user."""

    id: int
    kind: str
    message: str


Answer = Result | Failure


class FrameDecoder:
    """Cuts a byte stream into frame payloads.

    Holds at most one frame and one read's worth of bytes. After a :class:`FrameError` the stream
    has no defined position any more: the connection must be closed, and every later call raises.
    """

    def __init__(self, *, bytes_max: int = FRAME_BYTES_MAX) -> None:
        """Make a decoder that refuses frames with more than ``bytes_max`` bytes of payload."""
        self._buffer = bytearray()
        self._bytes_max = bytes_max
        self._broken: str | None = None

    @property
    def is_between_frames(self) -> bool:
        """Whether the stream may end here without having cut a frame in two."""
        return not self._buffer

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was read and return the payloads that are now complete, in order.

        Raises:
            FrameError: a length of zero or above the limit was announced, now or earlier.
        """
        self._buffer += data
        payloads: list[bytes] = []
        while (payload := self.next()) is not None:
            payloads.append(payload)
        return payloads

    def next(self, data: bytes = b"") -> bytes | None:
        """Take ``data`` and return the first complete payload alone, or None.

        For links on which raw bytes follow a frame: read the frame with this, the rest with
        :meth:`take_rest`.

        Raises:
            FrameError: as :meth:`feed`.
        """
        if self._broken is not None:
            raise FrameError(self._broken)
        self._buffer += data
        if len(self._buffer) < HEADER_BYTES:
            return None
        length = int.from_bytes(self._buffer[:HEADER_BYTES], "big")
        if not 1 <= length <= self._bytes_max:
            self._broken = f"frame of {length} bytes announced; 1 to {self._bytes_max} are allowed"
            self._buffer.clear()
            raise FrameError(self._broken)
        end = HEADER_BYTES + length
        if len(self._buffer) < end:
            return None
        payload = bytes(memoryview(self._buffer)[HEADER_BYTES:end])
        del self._buffer[:end]
        return payload

    def take_rest(self) -> bytes:
        """Return and forget the bytes after the last complete frame."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest


def encode_frame(payload: bytes, *, bytes_max: int = FRAME_BYTES_MAX) -> bytes:
    """Put the length before ``payload``.

    Raises:
        FrameError: the payload is empty or longer than ``bytes_max``.
    """
    if not 1 <= len(payload) <= bytes_max:
        raise FrameError(f"frame of {len(payload)} bytes; 1 to {bytes_max} are allowed")
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


def encode_object(value: Mapping[str, object]) -> bytes:
    """Return one frame with ``value`` as compact JSON.

    Raises:
        FrameError: a value that JSON cannot carry, or a frame over the limit.
    """
    try:
        payload = _ENCODER.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise FrameError(f"value does not fit JSON: {error}") from error
    return encode_frame(payload)


def parse_object(payload: bytes) -> JsonObject:
    """Parse a frame's payload: one JSON object in UTF-8, finite numbers, whole characters.

    Raises:
        FrameError: anything else, too deep nesting included.
    """
    try:
        value: object = _DECODER.decode(payload.decode())
        if _SURROGATE_ESCAPE.search(payload):
            # Half a surrogate pair would parse, and then fail in whoever writes the text out.
            _ENCODER.encode(value).encode()
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FrameError(f"a JSON object is expected, not {type(value).__name__}")
    # JSON object keys are always text.
    return cast("JsonObject", value)


def encode_request(request: Request) -> bytes:
    """Return the frame of a request.

    Raises:
        FrameError: id or method out of form, parameters that JSON cannot carry, too long.
    """
    _check_id(request.id)
    _check_method(request.method)
    return encode_object({"id": request.id, "method": request.method, "params": request.params})


def encode_answer(answer: Answer) -> bytes:
    """Return the frame of an answer; a long error text is cut.

    Raises:
        FrameError: id or kind out of form, a result that JSON cannot carry, too long.
    """
    _check_id(answer.id)
    if isinstance(answer, Result):
        return encode_object({"id": answer.id, "result": answer.result})
    if answer.kind not in KINDS:
        raise FrameError(f"error kind {answer.kind!r}; one of {', '.join(KINDS)} is allowed")
    # Error texts quote hostile input; what UTF-8 cannot carry becomes a question mark.
    message = answer.message[:MESSAGE_CHARACTERS_MAX].encode(errors="replace").decode()
    return encode_object({"id": answer.id, "error": {"kind": answer.kind, "message": message}})


def parse_request(payload: bytes) -> Request:
    """Parse a frame's payload as a request.

    Raises:
        FrameError: not exactly the fields of a request, each of its type and range.
    """
    value = parse_object(payload)
    if value.keys() != {"id", "method", "params"}:
        raise FrameError("a request has the fields id, method and params, and no others")
    method, params = value["method"], value["params"]
    if not isinstance(method, str):
        raise FrameError("method is not text")
    if not isinstance(params, dict):
        raise FrameError("params is not an object")
    return Request(_check_id(value["id"]), _check_method(method), cast("JsonObject", params))


def parse_answer(payload: bytes) -> Answer:
    """Parse a frame's payload as an answer.

    Raises:
        FrameError: not exactly the fields of an answer, each of its type and range.
    """
    value = parse_object(payload)
    if value.keys() == {"id", "result"}:
        result = value["result"]
        if not isinstance(result, dict):
            raise FrameError("result is not an object")
        return Result(_check_id(value["id"]), cast("JsonObject", result))
    if value.keys() == {"id", "error"}:
        return _parse_failure(_check_id(value["id"]), value["error"])
    raise FrameError("an answer has the fields id and either result or error, and no others")


def _parse_failure(request_id: int, error: object) -> Failure:
    if not isinstance(error, dict) or error.keys() != {"kind", "message"}:
        raise FrameError("error is not an object of kind and message")
    kind, message = error["kind"], error["message"]
    if kind not in KINDS or not isinstance(message, str):
        raise FrameError(f"error kind is not one of {', '.join(KINDS)}, or message is not text")
    return Failure(request_id, kind, message)


def _check_id(value: object) -> int:
    if type(value) is not int or not 0 <= value <= ID_MAX:
        raise FrameError(f"id is not an integer from 0 to {ID_MAX}")
    return value


def _check_method(method: str) -> str:
    if not _METHOD.match(method):
        raise FrameError(f"method {method[:80]!r} is not a lower-case name of up to 64 characters")
    return method


def _refuse_constant(name: str) -> NoReturn:
    raise FrameError(f"{name} is not JSON")


def _parse_finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise FrameError(f"number {text[:40]} is out of range")
    return number


# Made once: the functions of the json module make new ones on every call that has options.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_parse_finite)
