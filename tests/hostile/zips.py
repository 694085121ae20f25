"""Zip files: well-made ones, and those that two readers understand differently, the tricks.

Each trick changes a well-made archive whose entry ``pkg/data.bin`` is stored and holds the bytes
0 to 255 in order. What it makes must be refused, or read as nothing but bytes.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Final

DATA: Final = bytes(range(256)) * 8
"""The content of ``pkg/data.bin``."""

TIME: Final = (2020, 1, 1, 0, 0, 0)


def zipped(
    contents: Mapping[str, bytes],
    *,
    edit: Callable[[zipfile.ZipInfo], None] | None = None,
    order: Callable[[list[str]], list[str]] = sorted,
    compression: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    """Return a well-made archive; ``edit`` may change every entry's header."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for path in order(list(contents)):
            info = zipfile.ZipInfo(path, TIME)
            info.external_attr = (0o040755 if path.endswith("/") else 0o100644) << 16
            info.compress_type = compression
            if edit is not None:
                edit(info)
            archive.writestr(info, contents[path])
    return out.getvalue()


def rename_local(data: bytes) -> bytes:
    """Change a name in the local header alone, where central-directory readers do not look."""
    content = bytes(range(16))  # follows its name directly, as it is stored
    return data.replace(b"pkg/data.bin" + content, b"pkg/evil.bin" + content)


def rename_central(data: bytes) -> bytes:
    at = data.rindex(b"pkg/data.bin")
    return data[:at] + b"pkg/evil.bin" + data[at + 12 :]


def hide_entry(data: bytes) -> bytes:
    """Put a local entry before the first one, and shift every offset."""
    hidden = io.BytesIO()
    with zipfile.ZipFile(hidden, "w") as archive:
        archive.writestr("pkg/hidden.py", b"import os")
    local = hidden.getvalue()[: hidden.getvalue().index(b"PK\x01\x02")]
    return shifted(local + data, len(local))


def shifted(data: bytes, by: int) -> bytes:
    """Return a zip whose offsets are moved after ``by`` bytes were put before it."""
    result = bytearray(data)
    end = len(data) - 22
    count, _, start = struct.unpack_from("<HLL", data, end + 10)
    struct.pack_into("<L", result, end + 16, start + by)
    position = start + by
    for _ in range(count):
        name, extra, comment = struct.unpack_from("<3H", data, position + 28)
        offset = struct.unpack_from("<L", data, position + 42)[0]
        struct.pack_into("<L", result, position + 42, offset + by)
        position += 46 + name + extra + comment
    return bytes(result)


def second_end(data: bytes) -> bytes:
    """Append a second end record, which describes an empty archive at its own place."""
    return data + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0, 0, 0, len(data), 0)


def comment(data: bytes) -> bytes:
    return data[:-2] + b"\x05\x00hello"


def flip_content(data: bytes) -> bytes:
    at = data.index(bytes(range(10, 20)))
    return data[:at] + b"\xff" + data[at + 1 :]


def encrypted(data: bytes) -> bytes:
    result = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        result[data.index(magic) + offset] |= 1
    return bytes(result)


def odd_method(data: bytes) -> bytes:
    result = bytearray(data)
    for magic, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        result[data.index(magic) + offset] = 12
    return bytes(result)


def false_locator(data: bytes) -> bytes:
    """Put a 64-bit locator before the end record that points nowhere."""
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    return data[:-22] + locator + data[-22:]


def with_entry(data: bytes, name: str, content: bytes = b"", mode: int = 0o100644) -> bytes:
    """Append an entry of any name and any mode, which no archiver would write."""
    out = io.BytesIO(data)
    with zipfile.ZipFile(out, "a") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = info.orig_filename = name
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return out.getvalue()


TRICKS: Final[dict[str, tuple[Callable[[bytes], bytes], str]]] = {
    "another name in the local header": (rename_local, "zip structure"),
    "another name in the directory": (rename_central, "zip structure"),
    "an entry that the directory lacks": (hide_entry, "zip structure"),
    "two end records": (second_end, "zip structure"),
    "a comment": (comment, "not zip"),
    "content that is not the checksum's": (flip_content, "archive damaged"),
    "encryption": (encrypted, "zip structure"),
    "an unknown method": (odd_method, "zip structure"),
    "a 64-bit locator that points nowhere": (false_locator, "zip structure"),
    "a script before it": (lambda data: b"#!/bin/sh\n" + data, "zip structure"),
    "a script that the offsets account for": (
        lambda data: shifted(b"#!/bin/sh\n" + data, 10),
        "zip structure",
    ),
    "a tail": (lambda data: data + b"tail", "not zip"),
    "no last byte": (lambda data: data[:-1], "not zip"),
    "nothing": (lambda _: b"", "not zip"),
}
"""Each trick and the cause that an archive of no further structure is refused for."""
