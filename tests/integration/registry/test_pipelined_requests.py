"""Several requests in one packet: each gets its own answer, in order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

from tests.fakes.registry_client import Client, at_registry, digest

LARGE = bytes(range(256)) * 4000


def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    async def act(it: Client) -> None:
        data = await it.push_image("a", "1")
        name = await it.push("a", LARGE)
        paths = ["manifests/1", f"blobs/{name}", "manifests/none", f"manifests/{digest(data)}"]
        host = urlsplit(it.site.url)
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        head = "GET /v2/a/{} HTTP/1.1\r\nhost: localhost\r\n{}\r\n"
        last = "connection: close\r\n"
        requests = [head.format(path, "") for path in paths[:-1]] + [head.format(paths[-1], last)]
        writer.write("".join(requests).encode())
        answers = await asyncio.wait_for(reader.read(), 20)
        writer.close()
        await writer.wait_closed()
        assert answers.count(b"HTTP/1.1 200 OK") == 3
        assert answers.count(b"HTTP/1.1 404 ") == 1
        first, second = answers.index(data), answers.index(LARGE)
        third, fourth = answers.index(b"MANIFEST_UNKNOWN"), answers.rindex(data)
        assert first < second < third < fourth
        assert answers.endswith(data)

    at_registry(tmp_path, act)
