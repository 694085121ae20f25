"""Member streams: order, bounds, gate, silence, return after a restart."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest
import trio

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.p2p.addresses import parse_peer_address
from pyrsia_node.p2p.frames import MEMBER_FRAME_BYTES_MAX
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import PeerId
from tests.integration.p2p.nodes import CONFIG, node, nodes, peer
from tests.integration.p2p.strangers import victim
from tests.integration.p2p.test_meeting import until


def link(*networks: Network) -> None:
    everyone = {network.peer_id for network in networks}
    for network in networks:
        network.set_members(everyone)


async def receive(network: Network, count: int) -> list[tuple[PeerId, bytes]]:
    frames = network.frames()
    with trio.fail_after(10):
        return [await frames.__anext__() for _ in range(count)]


async def test_frames_cross_in_both_directions_in_order_with_their_sender() -> None:
    async with nodes(2) as (first, second):
        link(first, second)
        sent = [b"\x01" + number.to_bytes(2, "big") for number in range(500)]
        for frame in sent:
            assert first.send(second.peer_id, frame)
            assert second.send(first.peer_id, frame)
        assert await receive(second, 500) == [(first.peer_id, frame) for frame in sent]
        assert await receive(first, 500) == [(second.peer_id, frame) for frame in sent]


async def test_the_largest_frame_crosses_whole() -> None:
    async with nodes(2) as (first, second):
        link(first, second)
        frame = b"\x03" + os.urandom(MEMBER_FRAME_BYTES_MAX - 1)
        assert first.send(second.peer_id, frame)
        assert await receive(second, 1) == [(first.peer_id, frame)]


@pytest.mark.parametrize("frame", [b"", b"\x00heart", b"\x01" * (MEMBER_FRAME_BYTES_MAX + 1)])
async def test_a_frame_that_cannot_be_sent_is_refused_at_once(frame: bytes) -> None:
    async with nodes(1) as (first,):
        first.set_members([peer(2)])
        with pytest.raises(InvalidInputError):
            first.send(peer(2), frame)


async def test_a_frame_to_no_member_is_not_queued() -> None:
    async with nodes(2) as (first, second):
        assert not first.send(second.peer_id, b"\x01")


async def test_a_full_queue_gives_up_its_oldest_frames_and_says_so() -> None:
    async with nodes(1) as (first,):
        first.set_members([peer(2)])
        told = [first.send(peer(2), b"\x01" + bytes([number % 250])) for number in range(1030)]
        assert told == [True] * 1024 + [False] * 6
        assert first.statistics().counters.frames_dropped_out == 6


async def test_a_stream_of_no_member_is_refused() -> None:
    async with nodes(2) as (first, second):
        second.set_members([first.peer_id])
        second.send(first.peer_id, b"\x01vote")
        await until(lambda: first.statistics().refusals.get("member stream of no member", 0) > 0)
        assert second.statistics().member_links_up == 0
        first.set_members([second.peer_id])
        second.send(first.peer_id, b"\x01later")
        sender, _ = (await receive(first, 1))[0]
        assert sender == second.peer_id


async def test_a_member_that_left_is_cut_off_at_once() -> None:
    async with nodes(2) as (first, second):
        link(first, second)
        await until(lambda: second.statistics().member_links_up == 1)
        first.set_members([])
        await until(lambda: second.statistics().member_links_up == 0)


async def test_links_say_how_long_a_round_trip_takes() -> None:
    async with nodes(2) as (first, second):
        link(first, second)
        await until(lambda: second.statistics().member_links_up == 1)
        rtt = second.statistics().member_rtt_s[first.peer_id]
        assert rtt is not None
        assert 0 < rtt < 1


async def test_one_members_flood_drops_no_frame_of_another() -> None:
    async with nodes(3) as (first, second, third):
        link(first, second, third)
        for _ in range(4):
            for number in range(1000):
                second.send(first.peer_id, b"\x01" + number.to_bytes(2, "big"))
            await trio.sleep(0.3)
        third.send(first.peer_id, b"\x02 the one that matters")
        await until(lambda: first.statistics().counters.frames_received > 4000)
        assert first.statistics().counters.frames_dropped_in > 0
        frames = await receive(first, 3)
        assert (third.peer_id, b"\x02 the one that matters") in frames


async def test_a_link_comes_back_after_the_other_side_restarts() -> None:
    async with node(1) as first:
        first.set_members([peer(2)])
        listen: tuple[str, ...] = ()
        async with node(2, first) as second:
            second.set_members([peer(1)])
            listen = (parse_peer_address(second.addresses[0])[1],)
            await until(lambda: first.statistics().member_links_up == 1)
        await until(lambda: first.statistics().member_links_up == 0)
        async with node(2, config=replace(CONFIG, listen=listen)) as again:
            again.set_members([peer(1)])
            first.send(peer(2), b"\x01 after the restart")
            assert (peer(1), b"\x01 after the restart") in await receive(again, 1)


async def test_a_frozen_member_is_noticed_within_seven_seconds_and_taken_back() -> None:
    with victim(seed=2, member=peer(1)) as other:
        async with node(1, config=replace(CONFIG, bootstrap=(other.address,))) as first:
            first.set_members([peer(2)])
            await until(lambda: first.statistics().member_links_up == 1)
            os.kill(other.process.pid, signal.SIGSTOP)
            await until(lambda: first.statistics().member_links_up == 0, seconds=7)
            os.kill(other.process.pid, signal.SIGCONT)
            await until(lambda: first.statistics().member_links_up == 1, seconds=12)
