"""A strict, bounded reader of image layers: what every entry is, in one pass over the stream. Pure.

A layer may hold what a source archive may not: devices, set-id bits, links to anywhere, extended
attributes. Nothing is unpacked here, so all of that is only read, and all of it is told: every
member of an entry that could change what a container does is in :class:`Entry`. What has two
readings is refused: repeated names, entries below a link, sparse files, data after the end, more
than one header for an entry. Format: OCI image specification 1.1, "Image Layer Filesystem
Changeset"; POSIX.1-2017 pax. Whiteouts are ordinary names here (``.wh.NAME``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.gzip import GzipReader
from buildpipelines.extract.headers import (
    BLOCK,
    EXTENDED_BYTES_MAX,
    GLOBALS_MAX,
    Header,
    decimal,
    number,
    parse_header,
    parse_pax,
    text,
)
from buildpipelines.extract.limits import ArchiveLimits, Budget, SeenPaths

CHUNK_BYTES: Final = 256 * 1024
GZIP_MEMBERS_MAX: Final = 500_000
"""Layers that can be read from the middle have a gzip member for every file."""

LAYER_LIMITS: Final = ArchiveLimits(
    entries_max=200_000,
    path_bytes_max=4096,
    depth_max=256,
    file_bytes_max=8 * 1024**3,
    total_bytes_max=16 * 1024**3,
)
"""What one layer may hold; at most some 100 MiB of memory are needed to know its entries."""

EntryKind = Literal["file", "dir", "symlink", "hardlink", "char", "block", "fifo"]
_KINDS: Final[dict[bytes, EntryKind]] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"3": "char",
    b"4": "block",
    b"5": "dir",
    b"6": "fifo",
}
_TIME: Final = re.compile(r"(-?)([0-9]{1,11})(?:\.([0-9]{1,32}))?\Z")
_STANDARD_RECORDS: Final = frozenset(
    {"path", "linkpath", "size", "uid", "gid", "uname", "gname", "mtime", "hdrcharset"}
)
_ACCESS_TIMES: Final = frozenset({"atime", "ctime"})
_SECOND_NS: Final = 10**9


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry, whole. ``path`` is below the root of the image, which itself is "".

    ``mtime_ns`` is in nanoseconds since 1970; ``records`` are all extended attributes and other
    records that have no place of their own, values in hex, sorted; ``sha256`` is of the content
    of a file and else "".
    """

    path: str
    kind: EntryKind
    mode: int
    uid: int
    gid: int
    owner_names: tuple[str, str]
    mtime_ns: int
    access_times: tuple[tuple[str, str], ...]
    link: str
    device: tuple[int, int]
    size: int
    sha256: str
    records: tuple[tuple[str, str], ...]


