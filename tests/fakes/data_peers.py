"""Data listeners on loopback that tests start, break and count; real TLS, real sockets."""

from __future__ import annotations

import datetime as dt
import hashlib
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from pyrsia_node.artifacts.values import Artifact
from pyrsia_node.gateway.http_guard import HttpLimits
from pyrsia_node.gateway.http_server import HttpServer
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.ports import Holder, PeerId
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.transfer.asgi import WHOLE, App, Message, Receive, Scope, Send
from pyrsia_node.transfer.listener import BlobListener, UploadPolicy


def make_tls(folder: Path) -> tuple[ssl.SSLContext, str]:
    """Return a server context with a fresh self-signed certificate, and its fingerprint."""
    key = Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    start = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36500))
        .sign(key, None)
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return context, hashlib.sha256(der).hexdigest()


@dataclass
class Behaviour:
    """How a peer misbehaves, and what it was asked."""

    corrupt: bool = False
    """Flip a bit in every body."""
    refuse: int = 0
    """Answer every request with this status."""
    cut_after: int = 0
    """Close in the middle of each body, after so many bytes."""
    hang: bool = False
    """Never answer."""
    requests: int = 0
    """Requests that came."""
    bodies: int = 0
    """Blob bodies that were sent."""
    bytes: int = 0


class _Misbehaving:
    """Stands between the server and the listener."""

    def __init__(self, app: App, behaviour: Behaviour) -> None:
        self._app = app
        self._behaviour = behaviour

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        behaviour = self._behaviour
        behaviour.requests += 1
        sent = 0

        async def altered(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.start":
                behaviour.bodies += message["status"] in {200, 206} and scope["method"] == "GET"
            elif message["body"]:
                body = bytearray(message["body"])
                if behaviour.corrupt:
                    body[len(body) // 2] ^= 1
                sent += len(body)
                behaviour.bytes += len(body)
                if behaviour.cut_after and sent > behaviour.cut_after:
                    raise ConnectionAbortedError("cut on purpose")
                message["body"] = bytes(body)
            await send(message)

        if behaviour.hang:
            while (await receive())["type"] != "http.disconnect":
                pass
        elif behaviour.refuse:
            head = [(b"content-length", b"0")]
            status = behaviour.refuse
            await send({"type": "http.response.start", "status": status, "headers": head})
            await send({"type": "http.response.body", "body": b""})
        else:
            # Every answer has to pass here.
            scope["extensions"].pop(WHOLE)
            await self._app(scope, receive, altered)


@dataclass(frozen=True)
class DataPeer:
    """A running peer: what the router would say about it, its store, its faults."""

    holder: Holder
    store: FileBlobStore
    behaviour: Behaviour
    server: HttpServer

    def put(self, folder: Path, data: bytes) -> Artifact:
        """Give the peer an artifact."""
        source = folder / f"source-{self.holder.peer}"
        source.write_bytes(data)
        info = self.store.adopt(str(source), hashlib.sha256(data).hexdigest())
        assert info.pieces is not None
        return Artifact(info.sha256, info.size, info.pieces)


@asynccontextmanager
async def data_peer(
    folder: Path, name: str, *, tls: bool = True, policy: UploadPolicy | None = None
) -> AsyncIterator[DataPeer]:
    """Run a data listener with a store of its own."""
    home = folder / name
    home.mkdir()
    store = FileBlobStore(home / "blobs", cached_bytes_max=1 << 40)
    behaviour = Behaviour()
    context, fingerprint = make_tls(home) if tls else (None, None)
    listener = BlobListener(store, lambda _: None, policy or UploadPolicy())
    server = HttpServer(_Misbehaving(listener, behaviour), limits=HttpLimits(), tls=context)
    await server.start("127.0.0.1", 0)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"
    holder = Holder(PeerId(name), url, fingerprint, complete=True)
    try:
        yield DataPeer(holder, store, behaviour, server)
    finally:
        await server.stop(grace_seconds=0)


class MemoryRouter:
    """Answers who-has-what from a list; keeps the announcements."""

    def __init__(self, holders: list[Holder]) -> None:
        self.known = holders
        self.announced: list[tuple[str, bool]] = []
        self.is_down = False
        self.asked = 0

    async def holders(self, sha256: str) -> list[Holder]:
        self.asked += 1
        if self.is_down:
            raise UnavailableError("the core is restarting")
        return list(self.known)

    async def announce(self, sha256: str, *, complete: bool) -> None:
        if self.is_down:
            raise UnavailableError("the core is restarting")
        self.announced.append((sha256, complete))
