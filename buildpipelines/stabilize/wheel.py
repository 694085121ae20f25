"""Normal forms of a wheel at levels 1 and 2, and their digests. Pure.

A normal form is a listing, not a recompressed archive, so no compressor's version can change it.
It is made only of wheels whose structure was checked first (``extract.wheel``): stabilising hides
differences, and a trick that lives in such a difference must be refused before.

- Level 1, the container: entries sorted by name, each with its kind and mode and the SHA-256 of
  its content. Gone are order, times, compression, owners, the writing system, group and other
  write bits, and folders that files imply.
- Level 2, named metadata: as level 1, but ``WHEEL`` without its Generator line, and ``RECORD``
  (already verified) replaced by one regenerated from the rest.

Kept at every level: every other byte of content, every name, the executable and the special bits.
"""

from __future__ import annotations

import hashlib
from typing import Final

from buildpipelines.extract.wheel import Wheel
from buildpipelines.extract.zip import ZipEntry
from buildpipelines.spec import canonical

RULES: Final[dict[str, tuple[str, ...]]] = {
    "l1": (
        "zip-order",
        "zip-time",
        "zip-compression",
        "zip-system",
        "zip-group-other-write",
        "zip-extra",
        "zip-implied-folders",
    ),
    "l2": ("wheel-generator", "wheel-record"),
}
"""Every rule by name; a part of the pipeline's digest, so changing one is seen."""

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


def level1(wheel: Wheel) -> Listing:
    """Return the wheel's listing at level 1."""
    files = [e for e in wheel.archive.entries if not e.is_dir]
    implied = {e.path[:length] for e in files for length in range(1, len(e.path))}
    listing = {e.name: (normal_mode(e), wheel.digests[e.name]) for e in files}
    for entry in wheel.archive.entries:
        if entry.is_dir and entry.path not in implied:
            listing[entry.name] = (normal_mode(entry), "")
    return listing


def level2(wheel: Wheel) -> Listing:
    """Return the wheel's listing at level 2."""
    listing = level1(wheel)
    wheel_name = f"{wheel.dist_info}/WHEEL"
    record_name = f"{wheel.dist_info}/RECORD"
    mode, _ = listing[wheel_name]
    stable = without_generator(wheel.small_file("WHEEL"))
    listing[wheel_name] = (mode, hashlib.sha256(stable).hexdigest())
    mode, _ = listing.pop(record_name)
    record = canonical.dumps([[name, digest] for name, (_, digest) in sorted(listing.items())])
    listing[record_name] = (mode, hashlib.sha256(record).hexdigest())
    return listing


def without_generator(content: bytes) -> bytes:
    """Return a WHEEL file without its ``Generator`` lines, which name the tool that wrote it."""
    lines = content.splitlines(keepends=True)
    return b"".join(line for line in lines if not line.lower().startswith(b"generator:"))


def listing_digest(listing: Listing, level: str) -> str:
    """Return the hex SHA-256 of a listing's canonical document; ``level`` is "l1" or "l2"."""
    entries = [[name, f"{mode:o}", digest] for name, (mode, digest) in sorted(listing.items())]
    return canonical.digest({"t": f"wheel-{level}", "v": 1, "entries": entries})
