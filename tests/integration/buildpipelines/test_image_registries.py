"""Images are fetched by digest from registries that were named, and from no private address."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.inputs.cache import InputsCache
from buildpipelines.inputs.outward import is_public
from buildpipelines.inputs.registries import Registries, Registry, parse_registry
from buildpipelines.recipes.dockerfile import Pin
from tests.fakes.images import busybox_image
from tests.fakes.registries import debian_registry, registry_with_tokens, token_server

BODY = b'{"schemaVersion":2}'
SHA256 = hashlib.sha256(BODY).hexdigest()
T = TypeVar("T")
Answer = Callable[[str, dict[str, str]], tuple[int, dict[str, str], bytes]]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """Serve what ``answer(path, headers)`` says on loopback; gives HOST:PORT."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = answer(
                self.path, {k.lower(): v for k, v in self.headers.items()}
            )
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.server_port}"
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


def run(
    folder: Path, registry: Registry, call: Callable[[Registries], Coroutine[None, None, T]]
) -> T:
    async def main() -> T:
        async with Registries([registry], InputsCache(folder / "cache")) as registries:
            return await call(registries)

    return asyncio.run(main())


def failure(folder: Path, registry: Registry) -> BuildFailure:
    pin = Pin(registry.host, "a/b", SHA256)
    with pytest.raises(BuildFailure) as caught:
        run(folder, registry, lambda registries: registries.manifest(pin))
    return caught.value


def test_token_is_asked_for_where_one_is_wanted(tmp_path: Path) -> None:
    image = busybox_image()
    (tmp_path / "r").mkdir()
    with debian_registry(tmp_path / "r") as open_registry:
        open_registry.push(image, "a/b")
    with token_server() as tokens, registry_with_tokens(tmp_path / "r", tokens) as registry:
        pin = Pin(registry.host, "a/b", image.digest.removeprefix("sha256:"))
        path = run(
            tmp_path,
            Registry(registry.host, registry.url, is_private=True),
            lambda registries: registries.manifest(pin),
        )
        assert path.read_bytes() == image.root.data


def test_other_bytes_than_the_digest_says_are_refused_and_not_kept(tmp_path: Path) -> None:
    with server(lambda *_: (200, {}, BODY + b" ")) as host:
        found = failure(tmp_path, Registry(host, f"http://{host}", is_private=True))
    assert found.cause == "input has another hash"
    assert not list(tmp_path.glob("cache/*/*"))


def test_private_address_is_never_asked_unless_the_operator_allows_it(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(path: str, _: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        asked.append(path)
        return 200, {}, BODY

    with server(answer) as host:
        port = host.rpartition(":")[2]
        for name in (host, f"localhost:{port}", f"[::ffff:127.0.0.1]:{port}", f"127.1:{port}"):
            found = failure(tmp_path, Registry("registry.example", f"http://{name}"))
            assert found.cause == "upstream"
        assert asked == []
        allowed = Registry(host, f"http://{host}", is_private=True)
        pin = Pin(host, "a/b", SHA256)
        assert run(tmp_path, allowed, lambda r: r.manifest(pin)).read_bytes() == BODY


def test_token_never_follows_a_redirect_to_another_host(tmp_path: Path) -> None:
    seen: list[dict[str, str]] = []

    def elsewhere(_: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        seen.append(headers)
        return 200, {}, BODY

    def answer(path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if path.startswith("/token"):
            return 200, {}, b'{"token":"secret"}'
        if "authorization" not in headers:
            realm = f'Bearer realm="http://{headers["host"]}/token",service="s"'
            return 401, {"WWW-Authenticate": realm}, b""
        return 307, {"Location": f"http://{other}{path}"}, b""

    with server(elsewhere) as other, server(answer) as host:
        pin = Pin(host, "a/b", SHA256)
        registry = Registry(host, f"http://{host}", is_private=True)
        assert run(tmp_path, registry, lambda r: r.manifest(pin)).read_bytes() == BODY
    assert [("authorization" in headers) for headers in seen] == [False]


def test_redirects_end(tmp_path: Path) -> None:
    with server(lambda path, _: (302, {"Location": path}, b"")) as host:
        found = failure(tmp_path, Registry(host, f"http://{host}", is_private=True))
    assert "redirects" in found.detail


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
        ("224.0.0.1", False),
        ("name", False),
        ("9.9.9.9", True),
        ("2620:fe::fe", True),
    ],
)
def test_public_addresses_are_those_of_the_internet(address: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert is_public(address) is expected


@pytest.mark.parametrize("text", ["x", "x=ftp://y", "=http://y", "x=http://", "x=/path"])
def test_registry_out_of_form_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="HOST=http"):
        parse_registry(text)
