"""Each known end or wedge of the library, over real sockets, with its measure off and on.

The names are those of docs/design/p2p.md. With the measure off the defect must still be there: when
a newer library has none, these tests say so and the measure goes.
"""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress

import pytest
import trio
from libp2p.abc import IHost
from libp2p.host.exceptions import StreamFailure
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from pyrsia_node.p2p.addresses import parse_peer_address
from pyrsia_node.p2p.hardening.host import new_host
from pyrsia_node.p2p.hardening.measures import Guard, Limits, Measure
from tests.integration.p2p.strangers import (
    Victim,
    answers,
    connect,
    open_stream,
    says_hello,
    stranger,
    victim,
)
from tests.integration.p2p.victim import GENESIS, NEVER_READS, RAISES, READS_ON

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

GOSSIP = "/meshsub/1.1.0"
TOPIC = f"/pyrsia/{GENESIS[:16]}/hints"

Attack = Callable[[IHost, str], Awaitable[None]]


async def bad_utf8(host: IHost, address: str) -> None:
    connection = await connect(host, address)
    stream = await connection.new_stream()
    await stream.write(b"\x13/multistream/1.0.0\n" + b"\x03\xff\xfe\n")
    await trio.sleep(0.2)


async def failing_handler(host: IHost, address: str) -> None:
    await connect(host, address)
    with suppress(StreamFailure):  # the handler may fail before we know that we got it
        await open_stream(host, address, RAISES)
    await trio.sleep(0.2)


async def gossip_without_protobuf(host: IHost, address: str) -> None:
    await connect(host, address)
    stream = await open_stream(host, address, GOSSIP)
    await stream.write(encode_varint_prefixed(b"\xff" * 16))
    await trio.sleep(0.2)


async def gossip_message(host: IHost, address: str, message: rpc_pb2.Message) -> None:
    await connect(host, address)
    stream = await open_stream(host, address, GOSSIP)
    rpc = rpc_pb2.RPC(publish=[message])
    await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
    await trio.sleep(0.2)


def message_with_key(key: bytes) -> rpc_pb2.Message:
    # The id of an RSA key, a hash: the key cannot be taken from it, so the message's own is read.
    author = b"\x12\x20" + b"\x07" * 32
    return rpc_pb2.Message(
        data=b"\x01xy",
        topicIDs=[TOPIC],
        from_id=author,
        seqno=os.urandom(8),
        key=key,
        signature=b"none",
    )


async def junk_key(host: IHost, address: str) -> None:
    await gossip_message(host, address, message_with_key(b"\xff\xff\xff"))


async def unknown_key_type(host: IHost, address: str) -> None:
    await gossip_message(host, address, message_with_key(b"\x08\x63\x12\x02\x00\x00"))


async def failing_validator(host: IHost, address: str) -> None:
    message = rpc_pb2.Message(
        data=b"\x01xy", topicIDs=[TOPIC], from_id=host.get_id().to_bytes(), seqno=os.urandom(8)
    )
    key = host.get_private_key()
    message.signature = key.sign(b"libp2p-pubsub:" + message.SerializeToString())
    await gossip_message(host, address, message)


ENDS: list[tuple[str, Measure, Attack]] = [
    ("K1", Measure.CONTAIN_STREAMS, bad_utf8),
    ("K2", Measure.CONTAIN_STREAMS, failing_handler),
    ("K3", Measure.CONTAIN_STREAMS, gossip_without_protobuf),
    ("K4", Measure.CONTAIN_MESSAGES, junk_key),
    ("K5", Measure.CONTAIN_MESSAGES, unknown_key_type),
    ("K6", Measure.CONTAIN_MESSAGES, failing_validator),
]
IDS = [name for name, _, _ in ENDS]


@pytest.fixture(scope="module")
def hardened() -> Iterator[Victim]:
    with victim(poison=True) as node:
        yield node


@pytest.mark.parametrize(("name", "measure", "attack"), ENDS, ids=IDS)
async def test_the_attack_ends_a_process_without_the_measure(
    name: str, measure: Measure, attack: Attack
) -> None:
    with victim(off=[measure.name], poison=True) as node:
        async with stranger() as host:
            await attack(host, node.address)
            status = await node.until_ended(10)
        assert status not in (None, 0), f"{name} is gone: its measure may go too"


@pytest.mark.parametrize(("name", "measure", "attack"), ENDS, ids=IDS)
async def test_the_attack_leaves_a_hardened_process_answering(
    hardened: Victim, name: str, measure: Measure, attack: Attack
) -> None:
    async with stranger() as host:
        await attack(host, hardened.address)
    assert await hardened.until_ended(0.3) is None, (name, measure)
    assert await answers(hardened.address)


async def end_of_stream_in_a_handler(node: Victim) -> bool:
    """W2: return whether the connection still serves streams after the attack."""
    async with stranger() as host:
        await connect(host, node.address)
        stream = await open_stream(host, node.address, READS_ON)
        await stream.close()
        await trio.sleep(0.2)
        return await says_hello(host, node.address, seconds=2)


async def test_w2_end_of_stream_turns_a_connection_into_a_zombie_without_the_measure() -> None:
    with victim(off=["CONTAIN_STREAMS"]) as node:
        assert not await end_of_stream_in_a_handler(node)


async def test_w2_end_of_stream_leaves_the_connection_serving(hardened: Victim) -> None:
    assert await end_of_stream_in_a_handler(hardened)


async def come_and_go(node: Victim, times: int) -> bool:
    """W1: connect and leave, then return whether there is still room."""
    for seed in range(times):
        async with stranger(seed + 10) as host:
            await connect(host, node.address)
            assert await says_hello(host, node.address)
    await trio.sleep(0.5)
    return await answers(node.address)


