"""Bounds for archives, and the rule for entry names that every reader applies. Pure.

An archive is hostile until it is read to its end. The bounds stop bombs (many entries, deep
paths, much data from few bytes); the name rule stops whatever would leave the folder an archive
is unpacked to. Causes are short because an attestation carries them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from buildpipelines.errors import ArchiveError

RATIO_FREE_BYTES: Final = 64 * 1024 * 1024
"""Below this many unpacked bytes no ratio is judged: small files of zeros do no harm."""


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What one archive may hold. Sizes in bytes, ``ratio_max`` unpacked to packed."""

    entries_max: int = 60_000
    path_bytes_max: int = 1024
    depth_max: int = 64
    file_bytes_max: int = 512 * 1024 * 1024
    total_bytes_max: int = 1024 * 1024 * 1024
    ratio_max: int = 250


class Budget:
    """Counts what an archive has unpacked so far and stops it at the limits."""

    def __init__(self, limits: ArchiveLimits) -> None:
        """Start with nothing used."""
        self._limits = limits
        self._entries = 0
        self._bytes = 0

    @property
    def unpacked_bytes(self) -> int:
        """Bytes that all entries so far unpack to."""
        return self._bytes

    def add_entry(self, name: str, size: int) -> None:
        """Count one entry of ``size`` unpacked bytes; raises ArchiveError at a limit."""
        self._entries += 1
        self._bytes += size
        if self._entries > self._limits.entries_max:
            raise ArchiveError("too many entries", f"more than {self._limits.entries_max}")
        if size > self._limits.file_bytes_max:
            raise ArchiveError(
                "archive too large",
                f"{name!r} has {size} bytes; {self._limits.file_bytes_max} are allowed",
            )
        if self._bytes > self._limits.total_bytes_max:
            raise ArchiveError(
                "archive too large", f"unpacks to more than {self._limits.total_bytes_max} bytes"
            )

    def check_ratio(self, *, unpacked: int, packed: int) -> None:
        """Refuse a bomb: much data from few bytes; raises ArchiveError."""
        if unpacked > RATIO_FREE_BYTES and unpacked > packed * self._limits.ratio_max:
            raise ArchiveError(
                "archive ratio",
                f"{packed} bytes unpack to {unpacked} and more; "
                f"{self._limits.ratio_max} to 1 is allowed",
            )


def check_path(name: str, limits: ArchiveLimits) -> tuple[str, ...]:
    """Return the steps of an entry's path, which stays below the archive's root.

    ``./`` steps and a trailing slash are dropped, as tar writers add them.

    Raises:
        ArchiveError: absolute, with ``..``, a backslash, a control character, too long or deep.
    """
    if len(name.encode(errors="replace")) > limits.path_bytes_max:
        raise ArchiveError("entry name", f"a path is longer than {limits.path_bytes_max} bytes")
    if any(c < " " or c == "\x7f" or "\ud800" <= c <= "\udfff" for c in name):
        raise ArchiveError("entry name", f"{name!r} holds a control character or bad Unicode")
    if name.startswith("/"):
        raise ArchiveError("absolute path", repr(name))
    if "\\" in name:
        raise ArchiveError("entry name", f"{name!r} holds a backslash")
    steps = tuple(step for step in name.removesuffix("/").split("/") if step != ".")
    if ".." in steps:
        raise ArchiveError("path traversal", repr(name))
    if "" in steps:
        raise ArchiveError("entry name", f"{name!r} holds an empty step")
    if len(steps) > limits.depth_max:
        raise ArchiveError("entry name", f"a path is deeper than {limits.depth_max} folders")
    return steps


def check_link(path: tuple[str, ...], target: str, limits: ArchiveLimits) -> None:
    """Check that a symbolic link at ``path`` stays inside the archive's top folder.

    The target is followed by its text alone. That is enough because no entry may lie below a
    link (see ``SeenPaths``), so the folders above the link are real folders, and because ``..``
    may only stand at the start: behind another link it would climb from where that link points.

    Raises:
        ArchiveError: an absolute target, or one that climbs out of the top folder.
    """
    if not target or target.startswith("/") or "\\" in target or "\0" in target:
        raise ArchiveError("link escapes", f"{'/'.join(path)!r} -> {target!r}")
    if len(target.encode(errors="replace")) > limits.path_bytes_max:
        raise ArchiveError("entry name", "the target of a link is too long")
    steps = [step for step in target.split("/") if step not in ("", ".")]
    ups = steps.count("..")
    # The first step of a path is the archive's top folder, which a link must not leave.
    if ".." in steps[ups:] or ups > len(path) - 2:
        raise ArchiveError("link escapes", f"{'/'.join(path)!r} -> {target!r}")


class SeenPaths:
    """Refuses a second entry of one name, and entries below something that is no folder."""

    def __init__(self) -> None:
        """Start with an empty archive."""
        self._kinds: dict[tuple[str, ...], str] = {}

    def add(self, path: tuple[str, ...], kind: str) -> None:
        """Record an entry; ``kind`` is "dir" or anything else; raises ArchiveError."""
        known = self._kinds.get(path)
        if known is not None and not (known == "dir" and kind == "dir"):
            raise ArchiveError("duplicate name", repr("/".join(path)))
        for length in range(len(path) - 1, 0, -1):
            parent = self._kinds.setdefault(path[:length], "dir")
            if parent != "dir":
                raise ArchiveError("path through link", f"{'/'.join(path)!r} lies below a {parent}")
        self._kinds[path] = kind

    def kind(self, path: tuple[str, ...]) -> str | None:
        """Return what was recorded at ``path``, or None."""
        return self._kinds.get(path)
