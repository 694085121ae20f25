"""An image proxy over a real store and database, with one upstream that the test chooses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pyrsia_node.artifacts.images.intakes import Intakes
from pyrsia_node.artifacts.images.proxy import ImageProxy, ProxyParts
from pyrsia_node.artifacts.images.upstreams import Upstreams
from pyrsia_node.artifacts.reading import Reader
from pyrsia_node.model.oci import ImageName, OciDigest
from pyrsia_node.schema.upstreams import RegistryUpstream
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.registry_db import SqliteRegistryDb

NAME = ImageName("example.test", "team/app")


@dataclass
class SetClock:
    """A clock that the test sets."""

    ms: int = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


@dataclass
class ProxySite:
    """A proxy and what it stands on."""

    proxy: ImageProxy
    store: FileBlobStore
    db: SqliteRegistryDb
    clock: SetClock

    async def read(self, digest: str, name: ImageName = NAME) -> bytes:
        """Return a blob as a client gets it."""
        reader, _ = await self.proxy.open(name, OciDigest.parse(digest))
        try:
            return await read_all(reader)
        finally:
            reader.close()


@asynccontextmanager
async def proxy_site(
    folder: Path,
    url: str,
    *,
    auth_file: Path | None = None,
    clock: SetClock | None = None,
    fresh_seconds: int = 60,
    is_offline: bool = False,
    allow_private: bool = True,
    upstreams: tuple[RegistryUpstream, ...] = (),
    left_bytes_max: int = 1 << 30,
) -> AsyncIterator[ProxySite]:
    """Run a proxy; what ``folder`` holds of an earlier one is taken up."""
    folder.mkdir(parents=True, exist_ok=True)
    store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 30)
    db = SqliteRegistryDb(folder / "registry.sqlite", create=True)
    entries = upstreams or (RegistryUpstream(NAME.host, url, allow_private=allow_private),)
    asked = Upstreams(entries, auth_file)
    intakes = Intakes(store, folder / "partial", left_bytes_max=left_bytes_max)
    clock = clock or SetClock()
    parts = ProxyParts(asked, intakes, store, folder / "partial", db, clock)
    proxy = ImageProxy(parts, fresh_seconds=fresh_seconds, is_offline=is_offline)
    try:
        yield ProxySite(proxy, store, db, clock)
    finally:
        await proxy.close()
        await intakes.close()
        await asked.close()
        db.close()


async def read_all(reader: Reader) -> bytes:
    """Return everything that a reader gives, from the beginning."""
    data = bytearray()
    while len(data) < reader.size:
        data += await reader.read(len(data), 64 * 1024)
    return bytes(data)
