"""A whole core, founded and run in this process: its links, its peers' questions, its restart."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from consensus import wire
from consensus.effects import Record, RecordKind
from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.founding import found_network, initialize, join_network
from pyrsia_node.core.link_client import LinkClient
from pyrsia_node.core.node import run_core
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Genesis
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import decode_transaction, sign_transaction
from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import PeerId
from pyrsia_node.replica.catchup_wire import encode_range, join_prefixed, split_prefixed
from pyrsia_node.replica.wal import StoreAnchor, WriteAheadLog
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.links import Status
from pyrsia_node.schema.sections import (
    BuildSection,
    DataSection,
    HttpSection,
    NodeSection,
    P2pSection,
)
from pyrsia_node.store.keys import KeyUse, load_keys
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.strategies.build_bodies import request


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    # The library leaves a socket to the collector; it must not fail another test.
    yield
    gc.collect()


CONFIG = Config(
    node=NodeSection("north", "authorized"),
    http=HttpSection(port=0),
    data=DataSection(host="127.0.0.1", port=0),
    p2p=P2pSection(listen=("/ip4/127.0.0.1/tcp/0",)),
    build=BuildSection(enabled=False),
)


def founded(folder: Path) -> Layout:
    layout = Layout(folder / "node")
    initialize(layout, CONFIG)
    params = replace(DEFAULT_PARAMS, min_authorized=1)
    records = [layout.member_record]
    genesis = found_network("devnet-core", records, clock=SystemClock(), params=params)
    join_network(layout, genesis, [])
    return layout


@asynccontextmanager
async def core(layout: Layout) -> AsyncIterator[LinkClient]:
    """Run the core and give a client of its control link."""
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_core, layout, CONFIG, SystemClock())
            link = LinkClient(layout.core_socket, nursery)
            while True:
                try:
                    await link.call("status", {})
                    break
                except UnavailableError:
                    await trio.sleep(0.02)
            yield link
            nursery.cancel_scope.cancel()


def wanted(layout: Layout, number: int) -> str:
    keys = load_keys(layout.node_key)
    genesis = Genesis.decode(layout.genesis.read_bytes())
    body = request(
        genesis.members[0].record.id,
        purl=Purl.pypi("six", f"1.{number}"),
        until=SystemClock().now_ms() + 3_600_000,
        nonce=number,
    )
    signer = keys.signer(KeyUse.TX)
    return sign_transaction(body, network_id=genesis.network_id, sign=signer).encoded.decode()


async def until_height(link: LinkClient, height: int) -> Status:
    while True:
        status = Status.parse(await link.call("status", {}))
        if status.height >= height and status.published_size == status.size:
            return status
        await trio.sleep(0.02)


async def test_what_is_submitted_is_ordered_published_and_there_after_a_restart(
    tmp_path: Path,
) -> None:
    layout = founded(tmp_path)
    transaction = wanted(layout, 1)
    async with core(layout) as link:
        answer = await link.call("submit", {"transaction": transaction})
        before = await until_height(link, 1)
        found = await link.call("transaction", {"id": answer["id"]})
        assert found["committed"]
        with pytest.raises(InvalidInputError, match="in the log already"):
            await link.call("submit", {"transaction": transaction})
    async with core(layout) as link:
        after = await until_height(link, 1)
        assert (after.root, after.size) == (before.root, before.size)
        await link.call("submit", {"transaction": wanted(layout, 2)})
        await until_height(link, 2)


async def test_whoever_waits_for_a_block_is_told_once_it_is_there_and_not_for_ever(
    tmp_path: Path,
) -> None:
    layout = founded(tmp_path)
    transaction = wanted(layout, 1)
    network_id = Genesis.decode(layout.genesis.read_bytes()).network_id
    signed = decode_transaction(transaction.encode(), network_id=network_id)
    told: list[dict[str, object]] = []
    async with core(layout) as link:
        question = {"id": signed.id, "wait_ms": 1}
        assert await link.call("transaction", question) == {"committed": False}
        with pytest.raises(InvalidInputError, match="wait_ms"):
            await link.call("transaction", {**question, "wait_ms": 10_001})
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                told.append(dict(await link.call("transaction", {**question, "wait_ms": 10_000})))

            nursery.start_soon(ask)
            await link.call("submit", {"transaction": transaction})
    assert [(one["committed"], one["height"]) for one in told] == [(True, 1)]


async def test_status_tells_what_an_operator_needs(tmp_path: Path) -> None:
    layout = founded(tmp_path)
    async with core(layout) as link:
        status = Status.parse(await link.call("status", {}))
    assert (status.label, status.role, status.n, status.f, status.q) == (
        "north",
        "authorized",
        1,
        0,
        1,
    )
    assert "one node down halts the log" in status.note
    assert [member.connected for member in status.set] == [True]
    assert status.alarms == []


async def test_other_nodes_get_decisions_tip_and_cosignatures_and_nonsense_gets_an_error(
    tmp_path: Path,
) -> None:
    layout = founded(tmp_path)
    genesis = Genesis.decode(layout.genesis.read_bytes())
    async with core(layout) as link:
        for number in range(1, 4):
            await link.call("submit", {"transaction": wanted(layout, number)})
            await until_height(link, number)
        status = await until_height(link, 3)
        config = NetworkConfig(
            genesis.network_id.hex(), bootstrap=(status.addresses[0],), gossip=False
        )
        async with Network.open(config, bytes(32), clock=SystemClock()) as network:
            north = PeerId(status.peer_id)
            await network.until_connected(north)

            async def ask(method: str, payload: bytes) -> bytes:
                return await network.ask(
                    north, method, payload, timeout_s=10, answer_bytes_max=8 << 20
                )

            decisions = split_prefixed(
                await ask("decisions", encode_range(first=1, bytes_max=1 << 20)), items_max=10
            )
            assert [wire.decode_decision(each, n=1).certificate.height for each in decisions] == [
                1,
                2,
                3,
            ]
            one = await ask("decisions", encode_range(first=2, bytes_max=0))
            assert split_prefixed(one, items_max=10) == decisions[1:2]
            for nothing in (0, 4, 2**64 - 1):
                assert await ask("decisions", encode_range(first=nothing, bytes_max=9)) == b""
            assert await ask("tip", b"") == decisions[-1]
            assert genesis.origin.encode() in await ask(
                "cosignatures", status.size.to_bytes(8, "big")
            )
            assert await ask("pending", join_prefixed([])) == b""
            with pytest.raises(NotFoundError):
                await ask("cosignatures", (2**64 - 1).to_bytes(8, "big"))
            with pytest.raises(NotFoundError):
                await ask("body", bytes(32))
            for method in ("decisions", "body", "cosignatures", "pending"):
                with pytest.raises(InvalidInputError):
                    await ask(method, b"\xff" * 7)


async def test_a_log_of_votes_that_is_damaged_is_an_alarm_and_the_node_serves_on(
    tmp_path: Path,
) -> None:
    layout = founded(tmp_path)
    async with core(layout) as link:
        await link.call("submit", {"transaction": wanted(layout, 1)})
        await until_height(link, 1)
    (file,) = layout.wal.glob("*.wal")
    with file.open("r+b") as content:
        content.truncate(4096)
    for _ in range(2):  # and it is not forgotten by the next start
        async with core(layout) as link:
            status = Status.parse(await link.call("status", {}))
        assert any("SILENT" in alarm for alarm in status.alarms)
        assert status.height == 1


async def test_a_log_of_votes_of_another_version_stops_the_start(tmp_path: Path) -> None:
    layout = founded(tmp_path)
    log = WriteAheadLog(layout.wal, StoreAnchor(MemoryKeyValueStore()))
    log.read()
    log.append([Record(RecordKind.VOTE, b"of another version")], height=1)
    log.close()
    with pytest.RaisesGroup(CorruptStateError, flatten_subgroups=True, allow_unwrapped=True):
        await run_core(layout, CONFIG, SystemClock())