@pytest.mark.parametrize(("off", "is_open"), [(["RELEASE_INBOUND"], False), ([], True)])
async def test_w1_ended_connections_take_inbound_slots_for_ever_without_the_measure(
    off: list[str], *, is_open: bool
) -> None:
    with victim(off=off, limits={"connections": 4, "strangers": 4}) as node:
        assert await come_and_go(node, 4) is is_open


async def pour(node: Victim) -> bool:
    """M1: send 12 MiB into a stream that nobody reads; return whether the victim lets us."""
    async with stranger() as host:
        connection = await connect(host, node.address)
        assert await says_hello(host, node.address)
        stream = await open_stream(host, node.address, NEVER_READS)
        muxer, stream_id = connection.muxed_conn, stream.muxed_stream.stream_id  # type: ignore[attr-defined]  # yamux's own
        head = struct.pack("!BBHII", 0, 0, 0, stream_id, 60_000)
        try:
            for _ in range(200):
                await muxer._write_frame(head + b"x" * 60_000)  # type: ignore[attr-defined]  # yamux's own
        except ConnectionClosedError:
            return False
        with trio.move_on_after(3):
            await muxer.event_closed.wait()  # type: ignore[attr-defined]  # yamux's own
        return not muxer.is_closed


@pytest.mark.parametrize(("off", "takes_it"), [(["CAP_UNREAD"], True), ([], False)])
async def test_m1_data_beyond_the_window_is_taken_without_the_measure(
    off: list[str], *, takes_it: bool
) -> None:
    with victim(off=off, limits={"unread_bytes_per_connection": 4 * 1024 * 1024}) as node:
        assert await pour(node) is takes_it
        assert await answers(node.address)


async def idle_connections(address: str, count: int) -> list[trio.SocketStream]:
    """D1: connect ``count`` times from another address and say nothing."""
    port = int(address.split("/")[4])
    streams = []
    for _ in range(count):
        socket = trio.socket.socket()
        await socket.bind(("127.0.0.2", 0))
        await socket.connect(("127.0.0.1", port))
        streams.append(trio.SocketStream(socket))
    return streams


@pytest.mark.parametrize(("off", "is_open"), [(["LIMIT_UPGRADES"], False), ([], True)])
async def test_d1_idle_connections_of_one_address_shut_all_others_out_without_the_measure(
    off: list[str], *, is_open: bool
) -> None:
    limits = {"connections": 8, "strangers": 8, "upgrades_per_address": 4, "upgrade_s": 30}
    with victim(off=off, limits=limits) as node:
        idle = await idle_connections(node.address, 12)
        await trio.sleep(0.3)
        assert await answers(node.address) is is_open
        for stream in idle:
            await stream.aclose()


async def cancel_while_writing(node: Victim, off: frozenset[Measure]) -> bool:
    """F1: give up writing to a frozen peer; return whether the connection survives its thaw."""
    guard = Guard(Limits(write_s=8.0), lambda _: True, lambda _: True, off)
    host = new_host(bytes([77]) * 32, guard, [])
    async with host.run([]):
        connection = await connect(host, node.address)
        assert await says_hello(host, node.address)
        os.kill(node.process.pid, signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_for_a_second, connection)
            await trio.sleep(1.5)
            os.kill(node.process.pid, signal.SIGCONT)
        survived = await says_hello(host, node.address) and not connection.is_closed
        await host.close()
    return survived


async def write_for_a_second(connection: SwarmConn) -> None:
    # As many windows as it takes to fill the sockets' buffers.
    with trio.move_on_after(1.0):
        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(write_a_window, connection)


async def write_a_window(connection: SwarmConn) -> None:
    stream = await connection.new_stream()
    await stream.write(b"x" * 256 * 1024)


@pytest.mark.parametrize(
    ("off", "survives"), [(frozenset({Measure.WHOLE_FRAMES}), False), (frozenset[Measure](), True)]
)
async def test_f1_a_cancelled_write_tears_the_connection_without_the_measure(
    off: frozenset[Measure], *, survives: bool
) -> None:
    with victim(limits={"unread_bytes_per_connection": 64 * 1024 * 1024}) as node:
        assert await cancel_while_writing(node, off) is survives


@pytest.mark.parametrize(
    ("off", "dials"), [(frozenset({Measure.NO_AUTODIAL}), True), (frozenset[Measure](), False)]
)
async def test_a1_the_library_dials_whoever_it_heard_of_without_the_measure(
    off: frozenset[Measure], *, dials: bool
) -> None:
    guard = Guard(Limits(), lambda _: True, lambda _: True, off)
    host = new_host(bytes([76]) * 32, guard, [])
    with victim() as node:
        async with host.run([]):
            peer, address = parse_peer_address(node.address)
            identity = ID.from_base58(peer)
            host.get_peerstore().add_addrs(identity, [Multiaddr(address)], 60)
            await host.swarm.auto_connector.maybe_connect()
            assert bool(host.swarm.get_connections(identity)) is dials
            await host.close()


@pytest.mark.parametrize(
    ("off", "is_kept"), [(frozenset({Measure.KEEP_OWN_KEY}), False), (frozenset[Measure](), True)]
)
async def test_s1_a_thousand_strangers_evict_the_hosts_own_key_without_the_measure(
    off: frozenset[Measure], *, is_kept: bool
) -> None:
    guard = Guard(Limits(), lambda _: True, lambda _: True, off)
    host = new_host(bytes([75]) * 32, guard, [])
    store = host.get_peerstore()
    for number in range(1001):
        store.add_addrs(ID(number.to_bytes(4, "big")), [Multiaddr("/ip4/10.0.0.1/tcp/1")], 60)
    assert (host.get_id() in store.peer_ids()) is is_kept
    if is_kept:
        assert host.get_private_key().get_public_key() is not None
