"""A strict zip reader: one reading, or none. Pure, over bytes in memory.

Zip files can be read from the end (central directory) or from the start (local headers), and
archives made to look different to the two have fooled installers (CVE-2025-54368). So this
reader accepts a file only if both readings agree and account for every byte: the local entries
tile the file up to the central directory, the directory reaches exactly to its end record, and
nothing precedes, follows or hides between them. Refused besides: repeated names, comments,
encryption, multiple disks, unicode-path extras, methods other than stored and deflated.
Format: PKWARE APPNOTE 6.3.10; rules: LOG levels in docs/design/builds.md.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.limits import ArchiveLimits, Budget, SeenPaths, check_path

CHUNK_BYTES: Final = 256 * 1024
SLICE_BYTES: Final = 64 * 1024
_END = struct.Struct("<4s4H2LH")
_END64_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_FLAG_ENCRYPTED, _FLAG_DESCRIPTOR, _FLAG_UTF8 = 0x1, 0x8, 0x800
_FLAGS_KNOWN = _FLAG_DESCRIPTOR | _FLAG_UTF8 | 0x6  # 0x6: deflate's speed, which changes nothing
_STORED, _DEFLATED = 0, 8
_EXTRA_ZIP64, _EXTRA_UNICODE_PATH = 0x0001, 0x7075


@dataclass(frozen=True, slots=True)
class ZipEntry:
    """One entry. ``attributes`` are Unix mode bits if ``system`` is 3; ``time`` is DOS date, time.

    ``data_start`` and ``packed_size`` say where its packed bytes lie in the file.
    """

    name: str
    path: tuple[str, ...]
    is_dir: bool
    method: int
    flags: int
    time: tuple[int, int]
    crc: int
    packed_size: int
    size: int
    system: int
    attributes: int
    extra: bytes
    header_start: int
    data_start: int = 0


class ZipArchive:
    """A zip file whose structure was checked; contents are checked when they are read."""

    def __init__(self, data: bytes, limits: ArchiveLimits) -> None:
        """Check the structure of ``data``.

        Raises:
            ArchiveError: the file is no zip file with exactly one reading, or exceeds a limit.
        """
        self._data = data
        start, size, count = _find_directory(data)
        entries = list(_central_entries(data, start, size, count))
        budget = Budget(limits)
        seen = SeenPaths()
        for entry in entries:
            budget.add_entry(entry.name, entry.size)
            budget.check_ratio(unpacked=entry.size, packed=max(entry.packed_size, 1))
            if check_path(entry.name, limits) != entry.path:
                raise ArchiveError("entry name", f"{entry.name!r} is not in its shortest form")
            seen.add(entry.path, "dir" if entry.is_dir else "file")
        budget.check_ratio(unpacked=budget.unpacked_bytes, packed=len(data))
        self.entries: tuple[ZipEntry, ...] = _locate(data, entries, start)
        """Entries in the order of the central directory."""
        self._by_name = {entry.name: entry for entry in self.entries}

    def find(self, name: str) -> ZipEntry | None:
        """Return the entry of that exact name, or None."""
        return self._by_name.get(name)

    def read(self, entry: ZipEntry) -> bytes:
        """Return an entry's content; raises ArchiveError when its bytes do not hold."""
        return b"".join(self.chunks(entry))

    def chunks(self, entry: ZipEntry) -> Iterator[bytes]:
        """Yield an entry's content in bounded chunks.

        Raises:
            ArchiveError: size or checksum is not what the headers say, or data is left over.
        """
        packed = memoryview(self._data)[entry.data_start : entry.data_start + entry.packed_size]
        parts = _inflate(packed) if entry.method == _DEFLATED else iter((bytes(packed),))
        crc = size = 0
        for part in parts:
            size += len(part)
            if size > entry.size:
                raise ArchiveError("archive damaged", f"{entry.name!r} is longer than it says")
            crc = zlib.crc32(part, crc)
            yield part
        if size != entry.size or crc != entry.crc:
            raise ArchiveError("archive damaged", f"{entry.name!r}: size or checksum differs")


def _find_directory(data: bytes) -> tuple[int, int, int]:
    """Return (start, size, count) of the central directory."""
    if len(data) < _END.size:
        raise ArchiveError("not zip", f"{len(data)} bytes")
    end = len(data) - _END.size
    magic, disk, first_disk, here, count, size, start, comment = _END.unpack_from(data, end)
    if magic != b"PK\x05\x06":
        raise ArchiveError("not zip", "no end record at the end of the file")
    if comment or disk or first_disk or here != count:
        raise ArchiveError("zip structure", "comments and several disks are not read")
    directory_end = end
    locator = end - _END64_LOCATOR.size
    has_locator = locator >= 0 and data[locator : locator + 4] == b"PK\x06\x07"
    if has_locator:
        start, size, count, directory_end = _read_end64(data, locator, (start, size, count))
    elif count == _FULL16 or _FULL32 in (size, start):
        raise ArchiveError("zip structure", "a 64-bit end record is announced and missing")
    if start + size != directory_end:
        raise ArchiveError("zip structure", "the central directory does not reach its end record")
    return start, size, count


