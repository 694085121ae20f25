"""The inputs lock: every file that a build may read, by digest. Pure.

A lock names files, not HTTP answers, so a node can fetch each of them from wherever it likes and
check it alone. ``uploaded`` is when the upstream says the file appeared, or "unknown".
Document: ``{"t":"lock","v":1,"files":[…sorted by ecosystem, project, file…]}`` in canonical JSON;
its SHA-256 stands in the build request (docs/spec/leaves.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from buildpipelines.errors import FormatError
from buildpipelines.spec import canonical, fields

LOCK_BYTES_MAX: Final = 512 * 1024
LOCK_FILES_MAX: Final = 2000
"""A Maven build with a dozen plugins reads several hundred poms and jars; others read far less."""

FILE_BYTES_MAX: Final = 2 * 1024**3
UNKNOWN: Final = "unknown"

FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,254}\Z")
"""What an artifact may be called. No separator: a name never becomes more than one path step."""

_ECOSYSTEM = re.compile(r"[a-z]{1,16}\Z")
_PROJECT = re.compile(r"[a-z0-9]([a-z0-9-]{0,126}[a-z0-9])?\Z")
FOLDER: Final = re.compile(
    r"(?=.{1,400}\Z)[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*){1,40}\Z"
)
"""Where a file lies in a Maven repository: at least two steps, none of which begins with a dot."""

_UPLOADED = re.compile(r"(unknown|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)\Z")


@dataclass(frozen=True, slots=True, order=True)
class LockedFile:
    """One input. ``project`` is in the ecosystem's normal form; ``size`` in bytes.

    Of ``maven`` it is the folder of the repository, such as ``org/apache/maven/maven-core/3.9.9``.
    """

    ecosystem: str
    project: str
    file: str
    sha256: str
    size: int
    uploaded: str = UNKNOWN


@dataclass(frozen=True, slots=True)
class Lock:
    """All inputs of one build, sorted; make it with :func:`make_lock`."""

    files: tuple[LockedFile, ...]

    def document(self) -> dict[str, object]:
        """Return the lock as a JSON object."""
        return {
            "t": "lock",
            "v": 1,
            "files": [
                {
                    "ecosystem": f.ecosystem,
                    "project": f.project,
                    "file": f.file,
                    "sha256": f.sha256,
                    "size": f.size,
                    "uploaded": f.uploaded,
                }
                for f in self.files
            ],
        }

    def digest(self) -> str:
        """Return the hex SHA-256 that names this lock."""
        return canonical.digest(self.document())

    def find(self, project: str, file: str) -> LockedFile | None:
        """Return the locked file of that name, or None."""
        return next((f for f in self.files if f.project == project and f.file == file), None)


def make_lock(files: Iterable[LockedFile]) -> Lock:
    """Return the lock of ``files``, sorted and without repetition.

    Raises:
        FormatError: two entries disagree about one file name, or there are too many, or too much.
    """
    ordered = tuple(sorted(set(files)))
    names = [(f.ecosystem, f.project, f.file) for f in ordered]
    if len(set(names)) != len(names):
        raise FormatError("two entries of a lock name the same file")
    if len(ordered) > LOCK_FILES_MAX:
        raise FormatError(f"a lock names {len(ordered)} files; {LOCK_FILES_MAX} at most")
    lock = Lock(ordered)
    if len(canonical.dumps(lock.document())) > LOCK_BYTES_MAX:
        raise FormatError(f"a lock has more than {LOCK_BYTES_MAX} bytes")
    return lock


def parse_lock(document: Mapping[str, object]) -> Lock:
    """Read a lock document.

    Raises:
        FormatError: not a lock of version 1, unsorted, repeated or over a limit.
    """
    fields.exactly(document, {"t", "v", "files"})
    if document["t"] != "lock" or document["v"] != 1 or document["v"] is True:
        raise FormatError("not a lock of version 1")
    files = [
        _parse_file(item) for item in fields.objects(document, "files", count_max=LOCK_FILES_MAX)
    ]
    lock = make_lock(files)
    if list(lock.files) != files:
        raise FormatError("the files of a lock are not sorted or are repeated")
    return lock


def _parse_file(item: Mapping[str, object]) -> LockedFile:
    fields.exactly(item, {"ecosystem", "project", "file", "sha256", "size", "uploaded"})
    ecosystem = fields.matching(item, "ecosystem", _ECOSYSTEM)
    return LockedFile(
        ecosystem=ecosystem,
        project=fields.matching(item, "project", FOLDER if ecosystem == "maven" else _PROJECT),
        file=fields.matching(item, "file", FILE_NAME),
        sha256=fields.sha256(item, "sha256"),
        size=fields.integer(item, "size", low=0, high=FILE_BYTES_MAX),
        uploaded=fields.matching(item, "uploaded", _UPLOADED),
    )
