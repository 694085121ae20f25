"""Builds that the contract's server remembers: on disk, bounded, whole after a restart.

``<folder>/<build id>/build.json`` says what was asked and how it ended; ``artifacts/`` beside it
holds the files of a build that ended well. The oldest builds that have ended make room for new
ones. What the worker was busy with when it died is a failure afterwards, and says why.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from buildpipelines.errors import BuildpipelinesError, FormatError
from buildpipelines.spec import fields
from buildpipelines.spec.lock import FILE_NAME
from buildpipelines.worker.contract import (
    BODY_BYTES_MAX,
    FAILURE_CHARACTERS_MAX,
    Failure,
    MappingInfo,
    Running,
    Status,
    Success,
    artifact_name,
    artifact_path,
    parse_mapping,
    parse_status,
    status_document,
)

BUILDS_MAX: Final = 64
BYTES_MAX: Final = 4 * 1024**3
"""Of the files of builds that have ended, when another is asked for."""

OPEN_MAX: Final = 8
"""Builds that wait or run; each may keep a machine busy for as long as a build may take."""

INTERRUPTED: Final = Failure("the pipeline was restarted while it built; ask again")
_RECORD_BYTES_MAX: Final = 4 * BODY_BYTES_MAX

_log = logging.getLogger(__name__)


class StoreFullError(BuildpipelinesError):
    """As many builds are under way as there may be."""


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """One build. ``number`` counts builds in the order in which they were asked for."""

    id: str
    number: int
    mapping: MappingInfo
    status: Status

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return not isinstance(self.status, Running)

    def names(self) -> tuple[str, ...]:
        """Return the names of the files that the build offers."""
        if not isinstance(self.status, Success):
            return ()
        return tuple(artifact_name(url, build_id=self.id) for url in self.status.artifact_urls)


class ContractStore:
    """The builds of one server. One process owns the folder."""

    def __init__(
        self, folder: Path, *, builds_max: int = BUILDS_MAX, bytes_max: int = BYTES_MAX
    ) -> None:
        """Open (and create) ``folder``; what cannot be read in it is removed."""
        self._folder = folder
        self._builds_max = builds_max
        self._bytes_max = bytes_max
        self._records: dict[str, BuildRecord] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            self._take_up(path)
        self._next = max((each.number for each in self._records.values()), default=0) + 1

    def find(self, build_id: str) -> BuildRecord | None:
        """Return a build, or None."""
        return self._records.get(build_id)

    def file(self, record: BuildRecord, name: str) -> Path | None:
        """Return where a file of a build lies; None for what the build does not offer."""
        return self._folder / record.id / "artifacts" / name if name in record.names() else None

    def add(self, mapping: MappingInfo) -> BuildRecord:
        """Remember a new build, under an id that nobody can guess.

        Raises:
            StoreFullError: too many builds are under way.
        """
        ended = sorted((r for r in self._records.values() if r.has_ended), key=lambda r: r.number)
        if len(self._records) - len(ended) >= OPEN_MAX:
            raise StoreFullError(f"{OPEN_MAX} builds wait or run; try again later")
        kept = sum(map(self._size, ended))
        for oldest in ended:
            if len(self._records) < self._builds_max and kept <= self._bytes_max:
                break
            kept -= self._size(oldest)
            self._forget(oldest)
        record = BuildRecord(str(uuid.uuid4()), self._next, mapping, Running())
        self._next += 1
        (self._folder / record.id).mkdir(mode=0o755)
        self._write(record)
        return record

    def succeed(self, record: BuildRecord, files: Sequence[tuple[str, Path]]) -> None:
        """Keep copies of a build's files, then say that it has ended well.

        The files are written before the record names them: a crash between the two leaves a
        build that did not end, which the next start calls interrupted. What a loss of power takes
        besides is a name in a folder, and a record whose files are not there is forgotten.

        Args:
            record: The build.
            files: Name and place of each; names fit ``FILE_NAME``, so each is one step of a path.
        """
        folder = self._folder / record.id / "artifacts"
        folder.mkdir(mode=0o755)
        for name, path in files:
            with path.open("rb") as source, (folder / name).open("xb") as target:
                shutil.copyfileobj(source, target)
                target.flush()
                os.fsync(target.fileno())
        urls = tuple(artifact_path(record.id, name) for name, _ in files)
        self._write(replace(record, status=Success(urls)))

    def fail(self, record: BuildRecord, text: str) -> None:
        """Say that a build has ended without files."""
        failed = replace(record, status=Failure(text[:FAILURE_CHARACTERS_MAX]))
        # Known at once: if it cannot be written, the next start calls the build interrupted.
        self._records[record.id] = failed
        shutil.rmtree(self._folder / record.id / "artifacts", ignore_errors=True)
        self._write(failed)

    def _write(self, record: BuildRecord) -> None:
        document = {
            "number": record.number,
            "mapping": record.mapping.document(),
            "status": status_document(record.status),
        }
        folder = self._folder / record.id
        temporary = folder / "build.json.part"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        # Whole on disk first, then visible under its name.
        temporary.replace(folder / "build.json")
        self._records[record.id] = record

    def _take_up(self, folder: Path) -> None:
        """Read what an earlier life left of one build."""
        try:
            record = _read(folder)
        except (FormatError, OSError) as error:
            _log.warning("the build in %s is forgotten: %s", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
            return
        self._records[record.id] = record
        if not record.has_ended:
            self.fail(record, INTERRUPTED.text)

    def _size(self, record: BuildRecord) -> int:
        folder = self._folder / record.id / "artifacts"
        return sum((folder / name).stat().st_size for name in record.names())

    def _forget(self, record: BuildRecord) -> None:
        del self._records[record.id]
        shutil.rmtree(self._folder / record.id, ignore_errors=True)


def _read(folder: Path) -> BuildRecord:
    with (folder / "build.json").open("rb") as file:
        data = file.read(_RECORD_BYTES_MAX + 1)
    if len(data) > _RECORD_BYTES_MAX:
        raise FormatError("its record is too large")
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"its record is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FormatError("its record is no object")
    fields.exactly(value, {"number", "mapping", "status"})
    record = BuildRecord(
        id=folder.name,
        number=fields.integer(value, "number", low=1, high=2**53 - 1),
        mapping=parse_mapping(json.dumps(value["mapping"]).encode()),
        status=parse_status(value["status"]),
    )
    if not FILE_NAME.match(record.id):
        raise FormatError("its folder is not called like a build")
    if not all((folder / "artifacts" / name).is_file() for name in record.names()):
        raise FormatError("a file of it is missing")
    return record
