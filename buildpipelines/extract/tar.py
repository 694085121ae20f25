"""A strict, bounded tar reader: ustar, pax and GNU long names, one pass, no file system. Pure.

What has two readings in the wild is refused instead of guessed: sparse files, devices, data on
links, unknown types, several headers for one entry, data after the end. Contents are handed out
in chunks, so memory does not grow with the archive. Format: POSIX.1-2017 pax, "ustar
Interchange Format"; GNU tar manual, "Basic Tar Format".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.headers import (
    BLOCK,
    EXTENDED_BYTES_MAX,
    GLOBALS_MAX,
    Header,
    decimal,
    parse_header,
    parse_pax,
    text,
)
from buildpipelines.extract.limits import (
    ArchiveLimits,
    Budget,
    SeenPaths,
    check_link,
    check_path,
)

CHUNK_BYTES: Final = 256 * 1024
_MTIME_MAX = 2**33

MemberKind = Literal["file", "dir", "symlink", "hardlink"]
_KINDS: dict[bytes, MemberKind] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"5": "dir",
}


@dataclass(frozen=True, slots=True)
class Member:
    """One entry whose path was checked. ``mtime`` in whole seconds; ``link`` its target or ""."""

    kind: MemberKind
    path: tuple[str, ...]
    mode: int
    mtime: int
    size: int
    link: str


class TarReader:
    """Yields the members of a tar stream; read a file's content before asking for the next."""

    def __init__(
        self,
        read: Callable[[int], bytes],
        limits: ArchiveLimits,
        budget: Budget,
        *,
        top: tuple[str, ...] = (),
    ) -> None:
        """Read by ``read(n)``, which returns fewer than n bytes only at the end.

        Paths are told below ``top``, for archives that have no top folder of their own.
        """
        self._top = top
        self._read = read
        self._limits = limits
        self._budget = budget
        self._seen = SeenPaths()
        self._left = 0
        self._padding = 0
        self._globals: dict[str, bytes] = {}
        self._global_headers = 0

    def members(self) -> Iterator[Member]:
        """Yield every entry in archive order.

        Raises:
            ArchiveError: the archive breaks a rule; the cause names which.
        """
        while (block := self._block()) is not None:
            extended: dict[str, bytes] = {}
            header = parse_header(block)
            while header.kind in (b"x", b"g", b"L", b"K"):
                self._take_extension(header, extended)
                block = self._block()
                if block is None:
                    raise ArchiveError("archive cut", "the archive ends after an extended header")
                header = parse_header(block)
            member = self._member(header, self._globals | extended)
            if member is None:
                continue
            self._budget.add_entry("/".join(member.path), member.size)
            self._left = member.size
            self._padding = -member.size % BLOCK
            yield member
            for _ in self.chunks():
                pass
        self._check_end()

    def chunks(self) -> Iterator[bytes]:
        """Yield what is left of the current file's content; raises ArchiveError when cut."""
        while self._left:
            data = self._read(min(self._left, CHUNK_BYTES))
            if not data:
                raise ArchiveError("archive cut", "a file's content ends early")
            self._left -= len(data)
            yield data
        if self._padding:
            self._exact(self._padding)
            self._padding = 0

    def _block(self) -> bytes | None:
        block = self._exact(BLOCK)
        return None if block.count(0) == BLOCK else block

    def _exact(self, count: int) -> bytes:
        data = self._read(count)
        if len(data) != count:
            raise ArchiveError("archive cut", f"{count} bytes were due, {len(data)} came")
        return data

    def _take_extension(self, header: Header, extended: dict[str, bytes]) -> None:
        if header.size > EXTENDED_BYTES_MAX:
            raise ArchiveError("entry name", f"an extended header of {header.size} bytes")
        data = self._exact(header.size)
        self._exact(-header.size % BLOCK)
        if header.kind in (b"L", b"K"):
            key = "path" if header.kind == b"L" else "linkpath"
            found = {key: data.removesuffix(b"\0")}
        else:
            found = dict(parse_pax(data))
        if header.kind == b"g":
            self._global_headers += 1
            if self._global_headers > GLOBALS_MAX:
                raise ArchiveError("too many entries", "too many global headers")
            self._globals |= found
        elif extended.keys() & found.keys():
            raise ArchiveError("duplicate name", "two extended headers give one entry's field")
        else:
            extended |= found

    def _member(self, header: Header, pax: dict[str, bytes]) -> Member | None:
        if any(key.startswith("GNU.sparse") for key in pax):
            raise ArchiveError("entry type", "sparse files are not read")
        name = text(pax.get("path", header.name))
        kind = _KINDS.get(header.kind)
        if kind is None:
            cause = "device entry" if header.kind in b"346" else "entry type"
            raise ArchiveError(cause, f"{name!r} has type {header.kind!r}")
        if kind == "file" and name.endswith("/"):
            kind = "dir"
        steps = check_path(name, self._limits)
        path = self._top + steps
        if not steps:
            if kind == "dir":
                return None  # "./", which tar writers put first
            raise ArchiveError("entry name", f"{name!r} is no name of a file")
        size = decimal(pax["size"]) if "size" in pax else header.size
        if kind != "file" and size:
            raise ArchiveError("entry type", f"{name!r} is a {kind} with content")
        link = text(pax.get("linkpath", header.link)) if kind in ("symlink", "hardlink") else ""
        if kind == "symlink":
            check_link(path, link, self._limits)
        elif kind == "hardlink":
            link = "/".join(self._hardlink_target(path, link))
        self._seen.add(path, kind)
        mtime = _seconds(pax["mtime"]) if "mtime" in pax else min(header.mtime, _MTIME_MAX)
        return Member(kind, path, header.mode & 0o7777, mtime, size, link)

    def _hardlink_target(self, path: tuple[str, ...], link: str) -> tuple[str, ...]:
        target = self._top + check_path(link, self._limits)
        if self._seen.kind(target) != "file":
            raise ArchiveError("link escapes", f"{'/'.join(path)!r} links to no earlier file")
        return target

    def _check_end(self) -> None:
        # Writers fill the last record with zeros; anything else there would be read by nobody.
        while data := self._read(CHUNK_BYTES):
            if data.strip(b"\0"):
                raise ArchiveError("data after archive", "bytes follow the end of the tar file")


def _seconds(value: bytes) -> int:
    """Read a pax time; the fraction is dropped, and times before 1970 are 1970."""
    whole = value.partition(b".")[0]
    return 0 if whole.startswith(b"-") else min(decimal(whole), _MTIME_MAX)
