"""A Python index on loopback whose every answer the test may change."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from pyrsia_node.gateway.http_guard import HttpLimits
from pyrsia_node.gateway.http_server import HttpServer
from pyrsia_node.transfer.asgi import Receive, Scope, Send, answer, header

JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class FakeIndex:
    """An index whose every answer the test may change; keeps what it was asked."""

    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    etag: str | None = None
    status: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.asked.append((path, header(scope, b"authorization")))
        if self.status:
            await answer(scope, send, self.status, b"", media="text/plain")
        elif path in self.redirects:
            where = [("location", self.redirects[path])]
            await answer(scope, send, 302, b"", media="text/plain", headers=where)
        elif path in self.pages:
            media, body = self.pages[path]
            if self.etag is not None and header(scope, b"if-none-match") == self.etag:
                await answer(scope, send, 304, b"", media=media)
                return
            fields = [("etag", self.etag)] if self.etag is not None else []
            await answer(scope, send, 200, body, media=media, headers=fields)
        elif path in self.files:
            await answer(scope, send, 200, self.files[path], media="application/octet-stream")
        else:
            await answer(scope, send, 404, b"", media="text/plain")


def json_page(*files: dict[str, object], name: str = "six") -> tuple[str, bytes]:
    page = {"meta": {"api-version": "1.1"}, "name": name, "files": list(files)}
    return JSON, json.dumps(page).encode()


@asynccontextmanager
async def serve_index(index: FakeIndex) -> AsyncIterator[str]:
    """Run the index; yields its address without a path."""
    server = HttpServer(index, limits=HttpLimits())
    await server.start("127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop(grace_seconds=0)
