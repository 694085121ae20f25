"""TLS on the client port with real files and a real client: pairs, names, renewal, refusal."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from pyrsia_node.gateway.client_front import make_client_front
from pyrsia_node.gateway.client_tls import LOOK_SECONDS, ClientTls
from pyrsia_node.gateway.http_guard import HttpLimits
from pyrsia_node.gateway.http_server import HttpServer
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.config import parse_config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.transfer.asgi import Receive, Scope, Send, answer_text
from tests.fakes.certificates import write_certificate

CONFIG = parse_config(
    """
[node]
label = "node-9"
role = "regular"
[http]
port = 0
tls_certificate = "tls.pem"
tls_key = "tls.key"
"""
)


class Watch:
    """Time that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


async def _app(scope: Scope, _receive: Receive, send: Send) -> None:
    await answer_text(scope, send, 200, scope["scheme"])


@asynccontextmanager
async def _server(folder: Path, watch: Watch) -> AsyncIterator[int]:
    front = make_client_front(Layout(folder), CONFIG, {b"x": _app}, _app, watch)
    assert front.scheme == "https"
    server = HttpServer(front.app, limits=HttpLimits(), tls=front.tls)
    await server.start("127.0.0.1", 0)
    try:
        yield server.port
    finally:
        await server.stop(grace_seconds=1)


async def _get(port: int, trust: Path, host: str = "localhost") -> httpx.Response:
    context = ssl.create_default_context(cafile=str(trust))
    async with httpx.AsyncClient(verify=context, trust_env=False) as client:
        return await client.get(f"https://localhost:{port}/x", headers={"Host": host})


def test_client_that_trusts_the_certificate_is_served_over_tls(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path)

    async def story() -> None:
        async with _server(tmp_path, Watch()) as port:
            answer = await _get(port, certificate)
            assert (answer.status_code, answer.text) == (200, "https\n")

    asyncio.run(story())


def test_node_answers_to_the_names_on_its_certificate_and_to_no_wildcard(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path, "registry.example")

    async def story() -> None:
        async with _server(tmp_path, Watch()) as port:
            assert (await _get(port, certificate, "registry.example")).status_code == 200
            assert (await _get(port, certificate, "other.example")).status_code == 403
            assert (await _get(port, certificate, "a.wild.example")).status_code == 403

    asyncio.run(story())


def test_tls_1_2_is_spoken_and_nothing_older(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    assert ClientTls(certificate, key, Watch()).context.minimum_version == ssl.TLSVersion.TLSv1_2

    async def story() -> None:
        async with _server(tmp_path, Watch()) as port:
            context = ssl.create_default_context(cafile=str(certificate))
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            _, writer = await asyncio.open_connection("localhost", port, ssl=context)
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
            writer.close()
            await writer.wait_closed()

    asyncio.run(story())


def test_renewed_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    old = tmp_path / "old.pem"
    certificate, _ = write_certificate(tmp_path)
    old.write_bytes(certificate.read_bytes())

    async def story() -> None:
        watch = Watch()
        async with _server(tmp_path, watch) as port:
            write_certificate(tmp_path)
            # Within the pause between two looks the old one is still in force.
            assert (await _get(port, old)).status_code == 200
            watch.now = LOOK_SECONDS
            assert (await _get(port, certificate)).status_code == 200
            with pytest.raises(httpx.ConnectError):
                await _get(port, old)

    asyncio.run(story())


def test_half_written_renewal_leaves_the_old_certificate_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = write_certificate(tmp_path)
    old, whole_key = tmp_path / "old.pem", tmp_path / "whole.key"
    old.write_bytes(certificate.read_bytes())

    async def story() -> None:
        watch = Watch()
        async with _server(tmp_path, watch) as port:
            write_certificate(tmp_path)
            key.rename(whole_key)
            watch.now = LOOK_SECONDS
            with caplog.at_level(logging.WARNING):
                assert (await _get(port, old)).status_code == 200
            assert str(key) in caplog.text
            whole_key.rename(key)
            watch.now = 2 * LOOK_SECONDS
            assert (await _get(port, certificate)).status_code == 200

    asyncio.run(story())


def test_files_that_do_not_belong_together_are_named_at_the_start(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    _, strange_key = write_certificate(other)
    with pytest.raises(InvalidInputError, match=r"other/tls\.key is not the key of .*tls\.pem"):
        ClientTls(certificate, strange_key, Watch())
    with pytest.raises(InvalidInputError, match=r"tls_certificate: .*tls\.key holds no certif"):
        ClientTls(key, key, Watch())
    with pytest.raises(InvalidInputError, match=r"tls_key: .*tls\.pem holds no private key"):
        ClientTls(certificate, certificate, Watch())
    with pytest.raises(InvalidInputError, match=r"absent\.pem cannot be read: No such file"):
        ClientTls(tmp_path / "absent.pem", key, Watch())


def test_sealed_key_is_refused_and_asks_nobody(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, passphrase=b"secret")
    with pytest.raises(InvalidInputError, match=r"tls\.key is sealed by a passphrase"):
        ClientTls(certificate, key, Watch())


def test_endless_file_is_not_read(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path)
    with pytest.raises(InvalidInputError, match="/dev/zero is longer than"):
        ClientTls(certificate, Path("/dev/zero"), Watch())
