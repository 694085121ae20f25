"""The index that a build sees: pages that we synthesise, recording or replaying.

Both runs see pages of our own. A recording run is shown everything that the upstream has up to the
cut-off, and what it downloads becomes the lock; a replay run is shown the locked files and nothing
else. Connections, and what happens to requests for other hosts, are the business of ``door``.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote

from packaging.utils import canonicalize_name

from buildpipelines.inputs.door import Answer, Watcher, serving_route
from buildpipelines.inputs.pages import IndexFile, render_page
from buildpipelines.inputs.upstream import Upstream
from buildpipelines.spec.lock import UNKNOWN, Lock, LockedFile, make_lock

_FILE: Final = re.compile(r"/files/([0-9a-f]{64})/([^/]+)\Z")
_PAGE: Final = re.compile(r"/simple/([A-Za-z0-9._-]{1,128})/?\Z")
_HTML: Final = "text/html; charset=utf-8"
_BYTES: Final = "application/octet-stream"


class Inputs(Protocol):
    """What a proxy serves."""

    async def page(self, project: str) -> tuple[IndexFile, ...]:
        """Return the files that the build may see of a project; none if it does not exist."""
        ...

    async def file(self, sha256: str) -> Path | None:
        """Return a file that some page listed, or None."""
        ...


class RecordingInputs:
    """Everything of the upstream up to a cut-off; remembers what was taken."""

    def __init__(self, upstream: Upstream, *, cutoff: str) -> None:
        """Record a run; ``cutoff`` is a time "…Z" or "none". Unknown upload times are shown."""
        self._upstream = upstream
        self._cutoff = cutoff
        self._shown: dict[str, tuple[str, IndexFile]] = {}
        self._taken: dict[str, LockedFile] = {}

    async def page(self, project: str) -> tuple[IndexFile, ...]:
        """Return the project's files uploaded up to the cut-off, as far as that is known."""
        files = await self._upstream.project(project)
        if self._cutoff != "none":
            files = tuple(f for f in files if f.uploaded == UNKNOWN or f.uploaded <= self._cutoff)
        self._shown |= {f.sha256: (project, f) for f in files}
        return files

    async def file(self, sha256: str) -> Path | None:
        """Fetch a file of a shown page and put it on the record."""
        project, file = self._shown.get(sha256, ("", None))
        if file is None:
            return None
        path = await self._upstream.fetch(file)
        self._taken[sha256] = locked_file(project, file, path)
        return path

    def taken(self) -> tuple[LockedFile, ...]:
        """Return what the build has read so far."""
        return tuple(self._taken.values())


class ReplayInputs:
    """Exactly the files of a lock."""

    def __init__(self, lock: Lock, paths: dict[str, Path]) -> None:
        """Replay ``lock``; ``paths`` has a checked file for every digest in it."""
        self._lock = lock
        self._paths = paths

    async def page(self, project: str) -> tuple[IndexFile, ...]:
        """Return the project's locked files."""
        return tuple(
            IndexFile(file=f.file, url="", sha256=f.sha256, size=f.size)
            for f in self._lock.files
            if f.project == project
        )

    async def file(self, sha256: str) -> Path | None:
        """Return a locked file."""
        return self._paths.get(sha256)


def locked_file(project: str, file: IndexFile, path: Path) -> LockedFile:
    """Return the lock's entry for a fetched file."""
    return LockedFile(
        ecosystem="pypi",
        project=canonicalize_name(project),
        file=file.file,
        sha256=file.sha256,
        size=path.stat().st_size,
        uploaded=file.uploaded,
    )


def record_lock(inputs: RecordingInputs, more: tuple[LockedFile, ...]) -> Lock:
    """Return the lock of a recorded run and of what the host read itself (the source)."""
    return make_lock((*inputs.taken(), *more))


@contextlib.asynccontextmanager
async def serving(
    inputs: Inputs,
    socket_path: Path,
    *,
    uid: int | None,
    watcher: Watcher,
    mode: int = 0o600,
) -> AsyncIterator[None]:
    """Serve ``inputs`` on a new unix socket while the context lasts; see ``serving_route``."""

    async def route(path: str) -> Answer:
        return await _answer(inputs, path)

    async with serving_route(route, socket_path, uid=uid, watcher=watcher, mode=mode):
        yield


async def _answer(inputs: Inputs, path: str) -> Answer:
    if match := _PAGE.match(path):
        project = canonicalize_name(match[1])
        files = await inputs.page(project)
        page = await asyncio.to_thread(render_page, project, files)
        return Answer(200 if files else 404, page, _HTML)
    if match := _FILE.match(unquote(path)):
        file = await inputs.file(match[1])
        return Answer(404, b"no such file\n") if file is None else Answer(200, file, _BYTES)
    return Answer(404, b"not found\n")
