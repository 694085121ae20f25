"""The Python index of a real gateway process, asked over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrsia_node.gateway.link import LinkClient
from pyrsia_node.ports import PIECE_SIZE_BYTES
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.tree import EMPTY_FRONTIER, split_hashes
from pyrsia_node.tlog.verify import verify_bundle
from pyrsia_node.transfer.listener import UploadPolicy
from tests.fakes.data_peers import DataPeer, data_peer
from tests.fakes.gateway_process import (
    Node,
    RunningGateway,
    as_peer,
    make_data_directory,
    node,
    run_gateway,
)
from tests.fakes.published_log import PublishedLog, document, file_entry
from tests.fakes.wheels import make_sdist, make_wheel

JSON = "application/vnd.pypi.simple.v1+json"
NAME, WHEEL = make_wheel("six", "1.17.0")
SDIST_NAME, SDIST = make_sdist("six", "1.17.0")
SHA256 = hashlib.sha256(WHEEL).hexdigest()
FILE = f"/pypi/files/{SHA256}/{NAME}"


@dataclass
class Setting:
    """A gateway whose log knows six 1.17.0, and a peer that has its files."""

    node: Node
    gateway: RunningGateway
    peer: DataPeer
    http: httpx.AsyncClient


@asynccontextmanager
async def setting(folder: Path) -> AsyncIterator[Setting]:
    async with node(folder / "node") as own, data_peer(folder, "peer") as peer:
        peer.put(folder, WHEEL)
        peer.put(folder, SDIST)
        own.core.holders = [as_peer(peer.holder)]
        own.log.accept(
            document(
                "pkg:pypi/six@1.17.0",
                file_entry(NAME, WHEEL),
                file_entry(SDIST_NAME, SDIST, claim="mirrored"),
                requires_python=">=3.8",
            )
        )
        async with (
            run_gateway(own.layout) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
        ):
            yield Setting(own, gateway, peer, http)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """Run one gateway for all tests that only ask; its event loop runs in a thread."""
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
        stack = AsyncExitStack()
        folder = tmp_path_factory.mktemp("shared")
        loop = runner.get_loop()
        it = runner.run(stack.enter_async_context(setting(folder)))
        running = thread.submit(loop.run_forever)
        try:
            yield it
        finally:
            loop.call_soon_threadsafe(loop.stop)
            running.result()
            runner.run(stack.aclose())


def scenario(folder: Path, act: Callable[[Setting], Awaitable[None]]) -> None:
    async def run() -> None:
        async with setting(folder) as it:
            await act(it)

    asyncio.run(run())


def test_pages_and_files_as_clients_ask_for_them(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        await _check_json_page(it.http)
        await _check_html_page(it.http)
        await _check_index(it.http)
        await _check_redirects(it.http)
        await _check_file(it.http)
        await _check_metadata_and_proof(it)

    scenario(tmp_path, act)


async def _check_json_page(http: httpx.AsyncClient) -> None:
    answer = await http.get("/pypi/simple/six/", headers={"accept": JSON})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == JSON
    assert answer.headers["x-pyrsia-verified"] == "log"
    page = answer.json()
    assert page["meta"]["api-version"] == "1.1"
    assert (page["name"], page["versions"]) == ("six", ["1.17.0"])
    files = {each["filename"]: each for each in page["files"]}
    assert set(files) == {NAME, SDIST_NAME}
    wheel = files[NAME]
    assert wheel["hashes"] == {"sha256": SHA256}
    assert wheel["size"] == len(WHEEL)
    assert wheel["requires-python"] == ">=3.8"
    assert wheel["upload-time"].startswith("2023-11-14T22:13:")
    assert wheel["core-metadata"] is True
    assert "dist-info-metadata" not in wheel, "pip 23.0 fails on it"
    assert wheel["yanked"] is False
    assert "core-metadata" not in files[SDIST_NAME]
    again = await http.get(
        "/pypi/simple/six/", headers={"accept": JSON, "if-none-match": answer.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


async def _check_html_page(http: httpx.AsyncClient) -> None:
    answer = await http.get("/pypi/simple/six/", headers={"accept": "text/html"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert f'href="../../files/{SHA256}/{NAME}#sha256={SHA256}"' in answer.text
    assert 'data-requires-python="&gt;=3.8"' in answer.text
    head = await http.head("/pypi/simple/six/", headers={"accept": "text/html"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(answer.content))
    refused = await http.get("/pypi/simple/six/", headers={"accept": "image/png"})
    assert refused.status_code == 406


async def _check_index(http: httpx.AsyncClient) -> None:
    answer = await http.get("/pypi/simple/", headers={"accept": JSON})
    assert answer.json()["projects"] == [{"name": "six"}]


async def _check_redirects(http: httpx.AsyncClient) -> None:
    for path in ("/pypi/simple/SIX/", "/pypi/simple/six", "/pypi/simple/Six"):
        answer = await http.get(path)
        assert (answer.status_code, answer.headers["location"]) == (301, "/pypi/simple/six/")


async def _check_file(http: httpx.AsyncClient) -> None:
    answer = await http.get(FILE)
    assert (answer.status_code, answer.content) == (200, WHEEL)
    assert answer.headers["x-pyrsia-verified"] == "log"
    part = await http.get(FILE, headers={"range": "bytes=-10"})
    assert (part.status_code, part.content) == (206, WHEEL[-10:])
    several = await http.get(FILE, headers={"range": "bytes=0-1,5-6"})
    assert (several.status_code, several.content) == (200, WHEEL)
    head = await http.head(FILE)
    assert head.headers["content-length"] == str(len(WHEEL))
    assert head.headers["accept-ranges"] == "bytes"
    same = await http.get(FILE, headers={"if-none-match": head.headers["etag"]})
    assert same.status_code == 304


async def _check_metadata_and_proof(it: Setting) -> None:
    metadata = await it.http.get(FILE + ".metadata")
    assert metadata.text.startswith("Metadata-Version: 2.1\nName: six\n")
    proof = await it.http.get(FILE + ".tlog-proof")
    proved = verify_bundle(
        proof.content,
        it.node.log.trust,
        file_sha256=SHA256,
        purl="pkg:pypi/six@1.17.0",
        file_name=NAME,
    )
    assert proved.file.size == len(WHEEL)


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/pypi/simple/ghost/", 404, "pyrsia build pypi ghost"),
        ("/pypi/simple/six/9.9/", 404, "versions known: 1.17.0"),
        (f"/pypi/files/{SHA256}/six-9.9-py3-none-any.whl", 404, "versions known: 1.17.0"),
        (f"/pypi/files/{'0' * 64}/{NAME}", 404, f"has sha256 {SHA256}, not {'0' * 64}"),
        (f"/pypi/files/{SHA256}/ghost-1.0.tar.gz", 404, "pyrsia build pypi ghost"),
        (f"/pypi/files/{SHA256}/..%2f..%2fnode.toml", 404, "hides a separator"),
        ("/pypi/simple/%2e%2e/", 404, "not the name of a project"),
        ("/pypi/simple/six%00/", 404, "hides a separator"),
        ("/pypi/simple/s%C3%ADx/", 404, "not the name of a project"),
        ("/pypi/simple/%ff/", 404, "not UTF-8"),
        ("/pypi/", 404, "/pypi/simple/"),
    ],
)
def test_what_is_not_there_is_said_to_be_not_there(
    shared: Setting, path: str, status: int, says: str
) -> None:
    # httpx would normalise some of these paths; a socket sends them as they are.
    answer = _raw(shared.gateway.url, path)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert says in answer


async def _only_transfer(http: httpx.AsyncClient) -> dict[str, Any]:
    """Return the one download of this gateway, once it has ended."""
    async with asyncio.timeout(10):
        while True:
            (line,) = (await http.get("/api/v1/transfers")).json()["transfers"]
            if line["state"] != "running":
                return dict(line)
            await asyncio.sleep(0.02)


def _raw(url: str, path: str, host: str = "localhost", extra: str = "") -> str:
    request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{extra}connection: close\r\n\r\n"
    return _exchange(url, request.encode()).decode("utf-8", errors="replace")


def _exchange(url: str, request: bytes) -> bytes:
    port = int(url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    return data


@pytest.mark.parametrize(
    "path", ["/pypi/simple/", "/status", "/v2/", "/log/checkpoint", "/nothing", "/v2/a/tags/list"]
)
def test_no_answer_is_run_by_a_browser_as_a_page_of_the_node(shared: Setting, path: str) -> None:
    answer = httpx.get(f"{shared.gateway.url}{path}")
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    ("host", "extra", "status"),
    [
        ("localhost:7888", "", 200),
        ("127.0.0.1", "", 200),
        ("[::1]:7888", "", 200),
        ("node-9", "", 200),
        ("localhost:3000", "origin: http://localhost:3000\r\n", 200),
        ("localhost", "origin: http://localhost:3000\r\n", 403),
        ("localhost", "origin: http://203.0.113.7\r\n", 403),
        ("evil.example", "", 403),
        ("localhost.evil.example", "", 403),
        ("localhost", "origin: http://evil.example\r\n", 403),
        ("localhost", "origin: null\r\n", 403),
        ("local host", "", 403),
    ],
)
def test_other_names_and_other_sites_are_refused(
    shared: Setting, host: str, extra: str, status: int
) -> None:
    answer = _raw(shared.gateway.url, "/pypi/simple/six/", host, extra)
    assert answer.startswith(f"HTTP/1.1 {status} ")


TARGETS = st.binary(min_size=1, max_size=80).map(
    lambda raw: b"/" + bytes(byte for byte in raw if byte > 0x20 and byte != 0x7F)
)
PREFIXES = st.sampled_from(
    [b"", b"/pypi/simple", b"/pypi/files/" + SHA256.encode(), b"/log/tile", b"/api/v1/entries"]
)
VALUES = st.binary(max_size=60).filter(lambda value: not set(value) & {0, 10, 13})


@settings(max_examples=60)
@given(PREFIXES, TARGETS, st.lists(VALUES, min_size=3, max_size=3))
def test_no_request_ends_in_a_server_error(
    shared: Setting, prefix: bytes, target: bytes, values: list[bytes]
) -> None:
    head = b"\r\n".join(
        [
            b"GET " + prefix + target + b" HTTP/1.1",
            b"host: localhost",
            b"accept: " + values[0],
            b"range: bytes=" + values[1],
            b"if-none-match: " + values[2],
            b"connection: close\r\n\r\n",
        ]
    )
    status = int(_exchange(shared.gateway.url, head).split(b" ", 2)[1])
    assert status in {200, 206, 301, 302, 304, 307, 400, 403, 404, 405, 406, 416}


def test_only_reading_is_possible(shared: Setting) -> None:
    for path in ("/pypi/simple/six/", "/log/checkpoint"):
        answer = httpx.post(shared.gateway.url + path, content=b"x")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


def test_bodies_are_limited(shared: Setting) -> None:
    url = f"{shared.gateway.url}/api/v1/builds"
    assert httpx.post(url, content=bytes(70_000)).status_code == 413


def test_log_is_served_as_c2sp_files(shared: Setting) -> None:
    checkpoint = httpx.get(f"{shared.gateway.url}/log/checkpoint")
    signed = SignedCheckpoint.parse(checkpoint.content)
    shared.node.log.trust.check(signed)
    size = signed.checkpoint.size
    tile = httpx.get(f"{shared.gateway.url}/log/tile/0/000.p/{size}")
    hashes = split_hashes(tile.content)
    assert EMPTY_FRONTIER.extend(hashes).root() == signed.checkpoint.root
    assert httpx.get(f"{shared.gateway.url}/log/tile/0/001").status_code == 404
    assert _raw(shared.gateway.url, "/log/../node.toml").startswith("HTTP/1.1 404")


def test_rows_of_a_tampered_index_change_nothing_that_is_served(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        other_name, other = make_wheel("idna", "3.10")
        it.node.log.accept(document("pkg:pypi/idna@3.10", file_entry(other_name, other)))
        before = await it.http.get("/pypi/simple/six/", headers={"accept": JSON})
        with sqlite3.connect(it.node.log.index_path) as index:
            index.execute("UPDATE tag SET value = 'evil-' || value WHERE kind = 'file'")
            index.execute("UPDATE tag SET value = zeroblob(32) WHERE kind = 'sha256' AND leaf = 2")
            index.execute(
                "UPDATE unit SET project = 'pkg:pypi/six', purl = 'pkg:pypi/six@6.6.6',"
                " type = 'accepted'"
            )
            index.execute("UPDATE block SET time_ms = 0")
        index.close()
        # A new checkpoint, so that nothing is answered from memory.
        newer, bytes_ = make_wheel("attrs", "1.0")
        it.node.log.accept(document("pkg:pypi/attrs@1.0", file_entry(newer, bytes_)))
        after = await it.http.get("/pypi/simple/six/", headers={"accept": JSON})
        assert before.json()["files"] == after.json()["files"]
        answer = await it.http.get(FILE)
        assert (answer.status_code, answer.content) == (200, WHEEL)
        found = (await it.http.get("/api/v1/search", params={"q": "six"})).json()
        leaves = it.node.log.local.chain
        assert all(leaves.leaf(hit["index"]) for hit in found["hits"])
        shown = [hit for hit in found["hits"] if hit["type"] == "accepted"]
        assert {hit["purl"] for hit in shown} <= {"pkg:pypi/six@1.17.0", "pkg:pypi/idna@3.10"}

    scenario(tmp_path, act)


def test_sixteen_downloads_of_one_file_at_once_ask_the_peer_once(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        name, data = make_wheel("large", "1.0", payload=bytes(3 * PIECE_SIZE_BYTES))
        it.peer.put(tmp_path, data)
        it.node.log.accept(document("pkg:pypi/large@1.0", file_entry(name, data)))
        url = f"/pypi/files/{hashlib.sha256(data).hexdigest()}/{name}"
        answers = await asyncio.gather(*(it.http.get(url) for _ in range(16)))
        assert all(answer.content == data for answer in answers)
        assert it.peer.behaviour.bodies == 1 + 4
        line = await _only_transfer(it.http)
        assert list(line["pieces_by_peer"].values()) == [4]

    scenario(tmp_path, act)


def test_corrupt_peer_never_reaches_a_client_and_the_cache_serves_without_any(
    tmp_path: Path,
) -> None:
    async def act(it: Setting) -> None:
        it.peer.behaviour.corrupt = True
        answer = await it.http.get(FILE)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "no peer" in answer.text
        async with data_peer(tmp_path, "honest") as honest:
            honest.put(tmp_path, WHEEL)
            it.node.core.holders = [as_peer(it.peer.holder), as_peer(honest.holder, 1)]
            assert (await it.http.get(FILE)).content == WHEEL
        it.node.core.holders = []
        assert (await it.http.get(FILE)).content == WHEEL

    scenario(tmp_path, act)


def test_killed_gateway_resumes_the_download_with_the_pieces_it_had(tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            node(tmp_path / "node") as own,
            data_peer(tmp_path, "before", policy=UploadPolicy(bytes_per_s=20_000_000)) as before,
            # Another peer afterwards: the first one may still be at a request of the dead gateway.
            data_peer(tmp_path, "after") as after,
        ):
            name, data = make_wheel("large", "1.0", payload=bytes(5 * PIECE_SIZE_BYTES))
            artifact = before.put(tmp_path, data)
            after.put(tmp_path, data)
            own.core.holders = [as_peer(before.holder)]
            own.log.accept(document("pkg:pypi/large@1.0", file_entry(name, data)))
            path = f"/pypi/files/{artifact.sha256}/{name}"
            async with (
                run_gateway(own.layout) as gateway,
                httpx.AsyncClient(base_url=gateway.url) as http,
                http.stream("GET", path) as answer,
            ):
                await anext(answer.aiter_bytes())
                gateway.kill()
            own.core.holders = [as_peer(after.holder)]
            async with (
                run_gateway(own.layout) as gateway,
                httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
            ):
                assert (await http.get(path)).content == data
                line = await _only_transfer(http)
                assert line["resumed_pieces"] >= 1
                # Neither the piece list nor what was checked is fetched again.
                assert after.behaviour.bodies == 6 - line["resumed_pieces"]

    asyncio.run(run())


def test_gateway_serves_what_it_has_while_the_core_is_away(tmp_path: Path) -> None:
    async def run() -> None:
        layout = make_data_directory(tmp_path / "node")
        log = PublishedLog(layout.root)
        log.accept(document("pkg:pypi/six@1.17.0", file_entry(NAME, WHEEL)))
        async with (
            run_gateway(layout) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
        ):
            client = LinkClient(layout.gateway_socket)
            (tmp_path / "built").write_bytes(WHEEL)
            params = {"path": str(tmp_path / "built"), "sha256": SHA256, "size": len(WHEEL)}
            assert (await client.call("adopt", params))["size"] == len(WHEEL)
            client.close()
            assert (await http.get(FILE)).content == WHEEL
            status = (await http.get("/api/v1/status")).json()
            assert status["core"] == "down"
            assert status["gateway"]["blobs"] == 1
            assert (await http.get("/api/v1/peers")).status_code == 503
        log.close()

    asyncio.run(run())
