"""Structural checks of a wheel, before anything is compared or stabilised. Pure.

A wheel that would install differently in two installers is refused, whoever made it: exactly one
``.dist-info`` folder that fits the file name, the three files a wheel must have, and a RECORD
that lists every file with its true SHA-256 and size and nothing else. Stabilising regenerates
RECORD, so it must have been true first. Formats: the binary distribution format of the Python
packaging guide (PEP 427), "Recording installed projects" (PEP 376, 627).
"""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from buildpipelines.errors import ArchiveError
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.zip import ZipArchive

SMALL_FILE_BYTES_MAX: Final = 8 * 1024 * 1024
UNLISTED: Final = ("RECORD", "RECORD.jws", "RECORD.p7s")
"""Files of the .dist-info folder that RECORD cannot list with a hash."""

_UNIX = 3


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel whose structure holds. ``digests`` has the SHA-256 of every file, by name."""

    file_name: str
    dist_info: str
    archive: ZipArchive
    digests: Mapping[str, str]

    def small_file(self, name: str) -> bytes:
        """Return a file of the .dist-info folder; raises ArchiveError when absent or large."""
        return _small(self.archive, f"{self.dist_info}/{name}")


def read_wheel(file_name: str, data: bytes, limits: ArchiveLimits) -> Wheel:
    """Check a wheel wholly, contents and RECORD included.

    Raises:
        ArchiveError: it is no wheel with exactly one reading; ``cause`` names the rule.
    """
    try:
        name, version, _, _ = parse_wheel_filename(file_name)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise ArchiveError("wheel name", str(error)) from error
    archive = ZipArchive(data, limits)
    for entry in archive.entries:
        if entry.system == _UNIX and entry.attributes >> 12 not in (0, 0o4, 0o10):
            raise ArchiveError("entry type", f"{entry.name!r} is neither file nor folder")
    dist_info = _find_dist_info(archive, name, version)
    digests: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for entry in archive.entries:
        if not entry.is_dir:
            digest = hashlib.sha256()
            for chunk in archive.chunks(entry):
                digest.update(chunk)
            digests[entry.name] = digest.hexdigest()
            sizes[entry.name] = entry.size
    for required in ("WHEEL", "METADATA"):
        _small(archive, f"{dist_info}/{required}")
    _check_record(_small(archive, f"{dist_info}/RECORD"), dist_info, digests, sizes)
    return Wheel(file_name, dist_info, archive, digests)


def _find_dist_info(archive: ZipArchive, name: str, version: Version) -> str:
    found = {e.path[0] for e in archive.entries if e.path[0].endswith(".dist-info")}
    if len(found) != 1:
        raise ArchiveError("wheel structure", f"{len(found)} .dist-info folders, one is needed")
    folder = found.pop()
    project, _, text = folder.removesuffix(".dist-info").partition("-")
    try:
        is_same = canonicalize_name(project) == name and Version(text) == version
    except InvalidVersion:
        is_same = False
    if not is_same:
        raise ArchiveError("wheel structure", f"{folder!r} does not fit the wheel's file name")
    return folder


def _small(archive: ZipArchive, name: str) -> bytes:
    entry = archive.find(name)
    if entry is None:
        raise ArchiveError("wheel structure", f"{name!r} is missing")
    if entry.size > SMALL_FILE_BYTES_MAX:
        raise ArchiveError("archive too large", f"{name!r} has {entry.size} bytes")
    return archive.read(entry)


def _check_record(
    record: bytes, dist_info: str, digests: Mapping[str, str], sizes: Mapping[str, int]
) -> None:
    unlisted = {f"{dist_info}/{name}" for name in UNLISTED}
    listed: set[str] = set()
    for row in parse_record(record):
        name, hash_text, size_text = row
        if name in listed:
            raise ArchiveError("wheel RECORD", f"{name!r} is listed twice")
        listed.add(name)
        if name in unlisted:
            continue
        if name not in digests:
            raise ArchiveError("wheel RECORD", f"{name!r} is listed and not in the wheel")
        if hash_text != _record_hash(digests[name]):
            raise ArchiveError("wheel RECORD", f"{name!r} has another hash than RECORD says")
        if size_text and size_text != str(sizes[name]):
            raise ArchiveError("wheel RECORD", f"{name!r} has another size than RECORD says")
    if missing := sorted(digests.keys() - listed - unlisted):
        raise ArchiveError("wheel RECORD", f"{missing[0]!r} is in the wheel and not listed")


def parse_record(record: bytes) -> list[tuple[str, str, str]]:
    """Return the rows (name, hash, size) of a RECORD file; raises ArchiveError."""
    try:
        lines = io.StringIO(record.decode(), newline="")
        rows = [row for row in csv.reader(lines, strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ArchiveError("wheel RECORD", f"does not parse: {error}") from error
    if any(len(row) != 3 for row in rows):
        raise ArchiveError("wheel RECORD", "a row has not three fields")
    return [(row[0], row[1], row[2]) for row in rows]


def _record_hash(hex_digest: str) -> str:
    encoded = base64.urlsafe_b64encode(binascii.unhexlify(hex_digest)).rstrip(b"=")
    return f"sha256={encoded.decode()}"
