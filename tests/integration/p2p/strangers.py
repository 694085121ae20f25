"""Attackers' tools: the library's own host as shipped, and victims in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio
from libp2p import new_host
from libp2p.abc import IHost, INetStream
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from pyrsia_node.p2p.addresses import parse_peer_address
from pyrsia_node.p2p.greeting import HELLO_PROTOCOL
from pyrsia_node.p2p.hello import Hello, decode_hello, encode_hello
from pyrsia_node.p2p.streams import PeerStream
from tests.integration.p2p.victim import GENESIS

ROOT = Path(__file__).resolve().parents[3]


class Victim:
    """A node under attack."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    async def until_ended(self, seconds: float) -> int | None:
        """Return the exit status, or None if the process still runs after ``seconds``."""
        ended = os.pidfd_open(self.process.pid)
        try:
            with trio.move_on_after(seconds):
                await trio.lowlevel.wait_readable(ended)
        finally:
            os.close(ended)
        return self.process.poll()


@contextmanager
def victim(**options: object) -> Iterator[Victim]:
    """Run a node in a process of its own; its end is no error."""
    command = [sys.executable, "-m", "tests.integration.p2p.victim", json.dumps(options)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Victim(process, process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@asynccontextmanager
async def stranger(seed: int = 99) -> AsyncIterator[IHost]:
    """Run the library's host as it is shipped, which listens nowhere."""
    host = new_host(key_pair=create_new_key_pair(bytes([seed]) * 32))
    async with host.run([]):
        yield host
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
            await host.close()


async def connect(host: IHost, address: str) -> SwarmConn:
    """Dial a victim."""
    peer, where = parse_peer_address(address)
    network = host.get_network()
    with trio.fail_after(5):
        connection = await network.dial_addr(Multiaddr(where), ID.from_base58(peer))
    assert isinstance(connection, SwarmConn)
    return connection


async def open_stream(host: IHost, address: str, protocol: str) -> INetStream:
    """Open a negotiated stream to a victim that is connected."""
    peer, _ = parse_peer_address(address)
    with trio.fail_after(5):
        return await host.new_stream(ID.from_base58(peer), [TProtocol(protocol)])


async def says_hello(host: IHost, address: str, *, seconds: float = 4.0) -> bool:
    """Return whether a victim that is connected answers a hello."""
    genesis = ""
    try:
        with trio.move_on_after(seconds):
            stream = PeerStream(await open_stream(host, address, HELLO_PROTOCOL))
            await stream.write_frame(encode_hello(Hello(GENESIS, 0, "regular", "test")))
            genesis = decode_hello(await stream.read_frame(bytes_max=4096)).genesis
            await stream.reset()
    except Exception:  # noqa: BLE001  every way of failing is no answer
        return False
    return genesis == GENESIS


async def answers(address: str, *, seed: int = 98) -> bool:
    """Return whether a victim takes a new connection and answers a hello."""
    async with stranger(seed) as host:
        try:
            await connect(host, address)
        except Exception:  # noqa: BLE001  every way of failing is no answer
            return False
        return await says_hello(host, address)
