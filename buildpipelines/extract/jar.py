"""Structural checks of jars, wars and other zip files that Maven publishes. Pure.

The zip rules are those of wheels (``extract.zip``): one reading or none. Of some 1,700 published
jars that were measured none needs more. Besides, for Java's sake: no name twice, not even a
folder's; every byte of folders accounted for; one manifest at most, whatever its letters' case,
because the JDK looks for it in any case.

An entry that is itself an archive is read by the same rules, down to a fixed depth and within one
budget for everything together. One that has no single reading, or goes beyond the budget, stays
what it is in the archive around it: bytes. ``Jar.plain`` says which and why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.zip import ZipArchive, ZipEntry

MANIFEST: Final = "META-INF/MANIFEST.MF"
SUFFIXES: Final = (".jar", ".war", ".ear", ".aar", ".rar", ".zip")
"""What an archive is called, inside another one and by itself."""

SMALL_FILE_BYTES_MAX: Final = 8 * 1024 * 1024
_UNIX = 3
_TYPES = (0, 0o4, 0o10)
"""File types of a Unix mode that are allowed: none said, folder, file."""


@dataclass(frozen=True, slots=True)
class JarLimits:
    """Bounds of one archive with all that is nested in it.

    ``total`` bounds entries, bytes and ratio of everything together; ``depth_max`` how deep
    archives lie in each other; ``nested_max`` how many are looked into.
    """

    total: ArchiveLimits = field(
        default_factory=lambda: ArchiveLimits(
            file_bytes_max=256 * 1024 * 1024, total_bytes_max=512 * 1024 * 1024
        )
    )
    depth_max: int = 4
    nested_max: int = 1000


@dataclass(frozen=True, slots=True)
class Jar:
    """An archive whose structure holds.

    ``digests`` has the SHA-256 of every file by name, ``nested`` the archives inside that were
    read, ``plain`` those that were not, with the reason.
    """

    file_name: str
    archive: ZipArchive
    digests: Mapping[str, str]
    nested: Mapping[str, Jar]
    plain: Mapping[str, str]

    def small_file(self, name: str) -> bytes | None:
        """Return a file's content, or None when it is absent, a folder or large."""
        entry = self.archive.find(name)
        if entry is None or entry.is_dir or entry.size > SMALL_FILE_BYTES_MAX:
            return None
        return self.archive.read(entry)

    @property
    def has_manifest_first(self) -> bool:
        """Whether readers that start at the front find the manifest.

        ``JarInputStream`` takes it from the first place, or from the second behind ``META-INF/``,
        and believes that there is none otherwise.
        """
        first = [e.name for e in sorted(self.archive.entries, key=lambda e: e.header_start)[:2]]
        return first[:1] == [MANIFEST] or first == ["META-INF/", MANIFEST]


def is_archive(file_name: str) -> bool:
    """Tell whether a file is called like an archive of this kind."""
    return file_name.lower().endswith(SUFFIXES)


def read_jar(file_name: str, data: bytes, limits: JarLimits | None = None) -> Jar:
    """Check an archive wholly, contents and nested archives included.

    Args:
        file_name: What the archive is called; rules of javadoc jars go by it.
        data: All its bytes.
        limits: The defaults where None.

    Raises:
        ArchiveError: it is no zip file with exactly one reading, or exceeds a limit.
    """
    limits = limits or JarLimits()
    return _read(file_name, data, _Remaining(limits, limits.nested_max), depth=0)


class _Remaining:
    """What is left of the bounds of everything together."""

    def __init__(self, limits: JarLimits, nested: int) -> None:
        self.depth_max = limits.depth_max
        self.nested = nested
        self.total = limits.total

    def take(self, archive: ZipArchive) -> None:
        """Count an archive that was accepted."""
        size = sum(entry.size for entry in archive.entries)
        self.total = replace(
            self.total,
            entries_max=self.total.entries_max - len(archive.entries),
            total_bytes_max=self.total.total_bytes_max - size,
        )


def _read(file_name: str, data: bytes, remaining: _Remaining, *, depth: int) -> Jar:
    archive = ZipArchive(data, remaining.total)
    _check_names(archive)
    digests: dict[str, str] = {}
    for entry in archive.entries:
        if entry.system == _UNIX and entry.attributes >> 12 not in _TYPES:
            raise ArchiveError("entry type", f"{entry.name!r} is neither file nor folder")
        digest = hashlib.sha256()
        for chunk in archive.chunks(entry):  # Of folders too: bytes could hide there.
            digest.update(chunk)
        if not entry.is_dir:
            digests[entry.name] = digest.hexdigest()
    remaining.take(archive)
    nested: dict[str, Jar] = {}
    plain: dict[str, str] = {}
    # By name, so that the order of entries never decides which archives the budget suffices for.
    for entry in sorted(archive.entries, key=lambda e: e.name):
        if not entry.is_dir and is_archive(entry.name):
            found = _read_nested(archive, entry, remaining, depth=depth + 1)
            if isinstance(found, Jar):
                nested[entry.name] = found
            else:
                plain[entry.name] = found
    return Jar(file_name, archive, digests, nested, plain)


def _read_nested(
    archive: ZipArchive, entry: ZipEntry, remaining: _Remaining, *, depth: int
) -> Jar | str:
    """Return an archive inside another one, or why it is taken for plain bytes."""
    if depth > remaining.depth_max:
        return f"nested deeper than {remaining.depth_max}"
    if remaining.nested == 0:
        return "too many nested archives"
    remaining.nested -= 1
    before = remaining.total
    try:
        return _read(entry.path[-1], archive.read(entry), remaining, depth=depth)
    except ArchiveError as error:
        remaining.total = before
        return f"{error.cause}: {error.detail}"[:200]


def _check_names(archive: ZipArchive) -> None:
    names = [entry.name for entry in archive.entries]
    if len(set(names)) != len(names):
        raise ArchiveError("duplicate name", "a folder is listed twice")
    manifests = [name for name in names if name.upper() == MANIFEST]
    if len(manifests) > 1:
        raise ArchiveError("jar structure", f"several manifests: {', '.join(manifests)}"[:300])
