"""Normal forms of a wheel at levels 1 and 2, and their digests. Pure.

A normal form is a listing, not a recompressed archive, so no compressor's version can change it.
It is made only of wheels whose structure was checked first (``extract.wheel``): stabilising hides
differences, and a trick that lives in such a difference must be refused before.

- Level 1, the container: what ``stabilize.zip`` keeps of any zip file.
- Level 2, named metadata: as level 1, but ``WHEEL`` without its Generator line, and ``RECORD``
  (already verified) replaced by one regenerated from the rest.

Kept at every level: every other byte of content, every name, the executable and the special bits.
"""

from __future__ import annotations

import hashlib
from typing import Final

from buildpipelines.extract.wheel import Wheel
from buildpipelines.spec import canonical
from buildpipelines.stabilize import zip as zip_rules
from buildpipelines.stabilize.zip import Listing

RULES: Final[dict[str, tuple[str, ...]]] = {
    "l1": zip_rules.RULES,
    "l2": ("wheel-generator", "wheel-record"),
}
"""Every rule by name; a part of the pipeline's digest, so changing one is seen."""


def level1(wheel: Wheel) -> Listing:
    """Return the wheel's listing at level 1."""
    return zip_rules.list_entries(wheel.archive, wheel.digests)


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
    document = {"t": f"wheel-{level}", "v": 1, "entries": zip_rules.rows(listing)}
    return canonical.digest(document)
