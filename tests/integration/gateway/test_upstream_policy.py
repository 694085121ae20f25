"""A gateway whose operator lets it ask an upstream: what is marked, cached and refused."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from pyrsia_node.schema.config import Config
from tests.fakes.fake_index import JSON, FakeIndex, json_page, serve_index
from tests.fakes.gateway_process import CONFIG, Node, node, run_gateway
from tests.fakes.published_log import document, file_entry
from tests.fakes.wheels import make_wheel

NAME, WHEEL = make_wheel("idna", "3.10")
SHA256 = hashlib.sha256(WHEEL).hexdigest()
FILE = f"/pypi/files/{SHA256}/{NAME}"


@dataclass
class Setting:
    node: Node
    index: FakeIndex
    http: httpx.AsyncClient


def config_for(upstream: str, *, allow_private: bool) -> Config:
    section = dataclasses.replace(
        CONFIG.pypi, policy="upstream", upstream=upstream, allow_private=allow_private
    )
    return dataclasses.replace(CONFIG, pypi=section)


@asynccontextmanager
async def setting(folder: Path, *, allow_private: bool) -> AsyncIterator[Setting]:
    index = FakeIndex()
    line = {
        "filename": NAME,
        "url": f"/files/{NAME}",
        "hashes": {"sha256": SHA256},
        "size": len(WHEEL),
    }
    index.pages["/simple/idna/"] = json_page(line, name="idna")
    index.files[f"/files/{NAME}"] = WHEEL
    async with serve_index(index) as address:
        config = config_for(f"{address}/simple/", allow_private=allow_private)
        async with (
            node(folder / "node", config) as own,
            run_gateway(own.layout) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
        ):
            yield Setting(own, index, http)


def scenario(
    folder: Path, act: Callable[[Setting], Awaitable[None]], *, allow_private: bool = True
) -> None:
    async def run() -> None:
        async with setting(folder, allow_private=allow_private) as it:
            await act(it)

    asyncio.run(run())


def test_upstream_files_are_marked_cached_and_served_when_it_is_down(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        page = await it.http.get("/pypi/simple/idna/", headers={"accept": JSON})
        assert page.headers["x-pyrsia-verified"] == "upstream"
        assert page.json()["files"][0]["_vouched"] == "upstream"
        for _ in range(2):
            answer = await it.http.get(FILE)
            assert (answer.status_code, answer.content) == (200, WHEEL)
            assert answer.headers["x-pyrsia-verified"] == "upstream"
        assert [path for path, _ in it.index.asked] == ["/simple/idna/", f"/files/{NAME}"]
        assert (await it.http.get(FILE + ".metadata")).text.startswith("Metadata-Version")
        assert (await it.http.get(FILE + ".tlog-proof")).status_code == 404
        it.index.status = 503
        assert (await it.http.get(FILE)).content == WHEEL
        unknown = await it.http.get("/pypi/simple/six/")
        assert unknown.status_code == 503
        assert "answered 503" in unknown.text

    scenario(tmp_path, act)


def test_logged_version_is_the_logs_own_word_beside_the_upstreams(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        newer, data = make_wheel("idna", "3.11")
        it.node.log.accept(document("pkg:pypi/idna@3.11", file_entry(newer, data)))
        page = await it.http.get("/pypi/simple/idna/", headers={"accept": JSON})
        vouched = {each["filename"]: each["_vouched"] for each in page.json()["files"]}
        assert vouched == {NAME: "upstream", newer: "log"}

    scenario(tmp_path, act)


def test_corrupt_upstream_file_is_refused(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        it.index.files[f"/files/{NAME}"] = bytes(len(WHEEL))
        answer = await it.http.get(FILE)
        assert answer.status_code == 502
        assert SHA256 in answer.text
        assert it.node.layout.partial.exists()
        assert list(it.node.layout.partial.iterdir()) == []

    scenario(tmp_path, act)


def test_upstream_at_a_private_address_is_refused_unless_allowed(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        answer = await it.http.get("/pypi/simple/idna/")
        assert answer.status_code == 503
        assert "pypi.allow_private" in answer.text
        assert it.index.asked == []

    scenario(tmp_path, act, allow_private=False)
