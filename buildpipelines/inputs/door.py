"""The only network a build has: a small HTTP/1.1 server on a unix socket.

What it serves is a function that the two proxies give (``proxy`` for an index, ``maven_proxy`` for
a repository). Requests for any other host are refused and remembered, so that the failure can name
what the build wanted. It speaks just enough for clients of packages: GET and HEAD without bodies,
one request after another on a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from buildpipelines.errors import BuildFailure

HEADER_BYTES_MAX: Final = 16 * 1024
REQUEST_SECONDS: Final = 120.0
REFUSED_MAX: Final = 32
CONNECTIONS_MAX: Final = 64
CHUNK_BYTES: Final = 256 * 1024

# From 3.13 on asyncio would look for the socket under the name that it was bound to, which is gone.
_KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}

_REQUEST = re.compile(rb"([A-Z]{3,10}) ([!-~]{1,4096}) HTTP/1\.[01]\Z")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client gets: bytes, or the bytes of a file."""

    status: int
    body: bytes | Path
    kind: str = "text/plain; charset=utf-8"


Route = Callable[[str], Awaitable[Answer]]
"""Answers a GET of a path, still encoded, without its query; may raise BuildFailure."""


class Watcher(Protocol):
    """Who follows what a build asks for."""

    refused_hosts: list[str]
    """Where the names of other hosts that were asked for are put, bounded."""

    input_failure: BuildFailure | None
    """Where a failure of the upstream is put."""

    def sign(self) -> None:
        """Called at every request, as a sign of life."""
        ...


@contextlib.asynccontextmanager
async def serving_route(
    route: Route,
    socket_path: Path,
    *,
    uid: int | None,
    watcher: Watcher,
    mode: int = 0o600,
) -> AsyncIterator[None]:
    """Serve ``route`` on a new unix socket while the context lasts.

    Args:
        route: What to serve.
        socket_path: Where; its folder must let the sandbox's user through.
        uid: Who may connect besides us; None for nobody.
        watcher: Who is told of requests, refusals and failures.
        mode: Who may connect, where that cannot be said by ``uid``.
    """
    door = _Door(route, watcher)
    server = await asyncio.start_unix_server(
        door.serve, sock=_bind(socket_path, uid, mode), limit=HEADER_BYTES_MAX, **_KEEP_FILE
    )
    try:
        yield
    finally:
        server.close()
        await door.close()


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


class _Door:
    """Answers the connections of one build."""

    def __init__(self, route: Route, watcher: Watcher) -> None:
        self._route = route
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
            await _send(writer, Answer(400, b"bad request\n"))
            return False
        method, target = match[1], match[2].decode()
        try:
            asked = urlsplit(target)
        except ValueError:
            await _send(writer, Answer(400, b"bad request\n"))
            return False
        if method not in (b"GET", b"HEAD") or not target.startswith("/"):
            self._refuse(target)
            await _send(writer, Answer(403, b"builds have no network; this was noted\n"))
            return False
        self._watcher.sign()
        try:
            answer = await self._route(asked.path)
        except BuildFailure as failure:
            self._watcher.input_failure = failure
            await _send(writer, Answer(502, f"{failure}\n".encode()))
            return False
        await _send(writer, answer, has_body=method == b"GET")
        return True

    def _refuse(self, target: str) -> None:
        host = urlsplit(target).hostname if "://" in target else target.rpartition(":")[0]
        if len(self._watcher.refused_hosts) < REFUSED_MAX:
            self._watcher.refused_hosts.append(host or target[:100])


async def _send(writer: asyncio.StreamWriter, answer: Answer, *, has_body: bool = True) -> None:
    body = answer.body
    if isinstance(body, Path):
        await _send_file(writer, answer, body, has_body=has_body)
        return
    writer.write(_head(answer, len(body)) + (body if has_body else b""))
    await writer.drain()


async def _send_file(
    writer: asyncio.StreamWriter, answer: Answer, path: Path, *, has_body: bool
) -> None:
    with path.open("rb") as file:
        writer.write(_head(answer, os.fstat(file.fileno()).st_size))
        while has_body and (data := await asyncio.to_thread(file.read, CHUNK_BYTES)):
            writer.write(data)
            await writer.drain()


def _head(answer: Answer, length: int) -> bytes:
    lines = (
        f"HTTP/1.1 {answer.status} {answer.status}\r\nContent-Type: {answer.kind}\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    return lines.encode()
