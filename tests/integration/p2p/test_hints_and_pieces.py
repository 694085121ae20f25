"""Gossip hints, and bytes over libp2p."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.p2p.network import Network
from pyrsia_node.p2p.pieces import FileRange, PieceLimits, PieceRequest
from pyrsia_node.ports import Hint, Hints, PeerId
from tests.integration.p2p.nodes import CONFIG, node, nodes
from tests.integration.p2p.test_meeting import until

GOSSIP = replace(CONFIG, gossip=True)
CONTENT = os.urandom(3 * 1024 * 1024 + 17)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


async def next_hint(network: Hints) -> Hint:
    hints = network.hints()
    with trio.fail_after(10):
        return await hints.__anext__()


async def until_meshed(*networks: Network) -> None:
    """Wait until every network's gossip knows another's subscription."""
    for network in networks:
        pubsub, topic = network._hints._pubsub, network._hints._topic
        assert pubsub is not None
        await until(lambda pubsub=pubsub, topic=topic: bool(pubsub.peer_topics.get(topic)))  # type: ignore[misc]  # bound now


async def test_a_hint_reaches_nodes_that_are_not_connected_to_its_author() -> None:
    async with nodes(3, GOSSIP) as (first, second, third):
        await until_meshed(first, second, third)
        second.publish("decision", b"7")
        expected = Hint("decision", second.peer_id, b"7")
        assert await next_hint(first) == expected
        assert await next_hint(third) == expected


async def test_a_burst_of_hints_arrives() -> None:
    async with nodes(2, GOSSIP) as (first, second):
        await until_meshed(first, second)
        for number in range(90):
            second.publish("transaction", bytes([number]))
        received = {(await next_hint(first)).payload for _ in range(90)}
        assert received == {bytes([number]) for number in range(90)}


async def test_hints_of_a_node_that_restarted_are_heard() -> None:
    async with node(1, config=GOSSIP) as first:
        for run in (b"before", b"after"):
            async with node(2, first, config=GOSSIP) as second:
                await until_meshed(second)
                second.publish("decision", run)
                assert (await next_hint(first)).payload == run


async def test_an_author_is_limited_and_its_excess_not_passed_on() -> None:
    async with nodes(2, GOSSIP) as (first, second):
        await until_meshed(first, second)
        published = 0
        # On a busy machine the author is slow and its allowance refills: go on until it exceeds.
        with trio.fail_after(45):
            while first.statistics().refusals.get("too many hints", 0) <= 50:
                for _ in range(100):
                    second.publish("transaction", bytes([published % 250]))
                    published += 1
                await trio.sleep(0.1)
        assert first.statistics().counters.hints_received <= published - 50


async def test_without_gossip_a_hint_goes_nowhere_and_hurts_nobody() -> None:
    async with nodes(2) as (first, second):
        second.publish("decision", b"7")
        with pytest.raises(InvalidInputError):
            second.publish("decision", b"x" * 5000)
        assert first.statistics().counters.hints_received == 0


def serve_content(network: Network, path: Path) -> None:
    path.write_bytes(CONTENT)

    async def handler(_peer: PeerId, request: PieceRequest) -> FileRange | bytes:
        if request.sha256 != SHA256:
            raise NotFoundError("no such artifact here")
        if request.length is None:
            return hashlib.sha256(b"not really BLAKE3").digest() * 2
        return FileRange(str(path), request.start, request.length)

    network.serve_pieces(handler)


async def read(network: Network, holder: PeerId, sha256: str, start: int, length: int) -> bytes:
    async with network.read_piece(
        holder, sha256, start=start, length=length, timeout_s=5
    ) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_a_range_crosses_whole(tmp_path: Path) -> None:
    async with nodes(2) as (first, second):
        serve_content(first, tmp_path / "artifact")
        assert await read(second, first.peer_id, SHA256, 0, len(CONTENT)) == CONTENT
        assert await read(second, first.peer_id, SHA256, 5, 70_000) == CONTENT[5:70_005]
        assert second.statistics().counters.piece_bytes_received == len(CONTENT) + 70_000


async def test_piece_hashes_cross(tmp_path: Path) -> None:
    async with nodes(2) as (first, second):
        serve_content(first, tmp_path / "artifact")
        hashes = await second.piece_hashes(first.peer_id, SHA256, timeout_s=5)
        assert len(hashes) == 64


async def test_an_artifact_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    async with nodes(2) as (first, second):
        with pytest.raises(UnavailableError, match="serves no pieces"):
            await read(second, first.peer_id, SHA256, 0, 10)
        serve_content(first, tmp_path / "artifact")
        with pytest.raises(NotFoundError):
            await read(second, first.peer_id, "0" * 64, 0, 10)


async def test_a_file_that_ends_early_is_an_error_and_no_short_range(tmp_path: Path) -> None:
    async with nodes(2) as (first, second):
        serve_content(first, tmp_path / "artifact")
        with pytest.raises(UnavailableError, match="before the end"):
            await read(second, first.peer_id, SHA256, len(CONTENT) - 10, 20)


async def test_a_reader_may_stop_early(tmp_path: Path) -> None:
    async with nodes(2) as (first, second):
        serve_content(first, tmp_path / "artifact")
        async with second.read_piece(
            first.peer_id, SHA256, start=0, length=len(CONTENT), timeout_s=5
        ) as chunks:
            assert await chunks.__anext__()
        assert await read(second, first.peer_id, SHA256, 0, 100) == CONTENT[:100]


async def test_serving_is_capped(tmp_path: Path) -> None:
    config = replace(CONFIG, pieces=PieceLimits(bytes_per_s=1e6))
    async with nodes(2, config) as (first, second):
        serve_content(first, tmp_path / "artifact")
        began = trio.current_time()
        await read(second, first.peer_id, SHA256, 0, len(CONTENT))
        assert trio.current_time() - began > len(CONTENT) / 1e6 - 1.2


async def test_a_holder_is_remembered_and_told_to_the_next_asker() -> None:
    async with nodes(3) as (first, second, third):
        await second.tell_have(first.peer_id, SHA256, complete=False)
        assert await third.ask_holders(first.peer_id, SHA256) == [(second.peer_id, False)]
        await second.tell_have(first.peer_id, SHA256, complete=True)
        first.holders.remember(SHA256, third.peer_id, complete=False, now_s=trio.current_time())
        told = await second.ask_holders(first.peer_id, SHA256)
        assert told == [(third.peer_id, False), (second.peer_id, True)]
        with pytest.raises(InvalidInputError):
            await third.ask_holders(first.peer_id, "not a digest")
