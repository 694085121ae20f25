"""A TCP or unix server whose every byte the test decides, and that leaves no socket open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(serve: Serve, unix: Path | None = None) -> AsyncIterator[int]:
    """Run ``serve`` for each connection; yields the port (0 for a unix socket)."""
    tasks: set[asyncio.Task[None]] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            with contextlib.suppress(OSError, EOFError):
                await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    if unix is not None:
        server: asyncio.Server = await asyncio.start_unix_server(connection, unix)
    else:
        server = await asyncio.start_server(connection, "127.0.0.1", 0)
    try:
        yield 0 if unix is not None else server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=1)
            assert not late
        await server.wait_closed()
