"""Turn a source distribution into a tar stream that is safe to unpack. Pure, over file objects.

The sandbox unpacks only what this module wrote: regular files, folders, links that stay inside
the one top folder; modes cut down to "executable or not", whole-second times, no owners. Nothing
of the original archive reaches a file system in any other way. Formats: PEP 517/625 ``.tar.gz``,
and ``.zip`` as older releases use it.
"""

from __future__ import annotations

import calendar
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.gzip import GzipReader
from buildpipelines.extract.limits import ArchiveLimits, Budget, check_link
from buildpipelines.extract.tar import Member, TarReader
from buildpipelines.extract.zip import ZipArchive, ZipEntry

KEPT_FILES: Final = ("pyproject.toml", "PKG-INFO", "setup.py", "setup.cfg")
_KEPT_BYTES_MAX = 1024 * 1024
_UNIX = 3
TAR_TYPES: dict[str, bytes] = {
    "file": tarfile.REGTYPE,
    "dir": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
}


@dataclass(slots=True)
class SourceTree:
    """What was seen on the way: the top folder, its build files, its newest time in seconds."""

    top: str = ""
    entries: int = 0
    unpacked_bytes: int = 0
    newest_mtime: int = 0
    kept: dict[str, bytes] = field(default_factory=dict)
    """Contents of the build files that stand directly in the top folder."""


def repack(source: BinaryIO, *, file_name: str, out: BinaryIO, limits: ArchiveLimits) -> SourceTree:
    """Check a source distribution wholly and write it again as a plain tar.

    Args:
        source: The archive, opened for reading at its start.
        file_name: Its name, which tells the format.
        out: Where the tar goes; at most ``limits.total_bytes_max`` and headers.
        limits: What the archive may hold.

    Raises:
        ArchiveError: The archive breaks a rule; ``out`` then holds an unusable part.
    """
    tree = SourceTree()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        if file_name.endswith(".tar.gz"):
            _repack_tar(source.read, tar, tree, limits)
        elif file_name.endswith(".zip"):
            _repack_zip(source.read(), tar, tree, limits)
        else:
            raise ArchiveError("sdist format", f"{file_name!r} is neither .tar.gz nor .zip")
    if not tree.top:
        raise ArchiveError("sdist layout", "the archive is empty")
    return tree


def _repack_tar(
    read: Callable[[int], bytes], tar: tarfile.TarFile, tree: SourceTree, limits: ArchiveLimits
) -> None:
    budget = Budget(limits)
    reader = TarReader(GzipReader(read, budget).read, limits, budget)
    for member in reader.members():
        _write(member, reader.chunks(), tar, tree)


def _repack_zip(data: bytes, tar: tarfile.TarFile, tree: SourceTree, limits: ArchiveLimits) -> None:
    archive = ZipArchive(data, limits)
    for entry in archive.entries:
        member = zip_member(entry, archive, limits)
        chunks = archive.chunks(entry) if member.kind == "file" else iter(())
        _write(member, chunks, tar, tree)


def zip_member(entry: ZipEntry, archive: ZipArchive, limits: ArchiveLimits) -> Member:
    """Return an entry of a zip file as a member of a tar; raises ArchiveError."""
    mode = entry.attributes if entry.system == _UNIX else 0
    kind = mode >> 12
    mtime = dos_seconds(entry.time)
    if entry.is_dir:
        return Member("dir", entry.path, 0o755, mtime, 0, "")
    if kind == 0o12:
        target = archive.read(entry).decode(errors="replace")
        check_link(entry.path, target, limits)
        return Member("symlink", entry.path, 0o777, mtime, 0, target)
    if kind not in (0, 0o10):
        raise ArchiveError("device entry", repr(entry.name))
    return Member("file", entry.path, mode & 0o777, mtime, entry.size, "")


def dos_seconds(time: tuple[int, int]) -> int:
    """Return a zip entry's DOS (date, time) as Unix seconds, read as UTC; 0 if it is no time."""
    date, clock = time
    year, month, day = (date >> 9) + 1980, (date >> 5) & 15, date & 31
    hour, minute, second = clock >> 11, (clock >> 5) & 63, (clock & 31) * 2
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60):
        return 0
    return calendar.timegm((year, month, day, hour, minute, second))


def _write(member: Member, chunks: Iterator[bytes], tar: tarfile.TarFile, tree: SourceTree) -> None:
    _note(member, tree)
    info = tarfile.TarInfo("/".join(member.path))
    info.type = TAR_TYPES[member.kind]
    info.mode = 0o755 if member.kind == "dir" or member.mode & 0o111 else 0o644
    info.mtime = member.mtime
    info.linkname = member.link
    if member.kind != "file":
        tar.addfile(info)
        return
    info.size = member.size
    is_kept = len(member.path) == 2 and member.path[1] in KEPT_FILES
    if is_kept:
        if member.size > _KEPT_BYTES_MAX:
            raise ArchiveError("archive too large", f"{member.path[1]} of {member.size} bytes")
        tree.kept[member.path[1]] = content = b"".join(chunks)
        chunks = iter((content,))
    tar.addfile(info, io.BufferedReader(ChunkStream(chunks)))


def _note(member: Member, tree: SourceTree) -> None:
    tree.top = tree.top or member.path[0]
    if member.path[0] != tree.top or (len(member.path) == 1 and member.kind != "dir"):
        raise ArchiveError("sdist layout", "not everything lies in one top folder")
    tree.entries += 1
    tree.unpacked_bytes += member.size
    if member.kind == "file":
        tree.newest_mtime = max(tree.newest_mtime, member.mtime)


class ChunkStream(io.RawIOBase):
    """Chunks as a readable file, for ``tarfile``, which copies from files."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        """Read these chunks, one after another."""
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # Buffer is 3.12's
        """Fill ``buffer`` as far as the next chunk goes; 0 at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
