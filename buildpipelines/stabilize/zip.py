"""What wheels and jars share: the listing of a zip file without its container. Pure.

Taken away are the order of entries, their times, compression, owners, the writing system, extra
fields, the write bits of group and others (a umask's doing), and folders that files imply. Kept
are names, kinds, all other mode bits and content.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from buildpipelines.extract.zip import ZipArchive, ZipEntry

RULES: Final = (
    "zip-order",
    "zip-time",
    "zip-compression",
    "zip-system",
    "zip-group-other-write",
    "zip-extra",
    "zip-implied-folders",
)
"""The container's rules by name, in the order in which pipelines' digests cover them."""

_UNIX = 3
_FILE_BITS, _DIR_BITS = 0o100000, 0o040000
_GROUP_OTHER_WRITE = 0o022

Listing = dict[str, tuple[int, str]]
"""Entry name to (mode, content digest); folders have the digest ""."""


def normal_mode(entry: ZipEntry) -> int:
    """Return kind and permission bits with the umask's influence taken away.

    A missing mode (another writing system, or zero) means an ordinary readable file, as
    installers take it.
    """
    kind = _DIR_BITS if entry.is_dir else _FILE_BITS
    mode = entry.attributes & 0o7777 if entry.system == _UNIX else 0
    if not mode:
        mode = 0o755 if entry.is_dir else 0o644
    return kind | (mode & ~_GROUP_OTHER_WRITE)


def list_entries(archive: ZipArchive, digests: Mapping[str, str]) -> Listing:
    """Return the listing of an archive.

    Args:
        archive: As it was read.
        digests: The digest of every file by name: of its bytes, or of its own normal form.
    """
    files = [e for e in archive.entries if not e.is_dir]
    implied = implied_folders(archive)
    listing = {e.name: (normal_mode(e), digests[e.name]) for e in files}
    for entry in archive.entries:
        if entry.is_dir and entry.path not in implied:
            listing[entry.name] = (normal_mode(entry), "")
    return listing


def implied_folders(archive: ZipArchive) -> set[tuple[str, ...]]:
    """Return the folders that must be there because files lie in them."""
    files = (e for e in archive.entries if not e.is_dir)
    return {e.path[:length] for e in files for length in range(1, len(e.path))}


def rows(listing: Listing) -> list[list[str]]:
    """Return a listing as its digest covers it: sorted by name, modes in octal."""
    return [[name, f"{mode:o}", digest] for name, (mode, digest) in sorted(listing.items())]