class LayerReader:
    """Reads one layer from a stream of packed or plain bytes."""

    def __init__(self, read: Callable[[int], bytes], limits: ArchiveLimits = LAYER_LIMITS) -> None:
        """Read by ``read(n)``, which returns b"" only at the end."""
        self._budget = Budget(limits)
        self._limits = limits
        self._plain = _unpacked(read, self._budget)
        self._diff_id = hashlib.sha256()
        self._seen = SeenPaths()
        self._folders: dict[str, Entry] = {}
        self._globals: dict[str, bytes] = {}
        self._global_headers = 0

    @property
    def diff_id(self) -> str:
        """Hex SHA-256 of the unpacked layer; it is whole once :meth:`entries` has ended."""
        return self._diff_id.hexdigest()

    def entries(self) -> Iterator[Entry]:
        """Yield every entry in archive order, contents hashed; memory stays flat.

        Raises:
            ArchiveError: the layer breaks a rule; the cause names which.
        """
        while (block := self._block()) is not None:
            extended: dict[str, bytes] = {}
            header = parse_header(block)
            while header.kind in (b"x", b"g", b"L", b"K"):
                self._take_extension(header, extended)
                block = self._block()
                if block is None:
                    raise ArchiveError("archive cut", "the layer ends after an extended header")
                header = parse_header(block)
            entry = self._entry(header, self._globals | extended)
            if self._is_new(entry):
                yield entry
        while data := self._read(CHUNK_BYTES):
            if data.strip(b"\0"):
                raise ArchiveError("data after archive", "bytes follow the end of the layer")

    def _read(self, count: int) -> bytes:
        data = self._plain(count)
        self._diff_id.update(data)
        return data

    def _exact(self, count: int) -> bytes:
        data = self._read(count)
        if len(data) != count:
            raise ArchiveError("archive cut", f"{count} bytes were due, {len(data)} came")
        return data

    def _block(self) -> bytes | None:
        block = self._exact(BLOCK)
        return None if block.count(0) == BLOCK else block

    def _take_extension(self, header: Header, extended: dict[str, bytes]) -> None:
        if header.size > EXTENDED_BYTES_MAX:
            raise ArchiveError("entry name", f"an extended header of {header.size} bytes")
        data = self._exact(header.size)
        self._exact(-header.size % BLOCK)
        if header.kind in (b"L", b"K"):
            found = {"path" if header.kind == b"L" else "linkpath": data.removesuffix(b"\0")}
        else:
            records = list(parse_pax(data))
            found = dict(records)
            if len(found) != len(records):
                raise ArchiveError("duplicate name", "a pax header gives one record twice")
        if header.kind == b"g":
            self._global_headers += 1
            if self._global_headers > GLOBALS_MAX:
                raise ArchiveError("too many entries", "too many global headers")
            self._globals |= found
        elif extended.keys() & found.keys():
            raise ArchiveError("duplicate name", "two extended headers give one entry's field")
        else:
            extended |= found

    def _entry(self, header: Header, pax: dict[str, bytes]) -> Entry:
        if any(key.startswith("GNU.sparse") for key in pax):
            raise ArchiveError("entry type", "sparse files are not read")
        name = text(pax.get("path", header.name))
        kind = _KINDS.get(header.kind)
        if kind is None:
            raise ArchiveError("entry type", f"{name!r:.200} has type {header.kind!r}")
        if kind == "file" and name.endswith("/"):
            kind = "dir"
        size = decimal(pax["size"]) if "size" in pax else header.size
        if kind != "file" and size:
            raise ArchiveError("entry type", f"{name!r:.200} is a {kind} with content")
        path = check_layer_path(name, self._limits)
        self._budget.add_entry(path, size)
        link = text(pax.get("linkpath", header.link)) if kind in ("symlink", "hardlink") else ""
        if kind == "hardlink":
            link = check_layer_path(link, self._limits)
        uid, gid, user, group = header.owner
        return Entry(
            path=path,
            kind=kind,
            mode=header.mode & 0o7777,
            uid=decimal(pax["uid"]) if "uid" in pax else number(uid),
            gid=decimal(pax["gid"]) if "gid" in pax else number(gid),
            owner_names=(text(pax.get("uname", user)), text(pax.get("gname", group))),
            mtime_ns=_time(pax["mtime"]) if "mtime" in pax else header.mtime * _SECOND_NS,
            access_times=_records(pax, lambda key: key in _ACCESS_TIMES),
            link=link,
            device=_device(header) if kind in ("char", "block") else (0, 0),
            size=size,
            sha256=self._content(size) if kind == "file" else "",
            records=_records(pax, lambda key: key not in _STANDARD_RECORDS | _ACCESS_TIMES),
        )

    def _content(self, size: int) -> str:
        digest, left = hashlib.sha256(), size
        while left:
            data = self._read(min(left, CHUNK_BYTES))
            if not data:
                raise ArchiveError("archive cut", "a file's content ends early")
            digest.update(data)
            left -= len(data)
        self._exact(-size % BLOCK)
        return digest.hexdigest()

    def _is_new(self, entry: Entry) -> bool:
        """Record an entry; a folder that is told twice in the same words is told once."""
        steps = tuple(entry.path.split("/")) if entry.path else ()
        if entry.kind == "dir":
            if (known := self._folders.get(entry.path)) is not None:
                if known != entry:
                    raise ArchiveError("duplicate name", f"{entry.path!r:.200}, and they differ")
                return False
            self._folders[entry.path] = entry
        elif not steps:
            raise ArchiveError("entry name", f"the root of the layer is a {entry.kind}")
        self._seen.add(steps, entry.kind)
        return True


def check_layer_path(name: str, limits: ArchiveLimits) -> str:
    """Return an entry's path without ``./`` steps and trailing slash; the root is "".

    Raises:
        ArchiveError: absolute, with ``..``, an empty step or a zero byte, too long or deep.
    """
    if len(name.encode(errors="replace")) > limits.path_bytes_max:
        raise ArchiveError("entry name", f"a path is longer than {limits.path_bytes_max} bytes")
    if name.startswith("/"):
        raise ArchiveError("absolute path", f"{name!r:.200}")
    steps = [step for step in name.removesuffix("/").split("/") if step != "."]
    if ".." in steps:
        raise ArchiveError("path traversal", f"{name!r:.200}")
    if "" in steps or "\0" in name:
        raise ArchiveError("entry name", f"{name!r:.200} holds an empty step or a zero byte")
    if len(steps) > limits.depth_max:
        raise ArchiveError("entry name", f"a path is deeper than {limits.depth_max} folders")
    return "/".join(steps)


def _unpacked(read: Callable[[int], bytes], budget: Budget) -> Callable[[int], bytes]:
    """Return a reader of the plain bytes, by what the stream begins with."""
    buffer = bytearray()

    def buffered(count: int) -> bytes:
        while len(buffer) < count and (data := read(CHUNK_BYTES)):
            buffer.extend(data)
        found = bytes(memoryview(buffer)[:count])
        del buffer[:count]
        return found

    begin = buffered(4)
    buffer[:0] = begin
    if begin[:2] == b"\x1f\x8b":
        return GzipReader(buffered, budget, members_max=GZIP_MEMBERS_MAX).read
    if begin == b"\x28\xb5\x2f\xfd":
        raise ArchiveError("layer compression", "zstd layers are not read; gzip and plain ones are")
    return buffered


def _records(
    pax: dict[str, bytes], is_wanted: Callable[[str], bool]
) -> tuple[tuple[str, str], ...]:
    return tuple((key, pax[key].hex()) for key in sorted(pax) if is_wanted(key))


def _device(header: Header) -> tuple[int, int]:
    return number(header.device[0]), number(header.device[1])


def _time(value: bytes) -> int:
    """Read a pax time as nanoseconds; finer fractions, which no file system keeps, are cut."""
    match = _TIME.match(text(value))
    if match is None:
        raise ArchiveError("archive damaged", f"a pax header holds the time {value[:40]!r}")
    fraction = (match[3] or "").ljust(9, "0")[:9]
    found = int(match[2]) * _SECOND_NS + int(fraction)
    return -found if match[1] else found
