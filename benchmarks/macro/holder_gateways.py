"""Gateways that hold files, for benchmarks that fetch from several peers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from pyrsia_node.gateway.link import LinkClient
from pyrsia_node.ports import Holder, PeerId
from pyrsia_node.schema.layout import Layout
from tests.fakes.gateway_process import as_peer, make_data_directory, run_gateway
from tests.fakes.published_log import PublishedLog

HOLDERS = 4


@asynccontextmanager
async def holders(folder: Path, fill: Callable[[Layout], None]) -> AsyncIterator[list[Holder]]:
    """Run four gateways; ``fill`` puts into the store of each what it has."""
    async with AsyncExitStack() as stack:
        found = []
        for number in range(HOLDERS):
            home = folder / f"holder-{number}"
            home.mkdir()
            layout = make_data_directory(home)
            PublishedLog(home).close()
            fill(layout)
            await stack.enter_async_context(run_gateway(layout))
            client = LinkClient(layout.gateway_socket)
            listener = await client.call("data_listener", {})
            client.close()
            url, fingerprint = str(listener["url"]), str(listener["fingerprint"])
            found.append(as_peer(Holder(PeerId("x" * 52), url, fingerprint, complete=True), number))
        yield found