def _read_end64(
    data: bytes, locator: int, short: tuple[int, int, int]
) -> tuple[int, int, int, int]:
    _, disk, record, disks = _END64_LOCATOR.unpack_from(data, locator)
    if disk or disks != 1 or record + _END64.size != locator:
        raise ArchiveError("zip structure", "the 64-bit locator does not point at its record")
    magic, length, _, _, d1, d2, here, count, size, start = _END64.unpack_from(data, record)
    if magic != b"PK\x06\x06" or length != _END64.size - 12 or d1 or d2 or here != count:
        raise ArchiveError("zip structure", "the 64-bit end record is malformed")
    full = (_FULL32, _FULL32, _FULL16)
    pairs = zip(short, (start, size, count), full, strict=True)
    if any(narrow not in (wide, limit) for narrow, wide, limit in pairs):
        raise ArchiveError("zip structure", "the two end records disagree")
    return start, size, count, record


def _central_entries(data: bytes, start: int, size: int, count: int) -> Iterator[ZipEntry]:
    position, end, found = start, start + size, 0
    while position < end:
        if end - position < _CENTRAL.size or data[position : position + 4] != b"PK\x01\x02":
            raise ArchiveError("zip structure", "the central directory does not parse")
        fields = _CENTRAL.unpack_from(data, position)
        name_length, extra_length, comment_length = fields[10:13]
        name_start = position + _CENTRAL.size
        extra_start = name_start + name_length
        position = extra_start + extra_length + comment_length
        if position > end or comment_length:
            raise ArchiveError("zip structure", "an entry is cut or carries a comment")
        raw_name, extra = data[name_start:extra_start], data[extra_start:position]
        yield _central_entry(fields, raw_name, extra)
        found += 1
        if found > count:
            break
    if found != count:
        raise ArchiveError("zip structure", f"{count} entries are announced, others found")


def _central_entry(fields: tuple[int, ...], raw_name: bytes, extra: bytes) -> ZipEntry:
    _, made_by, _, flags, method, dos_time, dos_date, crc, packed, size = fields[:10]
    disk, _, attributes, offset = fields[13:17]
    if flags & ~_FLAGS_KNOWN or method not in (_STORED, _DEFLATED) or disk not in (0, _FULL16):
        raise ArchiveError("zip structure", f"{raw_name!r}: encrypted, or an unknown method")
    name = _decode_name(raw_name, flags)
    wide = _zip64_values(extra, name)
    size, packed, offset = (
        wide.pop(0) if value == _FULL32 and wide else value for value in (size, packed, offset)
    )
    if wide:
        raise ArchiveError("zip structure", f"{name!r}: 64-bit values that no field asks for")
    is_dir = name.endswith("/")
    if is_dir and size:
        raise ArchiveError("zip structure", f"{name!r}: a folder with content")
    if method == _STORED and packed != size:
        raise ArchiveError("zip structure", f"{name!r}: stored, but packed and full size differ")
    path = tuple(name.removesuffix("/").split("/"))
    return ZipEntry(
        name=name,
        path=path,
        is_dir=is_dir,
        method=method,
        flags=flags,
        time=(dos_date, dos_time),
        crc=crc,
        packed_size=packed,
        size=size,
        system=made_by >> 8,
        attributes=attributes >> 16,
        extra=extra,
        header_start=offset,
    )


def _decode_name(raw: bytes, flags: int) -> str:
    try:
        # Without the UTF-8 flag the encoding is a guess, so only ASCII has one reading.
        name = raw.decode("utf-8" if flags & _FLAG_UTF8 else "ascii")
    except UnicodeDecodeError as error:
        raise ArchiveError("entry name", f"{raw!r} is not UTF-8 or not marked as such") from error
    if not name:
        raise ArchiveError("entry name", "an entry without a name")
    return name


def _extras(extra: bytes, name: str) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(extra):
        if len(extra) - position < 4:
            raise ArchiveError("zip structure", f"{name!r}: an extra field does not parse")
        kind, length = struct.unpack_from("<2H", extra, position)
        position += 4 + length
        if position > len(extra):
            raise ArchiveError("zip structure", f"{name!r}: an extra field is cut")
        if kind == _EXTRA_UNICODE_PATH:
            raise ArchiveError("zip structure", f"{name!r}: an extra field gives a second name")
        yield kind, extra[position - length : position]


