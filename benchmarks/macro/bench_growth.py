"""Does a node that follows for long take ever more memory? Two nodes, one log that grows fast.

One authorized node orders build requests and decides them, as fast as both nodes go; a
regular node follows: it executes every block and derives files and index. Its memory, and that
of the authorized one, is taken at equal distances. What counts is what the processes made
themselves (anonymous pages), and how that changes in the second half, when caches are full.

    python -m benchmarks.macro.bench_growth [--entries 150000] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.macro.bench_consensus import Bench, Member, committed, submit
from benchmarks.macro.processes import descendants, memory_of
from pyrsia_node.core.link_client import LinkClient
from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.plan import DEVNET_PARAMS
from pyrsia_node.model.limits import BATCH_ITEMS_MAX
from pyrsia_node.model.transactions import (
    AttestBatch,
    FailedItem,
    SignedTransaction,
    sign_transaction,
)
from pyrsia_node.schema.config import Config
from pyrsia_node.store.keys import KeyUse

SAMPLES: Final = 24
TARGET_GROWTH_MIB: Final = 16.0
"""Most that the follower may grow in the second half."""

MIB = 1024 * 1024
MEMBER, FOLLOWER = "authorized-1", "regular-1"


async def size_of(link: LinkClient) -> int:
    """Return how many entries a node has."""
    size = (await link.call("status", {}))["size"]
    assert isinstance(size, int)
    return size


async def sample(cluster: Cluster, member: LinkClient, follower: LinkClient) -> dict[str, Any]:
    """Return how far the nodes are, and the memory of both in MiB."""
    entries = await size_of(member)
    behind = entries - await size_of(follower)
    told: dict[str, Any] = {"entries": entries, "follower behind": behind}
    for label in (MEMBER, FOLLOWER):
        found = [memory_of(pid) for pid in descendants(cluster.pids(label)["node"])]
        told[label] = {
            "PSS MiB": round(sum(each.pss for each in found) / MIB, 1),
            "anonymous MiB": round(sum(each.anonymous for each in found) / MIB, 1),
        }
    return told


def failed(
    bench: Bench, member: Member, seq: int, requests: list[SignedTransaction]
) -> SignedTransaction:
    """Return an answer that decides requests at once, so that none of them stays open."""
    items = tuple(FailedItem(each.id, "BUILD_FAILED", "exit 1") for each in requests)
    body = AttestBatch(member.id, seq, items, {})
    sign = member.keys.signer(KeyUse.TX)
    return sign_transaction(body, network_id=bench.network_id, sign=sign)


async def grow(cluster: Cluster, entries: int) -> list[dict[str, Any]]:
    """Let the log grow to ``entries``; return the samples."""
    async with trio.open_nursery() as nursery:
        bench = Bench(cluster, nursery)
        follower = LinkClient(cluster.nodes[FOLLOWER].layout.core_socket, nursery)
        member, seq = bench.members[0], 0
        samples = [await sample(cluster, member.link, follower)]
        while samples[-1]["entries"] < entries:
            requests = [bench.request(member) for _ in range(BATCH_ITEMS_MAX)]
            async with trio.open_nursery() as senders:
                for each in requests:
                    senders.start_soon(submit, member, each)
            for each in requests:
                await committed(member, each)
            seq += 1
            batch = failed(bench, member, seq, requests)
            await submit(member, batch)
            await committed(member, batch)
            size = await size_of(member.link)
            if size - samples[-1]["entries"] >= entries // SAMPLES:
                samples.append(await sample(cluster, member.link, follower))
                print(samples[-1], flush=True)
        still_open = (await member.link.call("status", {}))["open_requests"]
        assert isinstance(still_open, int)
        assert still_open < 2 * BATCH_ITEMS_MAX, still_open
        nursery.cancel_scope.cancel()
    return samples


def _configure(config: Config) -> Config:
    # Nothing is built: the answers come from here.
    return replace(config, build=replace(config.build, enabled=False))


def run(folder: Path, entries: int) -> dict[str, Any]:
    """Measure."""
    params = replace(DEVNET_PARAMS, open_max=100_000, rate_per_hour=1_000_000, burst=100_000)
    started = time.perf_counter()
    with Cluster.create(
        folder / "net", authorized=1, regular=1, configure=_configure, params=params
    ) as cluster:
        cluster.start()
        cluster.wait_ready(timeout_s=120)
        cluster.wait_connected()
        samples = trio.run(grow, cluster, entries)
    half = samples[len(samples) // 2][FOLLOWER]["anonymous MiB"]
    return {
        "benchmark": "macro.growth",
        "s": round(time.perf_counter() - started, 1),
        "growth of the follower in the second half MiB": round(
            samples[-1][FOLLOWER]["anonymous MiB"] - half, 1
        ),
        "samples": samples,
    }


def main() -> int:
    """Measure, print, write; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="bench_growth")
    parser.add_argument("--entries", type=int, default=150_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as folder:
        told = run(Path(folder), arguments.entries)
    print(json.dumps(told, indent=1))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(told, indent=2) + "\n")
    return int(told["growth of the follower in the second half MiB"] > TARGET_GROWTH_MIB)


if __name__ == "__main__":
    sys.exit(main())
