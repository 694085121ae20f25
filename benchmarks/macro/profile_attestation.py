"""Where an attested item's processor time goes, while four nodes order attestations at full load.

The load is that of ``bench_consensus``: batches of 110 items by every member, as fast as they are
taken. One core is sampled from outside (``stacks``), also where a thread is in a system call or in
a library without the interpreter, since much of this load is bytes that go to sockets and files.
The database's own threads run no Python; the system counts them by themselves. Shares times the
processor time of an item in this core are microseconds, told by the task and by whose code ran.

The leader changes with every view, so each core leads a quarter of the blocks and follows in three
quarters: what it does as leader and as follower alone is told for one item, too.

    python -m benchmarks.macro.profile_attestation [--requests 3300] [--sampler PATH]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.macro.bench_consensus import MEMBERS, Bench, all_at_once
from benchmarks.macro.index_lag import NodeLag, watched
from benchmarks.macro.processes import ProcessorTime, database_s
from benchmarks.macro.stacks import (
    SCHEDULER,
    Marks,
    first_in,
    layer_of,
    read_stacks,
    run_profile,
    sampled,
    shares,
)
from pyrsia_node.devnet.cluster import Cluster

SAMPLES_PER_S: Final = 200

JUDGING: Final = "blocks of others: judging (follower)"
BUILDING: Final = "own blocks: building (leader)"
DATABASE: Final = "LevelDB's own threads: tables, compression"

TASKS: Final[Marks] = (
    ("what waits: judging again after a block", ("PendingTransactions.committed",)),
    ("the door: reading a batch, signature, rules", ("Chain.check_transaction",)),
    (JUDGING, ("Chain.check_body",)),
    (BUILDING, ("Chain.build_body",)),
    ("commit: records, sums, one synced write", ("Chain.commit",)),
    ("search index", ("ledger/index",)),
    ("tiles, certificates", ("ledger/tiles.py", "ledger/certificates.py")),
    ("heads: cosignatures, publishing", ("replica/projection.py", "ledger/publish.py")),
    ("own batches: one synced write each", ("PendingTransactions.submit",)),
    ("log of votes", ("replica/persisting.py", "replica/wal.py", "consensus/wal.py")),
    ("sending: yamux, Noise, socket", ("_write_frame", "YamuxStream.write", "_feed (", "_pump (")),
    ("receiving: socket, Noise, yamux", ("yamux/yamux.py", "hardening/transport.py")),
    ("gossip", ("libp2p/pubsub", "p2p/hints.py", "hardening/gossip.py")),
    ("questions among nodes", ("p2p/requests.py", "p2p/ways.py", "multiselect")),
    ("control link: the benchmark's own questions", ("core/link_",)),
    ("consensus core, driver, frames", ("/consensus/", "replica/driver.py", "core/member")),
    ("woken by the network: epoll, the turn", ("EpollIOManager.get_events",)),
    ("catch-up and gossip of heads", ("replica/follow.py", "replica/gossip.py")),
    ("libp2p, other", ("libp2p/", "pyrsia_node/p2p")),
)
"""What a task is for: the first of these that stands anywhere in its stack."""


def task_of(stack: str) -> str:
    """Return the first of ``TASKS`` that the stack is in."""
    return first_in(TASKS, stack) or SCHEDULER


def by_role(tasks: Mapping[str, float]) -> dict[str, float]:
    """Return what an item costs the core that leads its block, and one that follows, in us.

    Args:
        tasks: Microseconds by task, of a core that leads every ``MEMBERS``-th block.
    """
    building = tasks.get(BUILDING, 0.0) * MEMBERS
    judging = tasks.get(JUDGING, 0.0) * MEMBERS / (MEMBERS - 1)
    alike = sum(tasks.values()) - tasks.get(BUILDING, 0.0) - tasks.get(JUDGING, 0.0)
    return {
        "building it, as leader": round(building, 1),
        "judging it, as follower": round(judging, 1),
        "all else, whoever leads": round(alike, 1),
    }


async def measure(cluster: Cluster, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Sample one core while the items are ordered and until all are derived."""
    requests, sampler = options.requests, options.sampler
    pid = cluster.pids(next(iter(cluster.nodes)))["core"]
    async with trio.open_nursery() as nursery:
        bench = Bench(cluster, nursery)
        own = bench.requests(requests)
        await all_at_once(bench, own)
        load = partial(all_at_once, bench, bench.batches(own))
        lags = [
            NodeLag(member.link, node.layout.root)
            for member, node in zip(bench.members, cluster.members, strict=True)
        ]
        before, database_before_s = ProcessorTime.of([pid]), database_s(pid)
        async with sampled(sampler, pid, folder / "busy", rate=SAMPLES_PER_S, only_python=False):
            seconds = await watched(load, lags)
        used_s = (ProcessorTime.of([pid]) - before).used_s
        in_database_s = database_s(pid) - database_before_s
        nursery.cancel_scope.cancel()
    for lag in lags:
        lag.close()
    items = requests * MEMBERS
    profile = read_stacks((folder / "busy").read_text(), seconds)
    python_us = 1e6 * (used_s - in_database_s) / items
    told: dict[str, Any] = {
        "benchmark": "macro.profile_attestation",
        "items": items,
        "items_per_s_while_sampled": round(items / seconds, 1),
        "samples": sum(profile.stacks.values()),
        "core_cpu_us_an_item": round(1e6 * used_s / items, 1),
    }
    for name, name_of in (("tasks", task_of), ("layers", layer_of)):
        parts = {part: python_us * share for part, share in shares(profile.by(name_of))}
        parts[DATABASE] = 1e6 * in_database_s / items
        told[name] = {part: round(us, 1) for part, us in sorted(parts.items(), key=_largest)}
    told["roles"] = by_role(told["tasks"])
    return told


def _largest(part: tuple[str, float]) -> float:
    return -part[1]


def show(told: Mapping[str, Any]) -> None:
    """Print the tables."""
    each_us = told["core_cpu_us_an_item"]
    print(f"{told['items']} items at {told['items_per_s_while_sampled']:.0f}/s (sampled)")
    print(f"an item takes {each_us:.0f} us of processor in one core of four, of which")
    for name in ("tasks", "layers", "roles"):
        print(f"\nby {name}")
        for part, us in told[name].items():
            print(f"  {part:48}{100 * us / each_us:6.1f} %{us:8.1f} us")


def main() -> int:
    """Profile, print, write."""
    parser = argparse.ArgumentParser(prog="profile_attestation")
    parser.add_argument("--requests", type=int, default=3300)
    return run_profile(parser, measure, show)


if __name__ == "__main__":
    sys.exit(main())
