"""Measures what member links and requests cost between two processes on loopback.

Run ``python -m tests.integration.p2p.measure_links``; prints one JSON object. Not a test: it
asserts nothing, because machines differ.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import trio

from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import PeerId
from tests.integration.p2p.nodes import CONFIG, peer, seed
from tests.integration.p2p.victim import WallClock

ECHO, COUNT, REPORT = b"\x01", b"\x02", b"\x03"
VOTE_BYTES = 200
BLOCK = ECHO + bytes(1024 * 1024)


async def answer(address: str) -> None:
    """Be the other process: echo, count, report."""
    config = replace(CONFIG, bootstrap=(address,))
    async with Network.open(config, seed(2), clock=WallClock()) as network:
        network.set_members([peer(1)])

        async def same(_peer: PeerId, payload: bytes) -> bytes:
            return payload

        network.serve("echo", same, request_bytes_max=VOTE_BYTES)
        async for sender, frame in network.frames():
            if frame[:1] != COUNT:
                network.send(sender, frame)


def milliseconds(times_s: list[float]) -> dict[str, float]:
    """Return the median and the 99th percentile."""
    cuts = statistics.quantiles(times_s, n=100)
    return {"p50_ms": round(1000 * cuts[49], 3), "p99_ms": round(1000 * cuts[98], 3)}


async def measure(network: Network) -> dict[str, object]:
    """Measure against the process that answers."""
    frames = network.frames()
    other = peer(2)
    votes: list[float] = []
    for _ in range(2000):
        began = time.perf_counter()
        network.send(other, ECHO + bytes(VOTE_BYTES - 1))
        await frames.__anext__()
        votes.append(time.perf_counter() - began)
    began = time.perf_counter()
    for number in range(50_000):
        network.send(other, COUNT + bytes(VOTE_BYTES - 1))
        if number % 500 == 499:
            network.send(other, REPORT)
            await frames.__anext__()
    frames_per_s = 50_000 / (time.perf_counter() - began)
    began = time.perf_counter()
    for _ in range(50):
        network.send(other, BLOCK)
        await frames.__anext__()
    megabytes_per_s = 100 * len(BLOCK) / 1e6 / (time.perf_counter() - began)
    asks: list[float] = []
    for _ in range(300):
        began = time.perf_counter()
        await network.ask(other, "echo", bytes(VOTE_BYTES), timeout_s=5, answer_bytes_max=200)
        asks.append(time.perf_counter() - began)
    return {
        "vote_round_trip": milliseconds(votes),
        "frames_per_s": round(frames_per_s),
        "block_echo_mb_per_s_each_way": round(megabytes_per_s / 2),
        "ask": milliseconds(asks),
    }


async def main() -> None:
    """Start the other process, measure, print."""
    async with Network.open(CONFIG, seed(1), clock=WallClock()) as network:
        command = [sys.executable, "-m", "tests.integration.p2p.measure_links"]
        process = subprocess.Popen([*command, network.addresses[0]])
        try:
            network.set_members([peer(2)])
            with trio.fail_after(30):
                while not network.statistics().member_links_up:
                    await trio.sleep(0.1)
            await trio.sleep(1)
            sys.stdout.write(json.dumps(await measure(network)) + "\n")
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    trio.run(answer, sys.argv[1]) if sys.argv[1:] else trio.run(main)
