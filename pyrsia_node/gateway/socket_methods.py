"""The methods of ``run/gateway.sock``: what the core may ask of the gateway. docs/spec/links.md."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.values import Artifact
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.ports import BlobInfo, BlobStore
from pyrsia_node.schema.links import (
    AdoptParams,
    DataListener,
    DigestParams,
    FetchParams,
    Handler,
    NoParams,
    Stat,
    Stored,
    typed,
)

TIMEOUTS_S: Final[Mapping[str, float]] = {"adopt": 600.0, "fetch": 3600.0}
"""Large files take their time; the other methods have the usual deadline."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this gateway listens, as others may call it."""

    http_url: str
    data: DataListener


class SocketMethods:
    """Handlers for a ``LinkServer``."""

    def __init__(self, store: BlobStore, fetcher: Fetcher, addresses: Addresses) -> None:
        """Answer from the gateway's own parts."""
        self._store = store
        self._fetcher = fetcher
        self._addresses = addresses

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        return {
            "adopt": typed(AdoptParams, self._adopt),
            "stat": typed(DigestParams, self._stat),
            "data_listener": typed(NoParams, self._data_listener),
            "fetch": typed(FetchParams, self._fetch),
            "ping": typed(NoParams, self._ping),
        }

    async def _adopt(self, params: AdoptParams) -> Stored:
        info = await asyncio.to_thread(self._store.adopt, params.path, params.sha256)
        if info.size != params.size:
            raise InvalidInputError(
                f"{params.path} has {info.size} bytes, not {params.size}; its digest is right"
            )
        return _stored(info)

    async def _stat(self, params: DigestParams) -> Stat:
        # The core answers peers by this (protocol ``pieces``): to them, what was pushed here or
        # came by credentials is not here, as on the data listener.
        if not self._store.is_shared(params.sha256):
            return Stat(present=False)
        info = await asyncio.to_thread(self._store.stat, params.sha256)
        if info is None:
            return Stat(present=False)
        path = self._store.path(params.sha256)
        return Stat(present=True, size=info.size, pieces=info.pieces, path=path)

    async def _data_listener(self, _params: NoParams) -> DataListener:
        return self._addresses.data

    async def _fetch(self, params: FetchParams) -> Stored:
        artifact = Artifact(params.sha256, params.size, params.pieces)
        return _stored(await self._fetcher.ensure(artifact, pin=params.pin))

    async def _ping(self, _params: NoParams) -> Mapping[str, object]:
        return {"http_url": self._addresses.http_url, "data_url": self._addresses.data.url}


def _stored(info: BlobInfo) -> Stored:
    assert info.pieces is not None
    return Stored(sha256=info.sha256, size=info.size, pieces=info.pieces)
