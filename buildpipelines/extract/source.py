"""Sources as our own canonical tar: what an entry of the log keeps, and what a sandbox unpacks.

The tar is a pure function of its entries: ustar headers, a pax header only where a name does not
fit, no times, no owners, modes 644 and 755, files, folders and links that stay inside. So every
node makes the same bytes from one git tree, whatever its git or Python. Archives are read by the
strict readers of this package and written again without their one top folder, in their own order.
Format: docs/design/maven.md, "Source"; POSIX.1-2017 pax, "ustar Interchange Format".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.gzip import GzipReader
from buildpipelines.extract.headers import BLOCK
from buildpipelines.extract.limits import (
    ArchiveLimits,
    Budget,
    SeenPaths,
    check_link,
    check_path,
)
from buildpipelines.extract.sdist import zip_member
from buildpipelines.extract.source_streams import StreamReader, bzip2_reader, xz_reader
from buildpipelines.extract.tar import Member, TarReader
from buildpipelines.extract.zip import ZipArchive

SOURCE_LIMITS: Final = ArchiveLimits()
ZIP_BYTES_MAX: Final = 256 * 1024 * 1024
FORMATS: Final = {
    ".tar.gz": ".tar.gz",
    ".tgz": ".tar.gz",
    ".tar.xz": ".tar.xz",
    ".txz": ".tar.xz",
    ".tar.bz2": ".tar.bz2",
    ".tbz2": ".tar.bz2",
    ".zip": ".zip",
}
"""Endings of archives' names, and how the same format is called in an entry."""

_NAME_BYTES: Final = 100
_FILE, _LINK, _FOLDER, _EXTENDED = b"0", b"2", b"5", b"x"
_PAX_NAME: Final = b"././@PaxHeader"


@dataclass(slots=True)
class SourceFacts:
    """What was written: entries, unpacked bytes, and the newest time seen, in seconds."""

    entries: int = 0
    unpacked_bytes: int = 0
    newest: int = 0


class SourceTar:
    """Writes a canonical tar. Paths are steps; folders are written before what they hold."""

    def __init__(self, out: BinaryIO, limits: ArchiveLimits = SOURCE_LIMITS) -> None:
        """Write to ``out``; every entry counts against ``limits``."""
        self.facts = SourceFacts()
        self._out = out
        self._limits = limits
        self._budget = Budget(limits)
        self._seen = SeenPaths()

    def folder(self, path: tuple[str, ...]) -> None:
        """Write a folder; raises ArchiveError."""
        if self._seen.kind(path) != "dir":
            self._start(path, "dir", 0)
            self._header(path, _FOLDER, mode=0o755)

    def link(self, path: tuple[str, ...], target: str) -> None:
        """Write a symbolic link; raises ArchiveError where it would leave the tree."""
        check_link(("source", *path), target, self._limits)
        self._start(path, "symlink", 0)
        self._header(path, _LINK, mode=0o777, link=target)

    def file(
        self, path: tuple[str, ...], *, size: int, is_executable: bool, chunks: Iterable[bytes]
    ) -> None:
        """Write a file of exactly ``size`` bytes; raises ArchiveError."""
        self._start(path, "file", size)
        self._header(path, _FILE, mode=0o755 if is_executable else 0o644, size=size)
        left = size
        for chunk in chunks:
            self._out.write(chunk)
            left -= len(chunk)
        if left:
            raise ArchiveError("archive cut", f"{'/'.join(path)!r:.200} has another size")
        self._out.write(bytes(-size % BLOCK))

    def close(self) -> None:
        """Write the end of the archive; ``out`` stays open."""
        self._out.write(bytes(2 * BLOCK))

    def _start(self, path: tuple[str, ...], kind: str, size: int) -> None:
        name = "/".join(path)
        if check_path(name, self._limits) != path or not path:
            raise ArchiveError("entry name", repr(name))
        self._budget.add_entry(name, size)
        self._seen.add(path, kind)
        self.facts.entries += 1
        self.facts.unpacked_bytes += size

    def _header(
        self, path: tuple[str, ...], kind: bytes, *, mode: int, size: int = 0, link: str = ""
    ) -> None:
        name, target = "/".join(path).encode(), link.encode()
        records = b"".join(
            _record(key, value)
            for key, value in ((b"linkpath", target), (b"path", name))
            if len(value) > _NAME_BYTES or not value.isascii()
        )
        if records:
            self._out.write(_block(_PAX_NAME, _EXTENDED, 0o644, len(records), b""))
            self._out.write(records + bytes(-len(records) % BLOCK))
        self._out.write(_block(name, kind, mode, size, target))


