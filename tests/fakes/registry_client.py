"""Speaks the distribution interface by hand, so that a test says each request and reads each
answer; real clients are in tests/e2e."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from pyrsia_node.gateway.http_guard import HttpLimits
from pyrsia_node.model.manifests import EMPTY_CONFIG, OCI_INDEX, OCI_MANIFEST
from pyrsia_node.schema.config import Config
from tests.fakes.registry_site import NetworkStandIn, RegistrySite, registry_site

LAYER = "application/vnd.oci.image.layer.v1.tar"
EMPTY = b"{}"


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def descriptor(data: bytes, /, media: str = LAYER, **more: object) -> dict[str, object]:
    return {"mediaType": media, "digest": digest(data), "size": len(data), **more}


def manifest(layers: Sequence[bytes] = (), **more: object) -> bytes:
    """Return an image manifest with the empty config."""
    value: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(EMPTY, EMPTY_CONFIG),
        "layers": [descriptor(layer) for layer in layers],
        **more,
    }
    return json.dumps(value).encode()


def index(children: Sequence[bytes], **more: object) -> bytes:
    """Return an index of manifests."""
    value = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [descriptor(child, OCI_MANIFEST) for child in children],
        **more,
    }
    return json.dumps(value).encode()


def codes(answer: httpx.Response) -> list[str]:
    """Return the codes of an error body, which must have the specification's form."""
    assert answer.headers["content-type"] == "application/json"
    errors = answer.json()["errors"]
    for error in errors:
        assert error.keys() <= {"code", "message", "detail"}
        assert error["message"]
    return [error["code"] for error in errors]


@dataclass
class Client:
    """A registry and what is asked of it."""

    http: httpx.AsyncClient
    site: RegistrySite

    async def begin(self, repository: str) -> str:
        """Begin an upload; return where it goes on."""
        answer = await self.http.post(f"/v2/{repository}/blobs/uploads/")
        assert answer.status_code == 202, answer.text
        return answer.headers["location"]

    async def push(self, repository: str, data: bytes, algorithm: str = "sha256") -> str:
        """Push a blob in one request; return its digest."""
        name = digest(data, algorithm)
        answer = await self.http.post(
            f"/v2/{repository}/blobs/uploads/", params={"digest": name}, content=data
        )
        assert answer.status_code == 201, answer.text
        return name

    async def put(
        self, repository: str, reference: str, data: bytes, media: str = "", **params: str
    ) -> httpx.Response:
        """Put a manifest."""
        media = media or json.loads(data)["mediaType"]
        return await self.http.put(
            f"/v2/{repository}/manifests/{reference}",
            content=data,
            headers={"content-type": media},
            params=params,
        )

    async def push_image(self, repository: str, tag: str, layer: bytes = b"layer") -> bytes:
        """Push a small image with everything that it needs; return its manifest."""
        await self.push(repository, EMPTY)
        await self.push(repository, layer)
        data = manifest([layer])
        answer = await self.put(repository, tag, data)
        assert answer.status_code == 201, answer.text
        return data

    async def get(self, repository: str, reference: str, **headers: str) -> httpx.Response:
        """Get a manifest."""
        return await self.http.get(f"/v2/{repository}/manifests/{reference}", headers=headers)

    async def blob(self, repository: str, name: str, **headers: str) -> httpx.Response:
        """Get a blob."""
        return await self.http.get(f"/v2/{repository}/blobs/{name}", headers=headers)

    def stored_files(self) -> int:
        """Return how many blobs and uploads lie on the disk."""
        return sum(1 for path in (self.site.root / "blobs").rglob("*") if path.is_file())


@asynccontextmanager
async def registry_client(
    root: Path,
    *,
    change: Callable[[Config], Config] = lambda config: config,
    network: NetworkStandIn | None = None,
    limits: HttpLimits | None = None,
) -> AsyncIterator[Client]:
    """Serve a registry over a folder and connect to it."""
    async with (
        registry_site(root, change=change, network=network, limits=limits) as site,
        httpx.AsyncClient(base_url=site.url, headers={"accept": "*/*"}) as http,
    ):
        yield Client(http, site)


def at_registry(
    root: Path,
    act: Callable[[Client], Awaitable[None]],
    *,
    change: Callable[[Config], Config] = lambda config: config,
    network: NetworkStandIn | None = None,
    limits: HttpLimits | None = None,
) -> None:
    """Run ``act`` against a registry over a folder."""

    async def run() -> None:
        async with registry_client(root, change=change, network=network, limits=limits) as client:
            await act(client)

    asyncio.run(run())
