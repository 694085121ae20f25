"""The repository that a Maven build sees, at ``/maven2/`` of its door: recording or replaying.

The sandbox's settings send every repository here, whatever poms declare. A recording run is served
from the operator's upstreams, and each file that it reads becomes an entry of the lock; a replay
run is served the locked files and nothing else. Checksums are computed here in both, because the
upstream's were checked before. ``maven-metadata.xml`` is the upstream's while recording, so ranges
resolve as they would for anybody; in a replay it lists what is locked (``maven_metadata``).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote

from buildpipelines.errors import ArchiveError, BuildFailure, FormatError
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.zip import ZipArchive
from buildpipelines.inputs.door import Answer, Watcher, serving_route
from buildpipelines.inputs.maven_metadata import locked_metadata, read_goal_prefix
from buildpipelines.inputs.maven_upstream import CHECKSUMS, MavenUpstream
from buildpipelines.spec.coordinates import METADATA, parse_file_path
from buildpipelines.spec.lock import Lock, LockedFile, make_lock

PREFIX: Final = "/maven2/"
MISSED_MAX: Final = 64
DESCRIPTOR: Final = "META-INF/maven/plugin.xml"
DESCRIPTOR_BYTES_MAX: Final = 8 * 1024 * 1024
PLUGIN_BYTES_MAX: Final = 64 * 1024 * 1024

_BYTES: Final = "application/octet-stream"
_XML: Final = "text/xml"
_NOTHING: Final = Answer(404, b"no such file\n")


class RepositoryInputs(Protocol):
    """What a proxy serves. Paths are those of a repository, checked, without a leading slash."""

    missed: list[str]
    """Paths of files that were asked for and are not there, bounded."""

    async def file(self, path: str) -> Path | None:
        """Return a file, or None."""
        ...

    async def metadata(self, folder: str) -> bytes | None:
        """Return the metadata of a folder, or None."""
        ...


class RecordingRepository:
    """Everything of the upstreams; remembers what was taken."""

    def __init__(self, upstream: MavenUpstream) -> None:
        """Record a run."""
        self.missed: list[str] = []
        self._upstream = upstream
        self._taken: dict[str, LockedFile] = {}

    async def file(self, path: str) -> Path | None:
        """Fetch a file and put it on the record; raises BuildFailure."""
        found = await self._upstream.find(path)
        if found is None:
            return None
        local = await self._upstream.fetch(found)
        taken = self._taken.setdefault(path, locked_maven_file(path, local))
        if taken.sha256 != local.name:
            # What one half of the build read and the other did not fits no lock.
            detail = f"{path} was {taken.sha256} and is {local.name} now"
            raise BuildFailure("SOURCE_UNAVAILABLE", "input has another hash", detail)
        return local

    async def metadata(self, folder: str) -> bytes | None:
        """Return the upstream's own; raises BuildFailure."""
        return await self._upstream.metadata(f"{folder}/{METADATA}")

    def taken(self) -> tuple[LockedFile, ...]:
        """Return what the build has read so far."""
        return tuple(self._taken.values())

    def lock(self, more: Iterable[LockedFile]) -> Lock:
        """Return the lock of the run and of what the host read itself (the source).

        Raises:
            FormatError: more files than a lock may have.
        """
        return make_lock((*self.taken(), *more))


class ReplayRepository:
    """Exactly the files of a lock."""

    def __init__(self, lock: Lock, paths: Mapping[str, Path]) -> None:
        """Replay ``lock``; ``paths`` has a checked file for every Maven file's digest in it."""
        self.missed: list[str] = []
        self._lock = lock
        self._paths = paths
        self._files = {
            f"{f.project}/{f.file}": f.sha256 for f in lock.files if f.ecosystem == "maven"
        }
        self._prefixes: dict[str, str | None] = {}

    async def file(self, path: str) -> Path | None:
        """Return a locked file."""
        sha256 = self._files.get(path)
        return None if sha256 is None else self._paths[sha256]

    async def metadata(self, folder: str) -> bytes | None:
        """Return metadata that lists what is locked."""
        return await asyncio.to_thread(locked_metadata, self._lock, folder, self._goal_prefix)

    def _goal_prefix(self, sha256: str) -> str | None:
        if sha256 not in self._prefixes:
            self._prefixes[sha256] = plugin_prefix(self._paths[sha256])
        return self._prefixes[sha256]


def locked_maven_file(path: str, local: Path) -> LockedFile:
    """Return the lock's entry for a file of the cache, whose name is its SHA-256."""
    folder, file = parse_file_path(path)
    return LockedFile("maven", folder, file, local.name, local.stat().st_size)


def plugin_prefix(jar: Path) -> str | None:
    """Return the prefix in the descriptor of a plugin's jar, or None; any file may be given."""
    if jar.stat().st_size > PLUGIN_BYTES_MAX:
        return None
    try:
        archive = ZipArchive(jar.read_bytes(), ArchiveLimits())
        entry = archive.find(DESCRIPTOR)
        if entry is None or entry.size > DESCRIPTOR_BYTES_MAX:
            return None
        return read_goal_prefix(archive.read(entry))
    except ArchiveError:
        return None  # no jar, or none of a single reading: the plugin's name tells its prefix


@contextlib.asynccontextmanager
async def serving_repository(
    inputs: RepositoryInputs, socket_path: Path, *, uid: int | None, watcher: Watcher
) -> AsyncIterator[None]:
    """Serve ``inputs`` on a new unix socket while the context lasts; see ``serving_route``."""

    async def route(path: str) -> Answer:
        return await _answer(inputs, path)

    async with serving_route(route, socket_path, uid=uid, watcher=watcher):
        yield


async def _answer(inputs: RepositoryInputs, target: str) -> Answer:
    path = unquote(target.removeprefix(PREFIX))
    stem, _, kind = path.rpartition(".")
    algorithm = kind if kind in CHECKSUMS else ""
    wanted = stem if algorithm else path
    if not target.startswith(PREFIX) or not _is_path(wanted):
        return _NOTHING
    body = await _body(inputs, wanted)
    if body is None:
        if len(inputs.missed) < MISSED_MAX:
            inputs.missed.append(wanted)
        return _NOTHING
    if algorithm:
        return Answer(200, (await asyncio.to_thread(_digest, body, algorithm)).encode())
    return Answer(200, body, _BYTES if isinstance(body, Path) else _XML)


def _is_path(path: str) -> bool:
    """Tell whether a path may be an input: no signature, checksum of a checksum, or snapshot."""
    folder, _, name = path.rpartition("/")
    if name.rpartition(".")[2] in (*CHECKSUMS, "asc") or folder.endswith("-SNAPSHOT"):
        return False
    try:
        # Metadata of a group may lie in a folder of one step.
        parse_file_path(f"x/{path}" if folder and name == METADATA else path)
    except FormatError:
        return False
    return True


async def _body(inputs: RepositoryInputs, path: str) -> bytes | Path | None:
    folder, _, name = path.rpartition("/")
    if name == METADATA:
        return await inputs.metadata(folder)
    return await inputs.file(path)


def _digest(body: bytes | Path, algorithm: str) -> str:
    if isinstance(body, bytes):
        return hashlib.new(algorithm, body).hexdigest()
    with body.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
