"""The head of an HTTP answer from another node's data listener. Pure and strict.

We wrote both ends, so this reads exactly what docs/spec/http-api.md says a data listener sends:
HTTP/1.1, ``Content-Length`` always, no transfer coding. Anything else is refused, not guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError

HEAD_BYTES_MAX: Final = 64 * 1024
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2})(?: [\x20-\x7e]*)?")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*?)[ \t]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_FIELDS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status, length of the body in bytes as announced, and fields by lower-case name."""

    status: int
    length: int
    fields: dict[str, str]

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may be used again."""
        return self.fields.get("connection", "").lower() != "close"


def parse_head(data: bytes) -> ResponseHead:
    """Return the head; ``data`` ends with the empty line.

    Raises:
        InvalidInputError: Not such a head; the text says what was wrong.
    """
    lines = data.removesuffix(b"\r\n\r\n").split(b"\r\n")
    status = _STATUS.fullmatch(lines[0])
    if status is None:
        raise InvalidInputError(f"status line {lines[0][:80]!r} is not HTTP/1.1")
    if len(lines) > _FIELDS_MAX:
        raise InvalidInputError(f"answer has {len(lines)} header fields")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise InvalidInputError(f"header field {line[:80]!r} is malformed")
        name = match[1].decode("ascii").lower()
        if name in fields:
            raise InvalidInputError(f"header field {name!r} appears twice")
        fields[name] = match[2].decode("ascii")
    if "transfer-encoding" in fields:
        raise InvalidInputError("answer uses a transfer coding")
    length = fields.get("content-length", "")
    if not _LENGTH.fullmatch(length.encode()):
        raise InvalidInputError(f"content-length {length[:80]!r} is not a number")
    return ResponseHead(status=int(status[1]), length=int(length), fields=fields)
