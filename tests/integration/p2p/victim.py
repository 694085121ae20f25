"""A node in a process of its own, to be attacked: ``python -m tests.integration.p2p.victim JSON``.

The JSON object: ``off`` (measures switched off, by name), ``limits`` (of ``Limits``), ``gossip``,
``seed``, ``member`` (a peer id). Prints its address, then runs until its standard input closes.
Beside the node's own protocols it serves three that are wrong on purpose.
"""

from __future__ import annotations

import json
import sys
import time

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol

from pyrsia_node.p2p.config import NetworkConfig
from pyrsia_node.p2p.hardening.measures import Limits, Measure
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import PeerId

GENESIS = "5a" * 32
RAISES = TProtocol("/test/raises/1")
READS_ON = TProtocol("/test/reads-on/1")
NEVER_READS = TProtocol("/test/never-reads/1")
POISON = b"poison"


class WallClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()


async def raises(stream: INetStream) -> None:
    raise RuntimeError(f"a defect in a handler of {stream.get_protocol()}")


async def reads_on(stream: INetStream) -> None:
    while True:
        await stream.read(1024)


async def never_reads(_stream: INetStream) -> None:
    await trio.sleep_forever()


def poisonous(*_: object) -> bool:
    raise RuntimeError("a defect in a validator")


async def echo(_peer: PeerId, payload: bytes) -> bytes:
    return payload


async def serve(network: Network, *, poison: bool) -> None:
    network.serve("echo", echo, request_bytes_max=4096)
    host = network._host
    host.set_stream_handler(RAISES, raises)
    host.set_stream_handler(READS_ON, reads_on)
    host.set_stream_handler(NEVER_READS, never_reads)
    pubsub = network._hints._pubsub
    if poison and pubsub is not None:
        pubsub.set_topic_validator(network._hints._topic, poisonous, is_async_validator=False)
    sys.stdout.write(network.addresses[0] + "\n")
    sys.stdout.flush()
    await trio.lowlevel.wait_readable(sys.stdin.fileno())


async def main(options: dict[str, object]) -> None:
    config = NetworkConfig(
        GENESIS,
        gossip=bool(options.get("gossip", True)),
        limits=Limits(**options.get("limits", {})),  # type: ignore[arg-type]  # made by the tests
        measures_off=frozenset(Measure[str(name)] for name in options.get("off", [])),  # type: ignore[attr-defined]  # made by the tests
    )
    seed = bytes([int(str(options.get("seed", 1)))]) * 32
    async with Network.open(config, seed, clock=WallClock()) as network:
        if "member" in options:
            network.set_members([PeerId(str(options["member"]))])
        await serve(network, poison=bool(options.get("poison")))


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
