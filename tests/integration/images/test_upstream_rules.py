"""What upstream registries may make this node do: whom it asks, and who gets its credentials."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from pyrsia_node.artifacts.images import registry_client
from pyrsia_node.artifacts.images.tokens import DeniedError
from pyrsia_node.artifacts.safe_http import is_public
from pyrsia_node.model.errors import NotFoundError, PyrsiaError, UnavailableError
from pyrsia_node.model.oci import ImageName
from pyrsia_node.schema.upstreams import RegistryUpstream
from tests.fakes.images import Recipe, busybox_image
from tests.fakes.proxy_site import NAME, proxy_site
from tests.fakes.raw_server import raw_server
from tests.fakes.registries import (
    PASSWORD,
    USER,
    push,
    registry_with_password,
    registry_with_tokens,
    token_server,
)

IMAGE = busybox_image(Recipe(says="rules"))
LAYER = max(IMAGE.blobs, key=lambda digest: len(IMAGE.blobs[digest]))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "PAUSE_SECONDS", 0.001)


@dataclass
class Scripted:
    """A server that answers by path, and keeps what it was asked with which credentials."""

    answers: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        found = re.search(r"(?im)^authorization: (.*?)\r$", head)
        self.asked.append((f"{method} {target}", found[1] if found else ""))
        fitting = [text for part, text in self.answers.items() if part in target]
        writer.write(fitting[0] if fitting else answer(404))
        await writer.drain()


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[Scripted, str]]:
    server = Scripted()
    async with raw_server(server.serve) as port:
        yield server, f"http://127.0.0.1:{port}"


def auth_file(folder: Path, **logins: tuple[str, str]) -> Path:
    entries = {
        key.replace("__", "/"): {"auth": base64.b64encode(f"{u}:{p}".encode()).decode()}
        for key, (u, p) in logins.items()
    }
    path = folder / "auth.json"
    path.write_text(json.dumps({"auths": entries}))
    path.chmod(0o600)
    return path


def run(act: Callable[[], Coroutine[None, None, None]]) -> None:
    asyncio.run(act())


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",  # noqa: S104 - nobody listens there; it is asked for
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fd00::1]",
    ],
)
def test_upstream_at_a_private_address_is_asked_only_if_that_is_allowed(
    tmp_path: Path, host: str
) -> None:
    async def act() -> None:
        async with scripted() as (server, url):
            port = url.rpartition(":")[2]
            target = f"http://{host}:{port}"
            async with proxy_site(tmp_path, target, allow_private=False) as it:
                with pytest.raises(UnavailableError, match=r"allow_private of example\.test"):
                    await it.proxy.manifest(NAME, "1")
            assert server.asked == []

    run(act)


def test_upstream_of_any_host_never_is_a_private_one(tmp_path: Path) -> None:
    async def act() -> None:
        async with proxy_site(tmp_path, "", upstreams=(RegistryUpstream("*", ""),)) as it:
            with pytest.raises(UnavailableError, match="allow_private"):
                await it.proxy.manifest(ImageName("localhost:9", "team/app"), "1")

    run(act)


def test_host_that_no_entry_allows_is_not_asked(tmp_path: Path) -> None:
    async def act() -> None:
        async with scripted() as (server, url), proxy_site(tmp_path, url) as it:
            other = ImageName("other.test", "team/app")
            assert not it.proxy.may_ask(other)
            with pytest.raises(NotFoundError, match=r"docker\.upstreams"):
                await it.proxy.manifest(other, "1")
            assert server.asked == []

    run(act)


def test_redirect_to_a_private_address_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One loopback address stands for a public one, so that there is something to be asked first.
    _make_public(monkeypatch, "127.0.0.1")

    async def act() -> None:
        async with scripted() as (inner, inner_url), scripted() as (server, url):
            secret = inner_url.replace("127.0.0.1", "127.0.0.2")
            server.answers["/blobs/"] = answer(307, Location=f"{secret}/metadata")
            async with proxy_site(tmp_path, url, allow_private=False) as it:
                with pytest.raises(UnavailableError, match="no public address"):
                    await it.read(LAYER)
            assert len(server.asked) > 0
            assert inner.asked == []

    run(act)


def test_token_server_at_a_private_address_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _make_public(monkeypatch, "127.0.0.1")

    async def act() -> None:
        async with scripted() as (inner, inner_url), scripted() as (server, url):
            realm = inner_url.replace("127.0.0.1", "127.0.0.2")
            challenge = f'Bearer realm="{realm}/token",service="x"'
            server.answers["/v2/"] = answer(401, WWW_Authenticate=challenge)
            async with proxy_site(tmp_path, url, allow_private=False) as it:
                with pytest.raises(UnavailableError, match="no public address"):
                    await it.proxy.manifest(NAME, "1")
            assert inner.asked == []

    run(act)


def _make_public(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    module = "pyrsia_node.artifacts.safe_http"
    monkeypatch.setattr(f"{module}.is_public", lambda each: each == address or is_public(each))


# ---------------------------------------------------------------- credentials


def test_password_is_sent_to_the_registry_and_not_where_it_redirects(tmp_path: Path) -> None:
    async def act() -> None:
        async with scripted() as (other, other_url), scripted() as (server, url):
            server.answers["/blobs/"] = answer(307, Location=f"{other_url}/cdn/blob")
            server.answers["/manifests/"] = answer(401, WWW_Authenticate='Basic realm="x"')
            other.answers["/cdn/blob"] = answer(200, IMAGE.blobs[LAYER])
            path = auth_file(tmp_path, **{"example.test": (USER, PASSWORD)})
            async with proxy_site(tmp_path / "node", url, auth_file=path) as it:
                with pytest.raises(DeniedError):
                    await it.proxy.manifest(NAME, IMAGE.digest)
                assert await it.read(LAYER) == IMAGE.blobs[LAYER]
            expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            assert ("GET /v2/team/app/manifests/" + IMAGE.digest, expected) in server.asked
            assert ("GET /v2/team/app/blobs/" + LAYER, expected) in server.asked
            assert other.asked == [("GET /cdn/blob", "")]

    run(act)


def test_longest_fitting_entry_of_the_auth_file_counts(tmp_path: Path) -> None:
    path = auth_file(
        tmp_path,
        **{
            "example.test": ("nobody", "wrong"),
            "example.test__team": (USER, PASSWORD),
            "example.test__te": ("nobody", "wrong"),
        },
    )
    with registry_with_password(tmp_path / "registry") as registry:
        push(IMAGE, registry.url, "team/app", "1", auth=(USER, PASSWORD))
        push(IMAGE, registry.url, "others/app", "1", auth=(USER, PASSWORD))

        async def act() -> None:
            async with proxy_site(tmp_path / "node", registry.url, auth_file=path) as it:
                found = await it.proxy.manifest(NAME, "1")
                assert found.data == IMAGE.root.data
                assert found.is_private
                assert not it.store.is_shared(found.sha256)
                with pytest.raises(DeniedError):
                    await it.proxy.manifest(ImageName(NAME.host, "others/app"), "1")

        run(act)


def test_private_image_is_not_served_once_its_credentials_are_gone(tmp_path: Path) -> None:
    path = auth_file(tmp_path, **{"example.test": (USER, PASSWORD)})
    with registry_with_password(tmp_path / "registry") as registry:
        push(IMAGE, registry.url, "team/app", "1", auth=(USER, PASSWORD))

        async def act() -> None:
            node = tmp_path / "node"
            async with proxy_site(node, registry.url, auth_file=path) as it:
                await it.proxy.manifest(NAME, "1")
                await it.read(LAYER)
            async with proxy_site(node, registry.url, auth_file=path, allow_private=False) as it:
                it.proxy._upstreams._credentials._path = None
                with pytest.raises(PyrsiaError):
                    await it.read(LAYER)

        run(act)


def test_token_is_fetched_once_for_a_repository_however_many_ask(tmp_path: Path) -> None:
    with (
        token_server() as tokens,
        registry_with_tokens(tmp_path / "registry", tokens) as registry,
    ):
        _push_with_token(registry.url, tokens.token("repository:team/app:pull,push", USER))
        tokens.asked.clear()

        async def act() -> None:
            async with proxy_site(tmp_path / "node", registry.url) as it:
                await it.proxy.manifest(NAME, "1")
                await asyncio.gather(*(it.read(digest) for digest in IMAGE.blobs))
                assert not (await it.proxy.manifest(NAME, "1")).is_private

        run(act)
        assert tokens.asked == [("repository:team/app:pull", "")]


def test_token_that_ran_out_is_renewed(tmp_path: Path) -> None:
    with (
        token_server(is_public=False) as tokens,
        registry_with_tokens(tmp_path / "registry", tokens) as registry,
    ):
        _push_with_token(registry.url, tokens.token("repository:team/app:pull,push", USER))
        tokens.asked.clear()
        path = auth_file(tmp_path, **{"example.test": (USER, PASSWORD)})

        async def act() -> None:
            async with proxy_site(tmp_path / "node", registry.url, auth_file=path) as it:
                await it.proxy.manifest(NAME, "1")
                rights = (await it.proxy._upstreams.client(NAME))._rights
                (held,) = rights._held.values()
                spoiled = type(held)("Bearer made.up.token", held.until, held.login)
                rights._held[NAME.repository] = spoiled
                await it.read(LAYER)

        run(act)
        assert tokens.asked == [("repository:team/app:pull", USER)] * 2


def test_refused_token_means_not_found_and_says_where_credentials_belong(tmp_path: Path) -> None:
    with (
        token_server(is_public=False) as tokens,
        registry_with_tokens(tmp_path / "registry", tokens) as registry,
    ):

        async def act() -> None:
            async with proxy_site(tmp_path / "node", registry.url) as it:
                with pytest.raises(DeniedError, match="gives no token"):
                    await it.proxy.manifest(NAME, "1")
                assert not await it.proxy.knows(NAME)

        run(act)


@pytest.mark.parametrize("after", ["1", "86400"])
def test_registry_that_wants_a_pause_gets_it_or_the_client_is_told(
    tmp_path: Path, after: str
) -> None:
    async def act() -> None:
        async with scripted() as (server, url), proxy_site(tmp_path, url) as it:
            server.answers["/manifests/"] = answer(429, Retry_After=after)
            begun = asyncio.get_running_loop().time()
            with pytest.raises(UnavailableError, match="429"):
                await it.proxy.manifest(NAME, "1")
            waited = asyncio.get_running_loop().time() - begun
            # One short pause is made; a long one is not waited for.
            assert len(server.asked) == (2 if after == "1" else 1)
            assert waited < 5

    run(act)


def test_unreadable_auth_file_stops_requests_rather_than_going_without(tmp_path: Path) -> None:
    path = tmp_path / "auth.json"
    path.write_text("{")

    async def act() -> None:
        async with (
            scripted() as (server, url),
            proxy_site(tmp_path / "node", url, auth_file=path) as it,
        ):
            with pytest.raises(UnavailableError, match=r"docker\.auth_file"):
                await it.proxy.manifest(NAME, "1")
            assert server.asked == []

    run(act)


def _push_with_token(url: str, token: str | None) -> None:
    assert token is not None
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{url}/v2/team/app", headers=headers) as client:
        for digest, data in IMAGE.blobs.items():
            begun = client.post("/blobs/uploads/")
            place = httpx.URL(url).join(begun.headers["Location"])
            sent = client.put(place.copy_add_param("digest", digest), content=data)
            assert sent.status_code == 201, sent.text
        media = {"content-type": IMAGE.root.media}
        sent = client.put("/manifests/1", content=IMAGE.root.data, headers=media)
        assert sent.status_code == 201, sent.text
