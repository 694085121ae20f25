"""The only network a build has: a simple index on a unix socket, recording or replaying.

Both runs see pages that we synthesise. A recording run is shown everything that the upstream has
up to the cut-off, and what it downloads becomes the lock; a replay run is shown the locked files
and nothing else. Requests for any other host are refused and remembered, so that the failure can
name what the build wanted. The server speaks just enough HTTP/1.1 for index clients: GET and
HEAD without bodies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from packaging.utils import canonicalize_name

from buildpipelines.errors import BuildFailure
from buildpipelines.inputs.pages import IndexFile, render_page
from buildpipelines.inputs.upstream import Upstream
from buildpipelines.spec.lock import UNKNOWN, Lock, LockedFile, make_lock

HEADER_BYTES_MAX: Final = 16 * 1024
REQUEST_SECONDS: Final = 120.0
REFUSED_MAX: Final = 32
CONNECTIONS_MAX: Final = 64
CHUNK_BYTES: Final = 256 * 1024

# From 3.13 on asyncio would look for the socket under the name that it was bound to, which is gone.
_KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}

_REQUEST = re.compile(rb"([A-Z]{3,10}) ([!-~]{1,4096}) HTTP/1\.[01]\Z")
_FILE = re.compile(r"/files/([0-9a-f]{64})/([^/]+)\Z")
_PAGE = re.compile(r"/simple/([A-Za-z0-9._-]{1,128})/?\Z")


class Inputs(Protocol):
    """What a proxy serves."""

    async def page(self, project: str) -> tuple[IndexFile, ...]:
        """Return the files that the build may see of a project; none if it does not exist."""
        ...

    async def file(self, sha256: str) -> Path | None:
        """Return a file that some page listed, or None."""
        ...


class Watcher(Protocol):
    """Who follows what a build asks for."""

    refused_hosts: list[str]
    """Where the names of other hosts that were asked for are put, bounded."""

    input_failure: BuildFailure | None
    """Where a failure of the upstream is put."""

    def sign(self) -> None:
        """Called at every request, as a sign of life."""
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
    """Serve ``inputs`` on a new unix socket while the context lasts.

    Args:
        inputs: What to serve.
        socket_path: Where; its folder must let the sandbox's user through.
        uid: Who may connect besides us; None for nobody.
        watcher: Who is told of requests, refusals and failures.
        mode: Who may connect, where that cannot be said by ``uid``.
    """
    proxy = _Proxy(inputs, watcher)
    server = await asyncio.start_unix_server(
        proxy.serve, sock=_bind(socket_path, uid, mode), limit=HEADER_BYTES_MAX, **_KEEP_FILE
    )
    try:
        yield
    finally:
        server.close()
        await proxy.close()


def _bind(path: Path, uid: int | None, mode: int) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    # The kernel's limit of 107 bytes is on the text, not on the path: go through an open folder.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
    path.chmod(mode)
    if uid is not None:
        os.chown(path, uid, -1)
    return listener


class _Proxy:
    """Answers the connections of one build."""

    def __init__(self, inputs: Inputs, watcher: Watcher) -> None:
        self._inputs = inputs
        self._watcher = watcher
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._tasks) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._tasks.add(task)
        try:
            while await self._answer_one(reader, writer):
                self._watcher.sign()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
            pass  # a client that breaks off, dawdles or floods: its connection ends
        finally:
            self._tasks.discard(task)
            writer.close()

    async def close(self) -> None:
        """End every connection that is still open."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(REQUEST_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        first, _, rest = head.partition(b"\r\n")
        match = _REQUEST.match(first)
        if match is None or b"\r\ncontent-length:" in b"\r\n" + rest.lower():
            await _send(writer, 400, b"bad request\n")
            return False
        method, target = match[1], match[2].decode()
        if method not in (b"GET", b"HEAD") or not target.startswith("/"):
            self._refuse(target)
            await _send(writer, 403, b"builds have no network; this was noted\n")
            return False
        self._watcher.sign()
        try:
            await self._route(writer, urlsplit(target).path, has_body=method == b"GET")
        except BuildFailure as failure:
            self._watcher.input_failure = failure
            await _send(writer, 502, f"{failure}\n".encode())
            return False
        return True

    async def _route(self, writer: asyncio.StreamWriter, path: str, *, has_body: bool) -> None:
        if match := _PAGE.match(path):
            project = canonicalize_name(match[1])
            files = await self._inputs.page(project)
            page = await asyncio.to_thread(render_page, project, files)
            await _send(writer, 200 if files else 404, page, has_body=has_body)
        elif match := _FILE.match(unquote(path)):
            file = await self._inputs.file(match[1])
            if file is None:
                await _send(writer, 404, b"no such file\n")
            else:
                await _send_file(writer, file, has_body=has_body)
        else:
            await _send(writer, 404, b"not found\n")

    def _refuse(self, target: str) -> None:
        host = urlsplit(target).hostname if "://" in target else target.rpartition(":")[0]
        if len(self._watcher.refused_hosts) < REFUSED_MAX:
            self._watcher.refused_hosts.append(host or target[:100])


def _head(status: int, length: int, kind: str) -> bytes:
    lines = (
        f"HTTP/1.1 {status} {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    )
    return lines.encode()


async def _send(
    writer: asyncio.StreamWriter, status: int, body: bytes, *, has_body: bool = True
) -> None:
    writer.write(_head(status, len(body), "text/html; charset=utf-8") + (body if has_body else b""))
    await writer.drain()


async def _send_file(writer: asyncio.StreamWriter, path: Path, *, has_body: bool) -> None:
    with path.open("rb") as file:
        writer.write(_head(200, os.fstat(file.fileno()).st_size, "application/octet-stream"))
        while has_body and (data := await asyncio.to_thread(file.read, CHUNK_BYTES)):
            writer.write(data)
            await writer.drain()
