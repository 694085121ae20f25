"""The control API of a real gateway process; the core behind it is a stand-in on the real link."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from pyrsia_node.gateway.link import LinkClient
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.ports import PIECE_SIZE_BYTES
from pyrsia_node.store.pieces import PieceHasher, piece_root
from pyrsia_node.tlog.trust import Trust, TrustFile
from pyrsia_node.tlog.verify import verify_entry
from tests.fakes.data_peers import data_peer
from tests.fakes.gateway_process import TOKEN, Node, as_peer, node, run_gateway
from tests.fakes.published_log import document, file_entry
from tests.fakes.wheels import make_wheel

NAME, WHEEL = make_wheel("six", "1.17.0")
REGISTRY_PATHS = {
    f"/api/v1/{path}"
    for path in (
        "follows",
        "follows/end",
        "gc",
        "gc/explain",
        "registry/namespaces",
        "registry/namespaces/remove",
        "registry/shares",
        "registry/users",
        "registry/users/grant",
        "registry/users/password",
        "registry/users/remove",
        "validate",
    )
}


@dataclass
class Setting:
    node: Node
    http: httpx.AsyncClient
    index: int


def scenario(folder: Path, act: Callable[[Setting], Awaitable[None]]) -> None:
    async def run() -> None:
        async with node(folder / "node") as own:
            doc = document("pkg:pypi/six@1.17.0", file_entry(NAME, WHEEL))
            index = own.log.accept(doc)
            async with (
                run_gateway(own.layout) as gateway,
                httpx.AsyncClient(base_url=gateway.url, timeout=20) as http,
            ):
                await act(Setting(own, http, index))

    asyncio.run(run())


def test_reading_calls_answer_as_specified(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        await _check_status(it)
        await _check_log_answers(it)
        await _check_proof_and_trust(it)
        await _check_builds(it)
        await _check_explanations(it)
        await _check_errors(it)
        await _check_openapi(it)

    scenario(tmp_path, act)


async def _check_status(it: Setting) -> None:
    short = (await it.http.get("/status")).json()
    assert set(short) == {"peers_count", "peer_id", "peer_addrs"}
    status = (await it.http.get("/api/v1/status")).json()
    assert (status["core"], status["label"]) == ("up", "node-9")
    assert set(status["gateway"]) == {"uptime_s", "cache_bytes", "cache_bytes_max", "blobs"}
    assert (await it.http.get("/api/v1/peers")).json() == {"peers": []}


async def _check_log_answers(it: Setting) -> None:
    head = it.node.log.local.chain.tip
    about = (await it.http.get("/api/v1/inspect-log", params={"purl": "pkg:pypi/Six"})).json()
    assert (about["as_of"], about["root"]) == (head.size, bytes(head.root).hex())
    assert about["complete"] is True
    assert [entry["index"] for entry in about["entries"]] == sorted(
        entry["index"] for entry in about["entries"]
    )
    types = {entry["type"] for entry in about["entries"]}
    assert types >= {"build_request", "attest_batch", "result", "accepted"}
    found = (await it.http.get("/api/v1/search", params={"q": "six", "proof": 1})).json()
    (hit,) = found["hits"]
    assert (hit["index"], hit["purl"], hit["status"]) == (
        it.index,
        "pkg:pypi/six@1.17.0",
        "accepted",
    )
    assert hit["files"][0]["sha256"] == hashlib.sha256(WHEEL).hexdigest()
    assert verify_entry(hit["proof"].encode(), it.node.log.trust).index == it.index
    entry = (await it.http.get(f"/api/v1/entries/{it.index}")).json()
    assert entry["block"]["height"] == head.height
    assert "proof" not in entry


async def _check_proof_and_trust(it: Setting) -> None:
    proof = await it.http.get(f"/api/v1/entries/{it.index}/proof")
    trust = await it.http.get("/api/v1/trust")
    established = Trust.establish(TrustFile.parse(trust.content))
    assert verify_entry(proof.content, established).index == it.index


async def _check_builds(it: Setting) -> None:
    body = {"ecosystem": "pypi", "name": "idna", "version": "3.10", "class": "S"}
    right = {"authorization": f"Bearer {TOKEN}"}
    for headers in ({}, {"authorization": "Bearer wrong"}):
        refused = await it.http.post("/api/v1/builds", json=body, headers=headers)
        assert refused.status_code == 403
        assert "admin.token" in refused.json()["error"]["message"]
        assert TOKEN not in refused.text
    assert it.node.core.builds == []
    taken = await it.http.post("/api/v1/builds", json=body, headers=right)
    assert (taken.status_code, taken.json()) == (202, {"build_id": "b1", "state": "queued"})
    assert it.node.core.builds == [body | {"platforms": []}]
    options = {"source": "git+https://git.example/a", "tag": "v1", "jdk": 17, "goals": ["install"]}
    maven = {"ecosystem": "maven", "name": "a.b:c", "version": "1", "options": options}
    assert (await it.http.post("/api/v1/builds", json=maven, headers=right)).status_code == 202
    assert it.node.core.builds[1:] == [maven | {"platforms": []}]
    maven["options"] = {**options, "source": "git+ssh://git.example/a"}
    ssh = await it.http.post("/api/v1/builds", json=maven, headers=right)
    assert (ssh.status_code, ssh.json()["error"]["kind"]) == (400, "invalid")
    assert "options.source" in ssh.json()["error"]["message"]
    odd = await it.http.post("/api/v1/builds", json=body | {"extra": 1}, headers=right)
    assert (odd.status_code, odd.json()["error"]["kind"]) == (400, "invalid")
    assert "extra" in odd.json()["error"]["message"]
    assert (await it.http.get("/api/v1/builds")).json() == {"builds": []}
    assert (await it.http.get("/api/v1/builds/b1")).json()["state"] == "queued"


async def _check_explanations(it: Setting) -> None:
    found = (await it.http.get("/api/v1/entries/7/explanations")).json()
    assert (found["leaf"], found["purl"]) == (7, "pkg:maven/a/b@1")
    assert [each.get("explained", "")[:1] for each in found["members"]] == ["1", "2", "2", ""]
    said_most, other = found["explanations"]
    assert (said_most["sha256"], other["sha256"]) == ("2" * 64, "1" * 64)
    assert said_most["document"] == {"t": "explanation", "é": [1, "\n"]}, "passed on as it is"
    assert (other["problem"], "document" in other) == ("nobody has it", False)
    odd = await it.http.get("/api/v1/entries/x7/explanations")
    assert (odd.status_code, odd.json()["error"]["kind"]) == (400, "invalid")


async def _check_errors(it: Setting) -> None:
    for path, status, kind, says in (
        ("/api/v1/entries/999", 404, "not_found", "no entry 999"),
        ("/api/v1/entries/x", 400, "invalid", "not a leaf index"),
        ("/api/v1/search?q=%22", 400, "invalid", "character"),
        ("/api/v1/search", 400, "invalid", "q:"),
        ("/api/v1/search?q=a&limit=0", 400, "invalid", "limit"),
        ("/api/v1/inspect-log?purl=nonsense", 400, "invalid", "nonsense"),
        ("/api/v1/nothing", 404, "not_found", "openapi.json"),
    ):
        answer = await it.http.get(path)
        error = answer.json()["error"]
        assert (answer.status_code, error["kind"]) == (status, kind), path
        assert says in error["message"], path


async def _check_openapi(it: Setting) -> None:
    described = (await it.http.get("/api/v1/openapi.json")).json()
    assert set(described["paths"]) == {
        "/livez",
        "/healthz",
        "/readyz",
        "/status",
        "/api/v1/status",
        "/api/v1/peers",
        "/api/v1/transfers",
        "/api/v1/builds",
        "/api/v1/builds/{build_id}",
        "/api/v1/inspect-log",
        "/api/v1/search",
        "/api/v1/sources",
        "/api/v1/blocks",
        "/api/v1/entries",
        "/api/v1/entries/{index}",
        "/api/v1/entries/{index}/explanations",
        "/api/v1/entries/{index}/proof",
        "/api/v1/trust",
        "/api/v1/members",
        "/api/v1/evidence",
        "/api/v1/motions",
        "/api/v1/motions/{subject}/approve",
        "/api/v1/advice",
        "/api/v1/transactions/{transaction_id}",
        *REGISTRY_PATHS,
    }


def test_core_may_adopt_stat_and_fetch_over_the_socket(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        client = LinkClient(it.node.layout.gateway_socket)
        outside = tmp_path / "outside"
        outside.write_bytes(WHEEL)
        sha256 = hashlib.sha256(WHEEL).hexdigest()
        params: dict[str, object] = {"path": str(outside), "sha256": sha256, "size": len(WHEEL)}
        with pytest.raises(VerificationError):
            await client.call("adopt", params | {"sha256": "0" * 64})
        with pytest.raises(InvalidInputError):
            await client.call("adopt", params | {"path": str(tmp_path)})
        stored = await client.call("adopt", params)
        stat = await client.call("stat", {"sha256": sha256})
        assert stat["present"] is True
        assert Path(str(stat["path"])).read_bytes() == WHEEL
        assert stat["pieces"] == stored["pieces"]
        assert await client.call("stat", {"sha256": "0" * 64}) == {"present": False}
        listener = await client.call("data_listener", {})
        assert str(listener["url"]).startswith("https://127.0.0.1:")
        async with data_peer(tmp_path, "peer") as peer:
            data = bytes(PIECE_SIZE_BYTES + 1)
            artifact = peer.put(tmp_path, data)
            it.node.core.holders = [as_peer(peer.holder)]
            hasher = PieceHasher()
            hasher.update(memoryview(data))
            wanted: dict[str, object] = {
                "sha256": artifact.sha256,
                "size": len(data),
                "pieces": piece_root(hasher.finish()),
                "pin": True,
            }
            assert (await client.call("fetch", wanted))["size"] == len(data)
        assert (it.node.layout.blobs / "pins" / artifact.sha256).exists()
        assert it.node.core.announced[-1] == {"sha256": artifact.sha256, "complete": True}
        client.close()

    scenario(tmp_path, act)
