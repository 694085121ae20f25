"""Search, blocks and entries over HTTP, from a real gateway process over a real published log."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from pyrsia_node.schema.http import Blocks, Entries, Search
from pyrsia_node.tlog.verify import verify_entry
from tests.fakes.gateway_process import Node, node, run_gateway
from tests.fakes.published_log import document, file_entry
from tests.fakes.wheels import make_wheel


@dataclass
class Setting:
    node: Node
    http: httpx.AsyncClient
    leaves: dict[str, int]

    async def get(self, path: str, **params: object) -> httpx.Response:
        return await self.http.get(path, params={key: str(v) for key, v in params.items()})

    async def search(self, query: str, **params: object) -> Search:
        answer = await self.get("/api/v1/search", q=query, **params)
        assert answer.status_code == 200, answer.text
        return Search.parse(answer.json())


def scenario(folder: Path, act: Callable[[Setting], Awaitable[None]]) -> None:
    async def run() -> None:
        async with node(folder / "node") as own:
            leaves = {}
            for name in ("six", "idna", "attrs"):
                file, data = make_wheel(name, "1.0")
                doc = document(f"pkg:pypi/{name}@1.0", file_entry(file, data))
                leaves[name] = own.log.accept(doc)
            async with (
                run_gateway(own.layout) as gateway,
                httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
            ):
                await act(Setting(own, http, leaves))

    asyncio.run(run())


def test_log_is_searched_and_browsed_over_http(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        await _check_orders_and_pages(it)
        await _check_as_of(it)
        await _check_forms(it)
        await _check_errors(it)
        await _check_blocks_and_entries(it)

    scenario(tmp_path, act)


async def _check_orders_and_pages(it: Setting) -> None:
    newest = [it.leaves[name] for name in ("attrs", "idna", "six")]
    whole = await it.search("status:accepted")
    assert [hit.index for hit in whole.hits] == newest
    assert (whole.as_of, whole.size, whole.complete) == (whole.size, whole.size, True)
    log = await it.search("status:accepted", order="log")
    assert [hit.index for hit in log.hits] == newest[::-1]
    ranked = await it.search("idna OR six utility", order="newest")
    assert it.leaves["idna"] in [hit.index for hit in ranked.hits]
    ranked = await it.search("idna", order="rank")
    assert (ranked.order, [hit.index for hit in ranked.hits]) == ("rank", [it.leaves["idna"]])
    for order, expected in (("newest", newest), ("log", newest[::-1])):
        seen: list[int] = []
        cursor: dict[str, object] = {}
        while True:
            page = await it.search("status:accepted", order=order, limit=1, **cursor)
            seen += [hit.index for hit in page.hits]
            if page.next is None:
                break
            cursor = {"cursor": page.next}
        assert seen == expected


async def _check_as_of(it: Setting) -> None:
    early = await it.search("status:accepted", as_of=it.leaves["idna"], proof=1)
    assert [hit.index for hit in early.hits] == [it.leaves["six"]]
    assert early.as_of == it.leaves["idna"] < early.size
    assert early.hits[0].proof is not None
    assert verify_entry(early.hits[0].proof.encode(), it.node.log.trust).index == it.leaves["six"]
    opened = await it.search("pkg:pypi/idna status:open", as_of=it.leaves["idna"])
    assert [hit.type for hit in opened.hits] == ["build_request"]
    beyond = await it.get("/api/v1/search", q="six", as_of=10**6)
    assert beyond.status_code == 400
    assert "beyond the log" in beyond.json()["error"]["message"]


async def _check_forms(it: Setting) -> None:
    answer = await it.get("/api/v1/search", q="status:accepted", format="jsonl", proof=1)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    *hits, stamp = [json.loads(line) for line in answer.text.splitlines()]
    assert [hit["index"] for hit in hits] == [it.leaves[n] for n in ("attrs", "idna", "six")]
    assert all(verify_entry(hit["proof"].encode(), it.node.log.trust) for hit in hits)
    assert (stamp["complete"], stamp["order"]) == (True, "newest")
    table = await it.get("/api/v1/search", q="pkg:pypi/six", format="csv")
    (row,) = csv.DictReader(io.StringIO(table.text))
    assert (row["index"], row["status"]) == (str(it.leaves["six"]), "accepted")
    assert table.headers["x-pyrsia-as-of"] == str(stamp["as_of"])
    assert table.headers["x-pyrsia-complete"] == "true"


async def _check_errors(it: Setting) -> None:
    answer = await it.get("/api/v1/search", q="six statsu:open")
    message = answer.json()["error"]["message"]
    assert answer.status_code == 400
    assert message.splitlines()[1:] == ["  six statsu:open", "      ^"]
    for params in ({"order": "best"}, {"format": "xml"}, {"limit": 201}, {"cursor": -1}):
        assert (await it.get("/api/v1/search", q="six", **params)).status_code == 400
    misspelt = await it.get("/api/v1/search", q="six", asof=3)
    assert misspelt.status_code == 400
    assert "no parameter is named 'asof'; allowed: as_of, " in misspelt.json()["error"]["message"]
    idle = await it.get("/api/v1/peers", limit=3)
    assert (idle.status_code, "it takes none" in idle.text) == (400, True)


async def _check_blocks_and_entries(it: Setting) -> None:
    tip = it.node.log.local.chain.tip
    blocks = Blocks.parse((await it.get("/api/v1/blocks", limit=2, proof=1)).json())
    assert [block.height for block in blocks.blocks] == [tip.height, tip.height - 1]
    last = blocks.blocks[0]
    assert (last.end, last.header.type, last.header.index) == (tip.size, "block", last.first)
    assert last.header.proof is not None
    below = Blocks.parse((await it.get("/api/v1/blocks", top=0)).json())
    assert [(block.first, block.end) for block in below.blocks] == [(0, 2)]
    page = Entries.parse((await it.get("/api/v1/entries", start=0, limit=3)).json())
    assert [entry.type for entry in page.entries] == ["genesis", "set", "block"]
    assert page.next == 3
    end = Entries.parse((await it.get("/api/v1/entries", start=last.first, limit=200)).json())
    assert [entry.index for entry in end.entries] == list(range(last.first, tip.size))
    assert (end.next, end.complete) == (None, True)
    past = Entries.parse((await it.get("/api/v1/entries", start=tip.size + 9)).json())
    assert (past.entries, past.complete) == ([], True)