def archive_format(name: str) -> str | None:
    """Return the ending that stands for the format of an archive of this name, or None."""
    return next((known for ending, known in FORMATS.items() if name.endswith(ending)), None)


def repack_source(
    source: BinaryIO, *, ending: str, out: BinaryIO, limits: ArchiveLimits = SOURCE_LIMITS
) -> SourceFacts:
    """Check a source archive wholly and write it again without its one top folder.

    Args:
        source: The archive, opened for reading at its start.
        ending: Its format, one of the values of :data:`FORMATS`.
        out: Where the tar goes.
        limits: What the archive may hold.

    Raises:
        ArchiveError: The archive breaks a rule; ``out`` then holds an unusable part.
    """
    tar = SourceTar(out, limits)
    top: str | None = None
    for member, chunks in _members(source, ending, limits):
        top = top or member.path[0]
        if member.path[0] != top or (len(member.path) == 1 and member.kind != "dir"):
            raise ArchiveError("source layout", "not everything lies in one top folder")
        if len(member.path) > 1:
            _copy(member, chunks, tar)
    if not tar.facts.entries:
        raise ArchiveError("source layout", "the archive is empty")
    tar.close()
    return tar.facts


def _members(
    source: BinaryIO, ending: str, limits: ArchiveLimits
) -> Iterator[tuple[Member, Iterator[bytes]]]:
    if ending == ".zip":
        data = source.read(ZIP_BYTES_MAX + 1)
        if len(data) > ZIP_BYTES_MAX:
            raise ArchiveError("archive too large", f"more than {ZIP_BYTES_MAX} bytes of zip")
        archive = ZipArchive(data, limits)
        for entry in archive.entries:
            member = zip_member(entry, archive, limits)
            yield member, archive.chunks(entry) if member.kind == "file" else iter(())
        return
    budget = Budget(limits)
    unpacked: GzipReader | StreamReader
    match ending:
        case ".tar.gz":
            unpacked = GzipReader(source.read, budget)
        case ".tar.xz":
            unpacked = xz_reader(source.read, budget)
        case ".tar.bz2":
            unpacked = bzip2_reader(source.read, budget)
        case _:
            raise ArchiveError("source format", f"{ending!r:.40} is no known format")
    reader = TarReader(unpacked.read, limits, budget)
    for each in reader.members():
        yield each, reader.chunks()


def _copy(member: Member, chunks: Iterator[bytes], tar: SourceTar) -> None:
    path = member.path[1:]
    match member.kind:
        case "dir":
            tar.folder(path)
        case "symlink":
            tar.link(path, member.link)
        case "hardlink":
            raise ArchiveError("entry type", f"{'/'.join(path)!r:.200} is a hard link")
        case "file":
            executable = bool(member.mode & 0o111)
            tar.file(path, size=member.size, is_executable=executable, chunks=chunks)
            tar.facts.newest = max(tar.facts.newest, member.mtime)


def _record(key: bytes, value: bytes) -> bytes:
    """Return a pax record, whose length counts its own digits."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def _block(name: bytes, kind: bytes, mode: int, size: int, link: bytes) -> bytes:
    """Return a ustar header; names that do not fit are cut, a pax header before gives them."""
    fields = (
        _cut(name),
        b"%07o\0" % mode,
        b"0000000\0" * 2,
        b"%011o\0" % size,
        b"%011o\0" % 0,
        b" " * 8,
        kind,
        _cut(link),
        b"ustar\x0000",
        bytes(64),
        b"0000000\0" * 2,
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _cut(name: bytes) -> bytes:
    shown = bytes(each if each < 128 else 0x3F for each in name[:_NAME_BYTES])
    return shown.ljust(_NAME_BYTES, b"\0")
