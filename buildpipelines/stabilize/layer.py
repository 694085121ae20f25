"""Normal forms of an image layer at levels 1 and 2, and their digests. Pure.

A normal form is a listing, not a tar that was written again, so no writer's version can change it.

- Level 1, the container: entries sorted by path, each with everything that ``extract.layer`` tells
  of it. Gone are the compression, the order of entries, how numbers and long names were written,
  and which of several hard links of one file stood first.
- Level 2, named metadata: as level 1, without times, names of owners beside their numbers, and the
  write bits of group and others, which a umask decides.

Kept at every level, and never to be taken out: type, set-user-id, set-group-id and sticky bits,
executable and read bits, the owner's write bit, owners' numbers, link targets, device numbers,
whiteouts and opaque markers (they are names), extended attributes such as
``security.capability``, and every byte of content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.layer import Entry
from buildpipelines.spec import canonical

RULES: Final[dict[str, tuple[str, ...]]] = {
    "l1": ("layer-compression", "layer-order", "layer-header-format", "layer-hard-link-order"),
    "l2": ("layer-times", "layer-owner-names", "layer-group-other-write"),
}
"""Every rule by name; a part of the pipeline's digest, so changing one is seen."""

_GROUP_OTHER_WRITE: Final = 0o022

Listing = Mapping[str, Entry]
"""Entries by path; in the normal form of some level."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that was read to its end: its level 1 listing and the digest of its plain bytes."""

    listing: Listing
    diff_id: str


def level1(entries: Iterable[Entry]) -> Listing:
    """Return the listing at level 1 of entries that ``LayerReader`` yielded.

    Raises:
        ArchiveError: a hard link to a folder or to itself, or one that says something else of its
            file than the file's own entry: then the order of entries would decide.
    """
    found = {entry.path: entry for entry in entries}
    groups: dict[str, list[Entry]] = {}
    for entry in found.values():
        if entry.kind == "hardlink":
            groups.setdefault(_target(entry, found), []).append(entry)
    for target, links in groups.items():
        file = found.get(target)
        if file is None:
            continue  # A link to a file of a layer below stays as it is.
        for link in links:
            _check_agreement(link, file)
        first = min(target, *(link.path for link in links))
        for path in (target, *(link.path for link in links)):
            found[path] = (
                replace(file, path=path) if path == first else _link(file, path=path, to=first)
            )
    return dict(sorted(found.items()))


def level2(listing: Listing) -> Listing:
    """Return the listing at level 2 of one at level 1."""
    return {
        path: replace(
            entry,
            mode=entry.mode & ~_GROUP_OTHER_WRITE if entry.kind != "symlink" else entry.mode,
            mtime_ns=0,
            access_times=(),
            owner_names=("", ""),
        )
        for path, entry in listing.items()
    }


def listing_digest(listing: Listing, level: str) -> str:
    """Return the hex SHA-256 of a listing, a line an entry; ``level`` is "l1" or "l2"."""
    digest = hashlib.sha256(canonical.dumps({"t": f"layer-{level}", "v": 1}) + b"\n")
    for entry in listing.values():
        digest.update(canonical.dumps(row(entry)) + b"\n")
    return digest.hexdigest()


def row(entry: Entry) -> list[object]:
    """Return what a listing's digest covers of an entry."""
    return [
        entry.path,
        entry.kind,
        f"{entry.mode:o}",
        [str(entry.uid), str(entry.gid)],
        list(entry.owner_names),
        str(entry.mtime_ns),
        [list(pair) for pair in entry.access_times],
        entry.link,
        [str(part) for part in entry.device],
        entry.sha256,
        [list(pair) for pair in entry.records],
    ]


def _target(link: Entry, found: Mapping[str, Entry]) -> str:
    """Return the file that a hard link means in the end: links to links are followed."""
    path, steps = link.link, 0
    while (target := found.get(path)) is not None and target.kind == "hardlink":
        path, steps = target.link, steps + 1
        if steps > len(found):
            raise ArchiveError("link escapes", f"{link.path!r:.200} is a link to itself")
    if target is not None and target.kind == "dir":
        raise ArchiveError("link escapes", f"{link.path!r:.200} is a hard link to a folder")
    return path


def _check_agreement(link: Entry, file: Entry) -> None:
    """Refuse a link with attributes of its own: unpacked, they would replace those of its file."""
    # Writers may leave out extended attributes of a link; that takes none away.
    plain = replace(_link(link, path="", to=""), records=link.records or file.records)
    if plain != _link(file, path="", to=""):
        raise ArchiveError(
            "duplicate name", f"{link.path!r:.150} and {file.path!r:.150} are one file and differ"
        )


def _link(file: Entry, *, path: str, to: str) -> Entry:
    """Return a hard link as it stands in the normal form: it says nothing that its file does."""
    return replace(
        file,
        path=path,
        kind="hardlink",
        link=to,
        device=(0, 0),
        size=0,
        sha256="",
    )
