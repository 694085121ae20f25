"""The blocks that tar archives are made of: ustar headers, pax records, GNU numbers. Pure.

What an archive may hold is not decided here but by its readers (``tar`` for sources, ``layer``
for layers of images). Format: POSIX.1-2017 pax, "ustar Interchange Format"; GNU tar manual,
"Basic Tar Format".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from buildpipelines.errors import ArchiveError

BLOCK: Final = 512
EXTENDED_BYTES_MAX: Final = 64 * 1024
"""Bytes of one extended header, names and all its records together."""

GLOBALS_MAX: Final = 16
"""Global extended headers that one archive may have."""


@dataclass(frozen=True, slots=True)
class Header:
    """One header block; what is bytes stands as it was, so that only who asks can find it wrong.

    ``owner`` is (user id, group id, user name, group name), ``device`` (major, minor); their
    numbers are read by :func:`number`.
    """

    name: bytes
    mode: int
    size: int
    mtime: int
    kind: bytes
    link: bytes
    owner: tuple[bytes, bytes, bytes, bytes]
    device: tuple[bytes, bytes]


def parse_header(block: bytes) -> Header:
    """Read a block of 512 bytes that is not empty.

    Raises:
        ArchiveError: a wrong checksum, or a number that is none.
    """
    stored = number(block[148:156])
    if sum(block) - sum(block[148:156]) + 8 * 0x20 != stored:
        raise ArchiveError("archive damaged", "a tar header's checksum is wrong")
    name = block[:100].split(b"\0", 1)[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    is_ustar = block[257:262] == b"ustar"
    names = (block[265:297], block[297:329]) if is_ustar else (b"", b"")
    user, group = (name.split(b"\0", 1)[0] for name in names)
    return Header(
        name=name,
        mode=number(block[100:108]),
        size=number(block[124:136]),
        mtime=number(block[136:148]),
        kind=block[156:157],
        link=block[157:257].split(b"\0", 1)[0],
        owner=(block[108:116], block[116:124], user, group),
        device=(block[329:337], block[337:345]) if is_ustar else (b"0", b"0"),
    )


def parse_pax(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the records of an extended header; raises ArchiveError where one does not parse."""
    while data:
        length_text, space, _ = data.partition(b" ")
        length = decimal(length_text) if space else 0
        record, data = data[:length], data[length:]
        key, equals, value = record[len(length_text) + 1 : -1].partition(b"=")
        if not equals or len(record) != length or record[-1:] != b"\n":
            raise ArchiveError("archive damaged", "a pax header does not parse")
        if key == b"hdrcharset" and value != b"ISO-IR 10646 2000 UTF-8":
            raise ArchiveError("entry name", f"pax names are in {value!r}")
        yield text(key), value


def decimal(digits: bytes) -> int:
    """Read a number of a pax record, at most 15 digits; raises ArchiveError."""
    if not 1 <= len(digits) <= 15 or not digits.isdigit():
        raise ArchiveError("archive damaged", f"a pax header holds the number {digits[:40]!r}")
    return int(digits)


def text(name: bytes) -> str:
    """Read a name; raises ArchiveError where it is not UTF-8."""
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise ArchiveError("entry name", f"{name!r} is not UTF-8") from error


def number(field: bytes) -> int:
    """Read a header's number: octal text, or GNU's base 256 when the top bit is set.

    Raises:
        ArchiveError: neither.
    """
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0", 1)[0].strip(b" ")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise ArchiveError("archive damaged", f"a tar header holds the number {field!r}")
    return int(digits, 8)
