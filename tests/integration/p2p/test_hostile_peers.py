"""A peer that sends garbage to every protocol: the node counts, resets, and serves on."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from random import Random

import pytest
import trio
from libp2p.abc import IHost
from libp2p.stream_muxer.exceptions import MuxedStreamError

from pyrsia_node.p2p.greeting import HELLO_PROTOCOL
from pyrsia_node.p2p.streams import PeerStream
from pyrsia_node.ports import PeerId
from tests.integration.p2p.nodes import node
from tests.integration.p2p.strangers import (
    Victim,
    answers,
    connect,
    open_stream,
    says_hello,
    stranger,
    victim,
)
from tests.integration.p2p.test_meeting import until
from tests.integration.p2p.victim import GENESIS

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PREFIX = f"/pyrsia/{GENESIS[:16]}"
PROTOCOLS = [
    HELLO_PROTOCOL,
    f"{PREFIX}/ask/1",
    f"{PREFIX}/member/1",
    f"{PREFIX}/pieces/1",
    "/meshsub/1.1.0",
    "/ipfs/ping/1.0.0",
    "/ipfs/id/1.0.0",
    "/ipfs/id/push/1.0.0",
]
GARBAGE = [
    b"\xff" * 64,
    b"\xff\xff\xff\xff" + b"x" * 1000,
    struct.pack(">I", 0),
    struct.pack(">I", 1) + b"\xff",
    struct.pack(">I", 10) + b"trunc",
    struct.pack(">I", 45) + b"\xff" * 45,
    struct.pack(">I", 6) + b"\x04echo!",
    struct.pack(">I", 3) + b"{}\n",
    b"\x00" * 5000,
]


async def throw(host: IHost, address: str, protocol: str, garbage: bytes, *, closes: bool) -> None:
    try:
        stream = PeerStream(await open_stream(host, address, protocol))
        await stream.write(garbage)
        await (stream.close() if closes else stream.reset())
    except Exception:  # noqa: BLE001  the node may refuse at any point
        return


async def throw_everything(node: Victim, protocol: str, garbage: list[bytes]) -> None:
    async with stranger() as host:
        await connect(host, node.address)
        await says_hello(host, node.address)
        for number, piece in enumerate(garbage):
            await throw(host, node.address, protocol, piece, closes=bool(number % 2))


@pytest.mark.parametrize("member", [False, True])
async def test_garbage_on_any_protocol_never_ends_the_node(*, member: bool) -> None:
    random = Random(7)
    async with stranger() as host:
        own_id = host.get_id().to_base58()
    options: dict[str, object] = {"member": own_id} if member else {}
    with victim(**options) as target:
        for protocol in PROTOCOLS:
            noise = [random.randbytes(random.choice([1, 4, 5, 60, 3000])) for _ in range(6)]
            await throw_everything(target, protocol, GARBAGE + noise)
            assert await answers(target.address), protocol
        assert await target.until_ended(0.2) is None


async def test_streams_before_a_hello_are_reset() -> None:
    async with node(1) as first, stranger() as host:
        await connect(host, first.addresses[0])
        stream = PeerStream(await open_stream(host, first.addresses[0], f"{PREFIX}/ask/1"))
        await stream.write(struct.pack(">I", 7) + b"\x06record")
        await until(lambda: first.statistics().refusals.get("stream before hello", 0) == 1)


async def test_a_stranger_that_says_nothing_is_disconnected() -> None:
    async with node(1) as first, stranger() as host:
        await connect(host, first.addresses[0])
        await until(lambda: first.statistics().refusals.get("no hello", 0) == 1)
        await until(lambda: first.statistics().connections == 0)


async def test_a_peer_that_never_ends_its_streams_is_disconnected_in_the_end() -> None:
    with victim(limits={"streams_per_connection": 40}) as target:
        async with stranger() as host:
            connection = await connect(host, target.address)
            assert await says_hello(host, target.address)
            with trio.move_on_after(10):
                while not connection.is_closed:
                    try:
                        await open_stream(host, target.address, "/ipfs/id/1.0.0")
                    except Exception:  # noqa: BLE001  refused: the end of this test
                        break
            assert not await says_hello(host, target.address, seconds=1)
        assert await answers(target.address)


async def test_a_flood_of_streams_is_reset_and_then_cut_off_while_others_are_served() -> None:
    limits = {"streams_per_s": 20, "refused_streams": 200}
    with victim(limits=limits) as target:
        async with stranger() as host, node(3) as friend:
            friend.add_addresses(peer_of(target), [target.address])
            connection = await connect(host, target.address)
            assert await says_hello(host, target.address)
            with trio.fail_after(10), suppress(MuxedStreamError):
                while not connection.is_closed:
                    stream = await connection.new_stream()
                    await stream.reset()
            answer = await friend.ask(
                peer_of(target), "echo", b"served", timeout_s=5, answer_bytes_max=8
            )
            assert answer == b"served"


async def test_too_many_strangers_leave_room_for_configured_peers() -> None:
    async with node(2) as friend:
        limits = {"connections": 8, "strangers": 2, "upgrades_per_address": 8}
        with victim(limits=limits, member=friend.peer_id) as target:
            async with trio.open_nursery() as nursery:
                for number in range(3):
                    nursery.start_soon(stay, target.address, 30 + number)
                await trio.sleep(1.0)
                friend.add_addresses(peer_of(target), [target.address])
                payload = os.urandom(8)
                answer = await friend.ask(
                    peer_of(target), "echo", payload, timeout_s=5, answer_bytes_max=8
                )
                assert answer == payload
                nursery.cancel_scope.cancel()


def peer_of(target: Victim) -> PeerId:
    return PeerId(target.address.rsplit("/", 1)[1])


async def stay(address: str, seed: int) -> None:
    async with stranger(seed) as host:
        await connect(host, address)
        await says_hello(host, address)
        await trio.sleep_forever()
