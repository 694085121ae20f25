"""Where one commit's processor time goes: stacks of one core while four nodes commit, one by one.

A sampling profiler looks at one member's core from outside (``stacks``). Only samples count in
which a thread ran Python. What an idle core does all the same (heartbeats, questions to others) is
sampled first, and taken off. The rest is told twice: by the task that did the work, and by the
layer of code that was running; shares times the processor time of a commit, which the system
counted, are milliseconds.

    python -m benchmarks.macro.profile_commit [--singles 120] [--idle-s 15] [--sampler PATH]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.macro.bench_consensus import MEMBERS, Bench, singles
from benchmarks.macro.processes import ProcessorTime
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

TASKS: Final[Marks] = (
    ("the others' questions, and ours", ("p2p/requests.py", "p2p/ways.py", "multiselect")),
    ("commit: chain, signing the head", ("driver.py:_commit", "_commit (", "_entered (")),
    ("syncs of the log of votes", ("replica/persisting.py",)),
    ("judging and building blocks", ("_ask_chain (",)),
    ("frames: decoding and signatures", ("_admit (",)),
    ("consensus core and its driver", ("replica/driver.py",)),
    ("tiles, index, cosignatures", ("replica/projection.py",)),
    ("gossip", ("libp2p/pubsub", "p2p/hints.py", "hardening/gossip.py")),
    ("member links, sending", ("_feed (", "_pump (")),
    ("member links, receiving", ("p2p/members.py",)),
    ("yamux, reading all streams", ("yamux/yamux.py", "hardening/transport.py")),
    ("pending transactions", ("core/member.py", "replica/pending.py")),
    ("control link", ("core/link_",)),
    ("builds", ("pyrsia_node/builds",)),
    ("catch-up and gossip of heads", ("replica/follow.py", "replica/gossip.py")),
    ("libp2p, other", ("libp2p/", "pyrsia_node/p2p")),
)
"""What a task is for: the first of these that stands anywhere in its stack."""


def task_of(stack: str) -> str:
    """Return the first of ``TASKS`` that the stack is in."""
    return first_in(TASKS, stack) or SCHEDULER


def above_idle(busy: Counter[str], idle: Counter[str], ratio: float) -> list[tuple[str, float]]:
    """Return what ``busy`` has beyond ``ratio`` times ``idle``, as shares, largest first."""
    return shares({name: max(0.0, count - ratio * idle[name]) for name, count in busy.items()})


async def measure(cluster: Cluster, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Sample one core, idle and while it commits; the stacks stay in ``folder``."""
    commits, idle_s, sampler = options.singles, options.idle_s, options.sampler
    pid = cluster.pids(next(iter(cluster.nodes)))["core"]
    async with trio.open_nursery() as nursery:
        bench = Bench(cluster, nursery)
        await singles(bench, MEMBERS)  # The first commits open streams and files.
        before = ProcessorTime.of([pid])
        async with sampled(sampler, pid, folder / "idle"):
            await trio.sleep(idle_s)
        idle_used_s = (ProcessorTime.of([pid]) - before).used_s
        before, started_s = ProcessorTime.of([pid]), time.perf_counter()
        async with sampled(sampler, pid, folder / "busy"):
            times = await singles(bench, commits)
        busy_s = time.perf_counter() - started_s
        used_s = (ProcessorTime.of([pid]) - before).used_s
        nursery.cancel_scope.cancel()
    idle = read_stacks((folder / "idle").read_text(), idle_s)
    busy = read_stacks((folder / "busy").read_text(), busy_s)
    each_ms = 1000 * max(0.0, used_s - idle_used_s * busy_s / idle_s) / commits
    told: dict[str, Any] = {
        "benchmark": "macro.profile_commit",
        "commits": commits,
        "commit_ms_p50_while_sampled": round(statistics.median(times), 2),
        "idle_core_cpu_percent": round(100 * idle_used_s / idle_s, 2),
        "core_cpu_ms_a_commit": round(each_ms, 2),
    }
    for name, name_of in (("tasks", task_of), ("layers", layer_of)):
        parts = above_idle(busy.by(name_of), idle.by(name_of), busy_s / idle_s)
        told[name] = {part: round(share, 4) for part, share in parts}
    return told


def show(told: Mapping[str, Any]) -> None:
    """Print the tables."""
    each_ms = told["core_cpu_ms_a_commit"]
    print(f"{told['commits']} commits, p50 {told['commit_ms_p50_while_sampled']:.1f} ms (sampled)")
    print(f"an idle core uses {told['idle_core_cpu_percent']:.1f} % of a processor")
    print(f"a commit takes {each_ms:.1f} ms of processor in one core of four, of which")
    for name in ("tasks", "layers"):
        print(f"\nby {name}")
        for part, share in told[name].items():
            print(f"  {part:44}{100 * share:6.1f} %{each_ms * share:8.2f} ms")


def main() -> int:
    """Profile, print, write."""
    parser = argparse.ArgumentParser(prog="profile_commit")
    parser.add_argument("--singles", type=int, default=120)
    parser.add_argument("--idle-s", type=float, default=15.0)
    return run_profile(parser, measure, show)


if __name__ == "__main__":
    sys.exit(main())