def _zip64_values(extra: bytes, name: str) -> list[int]:
    found = [value for kind, value in _extras(extra, name) if kind == _EXTRA_ZIP64]
    if len(found) > 1 or (found and len(found[0]) not in (8, 16, 24)):
        raise ArchiveError("zip structure", f"{name!r}: malformed 64-bit sizes")
    return list(struct.unpack(f"<{len(found[0]) // 8}Q", found[0])) if found else []


def _locate(data: bytes, entries: list[ZipEntry], directory_start: int) -> tuple[ZipEntry, ...]:
    """Check that local entries tile the file up to the directory; fill in ``data_start``."""
    located: dict[str, ZipEntry] = {}
    position = 0
    for entry in sorted(entries, key=lambda e: e.header_start):
        if entry.header_start != position:
            raise ArchiveError("zip structure", f"bytes before {entry.name!r} belong to no entry")
        data_start = _check_local(data, entry, directory_start)
        position = data_start + entry.packed_size
        if entry.flags & _FLAG_DESCRIPTOR:
            position += _descriptor_length(data, entry, position)
        if position > directory_start:
            raise ArchiveError("zip structure", f"{entry.name!r} reaches into the directory")
        located[entry.name] = _with_start(entry, data_start)
    if position != directory_start:
        raise ArchiveError("zip structure", "bytes before the directory belong to no entry")
    return tuple(located[entry.name] for entry in entries)


def _check_local(data: bytes, entry: ZipEntry, directory_start: int) -> int:
    """Compare the local header with the central one; return where the content starts."""
    start: int = entry.header_start
    if start + _LOCAL.size > directory_start or data[start : start + 4] != b"PK\x03\x04":
        raise ArchiveError("zip structure", f"{entry.name!r} has no local header")
    _, _, flags, method, time, date, crc, packed, size, name_length, extra_length = (
        _LOCAL.unpack_from(data, start)
    )
    name_start = start + _LOCAL.size
    data_start: int = name_start + name_length + extra_length
    raw_name = data[name_start : name_start + name_length]
    extra = data[name_start + name_length : data_start]
    same = (flags, method, (date, time)) == (entry.flags, entry.method, entry.time)
    if not same or _decode_name(raw_name, flags) != entry.name or data_start > directory_start:
        raise ArchiveError("zip structure", f"{entry.name!r}: local and central headers differ")
    wide = _zip64_values(extra, entry.name)
    if _FULL32 in (size, packed):
        size, packed = wide[:2] if len(wide) == 2 else (size, packed)
    facts = (crc, packed, size)
    is_deferred = bool(flags & _FLAG_DESCRIPTOR) and facts == (0, 0, 0)
    if not is_deferred and facts != (entry.crc, entry.packed_size, entry.size):
        raise ArchiveError("zip structure", f"{entry.name!r}: local and central sizes differ")
    return data_start


def _descriptor_length(data: bytes, entry: ZipEntry, position: int) -> int:
    facts = (entry.crc, entry.packed_size, entry.size)
    for layout, magic in (("<4s3L", True), ("<4sL2Q", True), ("<3L", False), ("<L2Q", False)):
        descriptor = struct.Struct(layout)
        if position + descriptor.size > len(data):
            continue
        found = descriptor.unpack_from(data, position)
        if found == ((b"PK\x07\x08", *facts) if magic else facts):
            return descriptor.size
    raise ArchiveError("zip structure", f"{entry.name!r}: its data descriptor does not fit")


def _with_start(entry: ZipEntry, data_start: int) -> ZipEntry:
    fields = {name: getattr(entry, name) for name in entry.__slots__}
    return ZipEntry(**(fields | {"data_start": data_start}))


def _inflate(packed: memoryview) -> Iterator[bytes]:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    position = 0
    pending = b""
    while not stream.eof:
        # Small slices: zlib hands back what it did not use as a copy.
        if not pending:
            pending = bytes(packed[position : position + SLICE_BYTES])
            position += len(pending)
        try:
            part = stream.decompress(pending, CHUNK_BYTES)
        except zlib.error as error:
            raise ArchiveError("archive damaged", str(error)) from error
        if not part and not pending and not stream.eof:
            raise ArchiveError("archive damaged", "a deflated entry has no end")
        pending = stream.unconsumed_tail
        yield part
    if stream.unused_data or position < len(packed):
        raise ArchiveError("archive damaged", "bytes follow a deflated entry's end")
