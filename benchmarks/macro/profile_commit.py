"""Where one commit's processor time goes: stacks of one core while four nodes commit, one by one.

A sampling profiler (``py-spy``: ``pip install py-spy``) looks at one member's core from outside, so
that nothing in the core is changed or slowed down. Only samples count in which a thread ran Python.
What an idle core does all the same (heartbeats, questions to others) is sampled first, and taken
off. The rest is told twice: by the task that did the work, and by the layer of code that was
running; shares times the processor time of a commit, which the system counted, are milliseconds.

    python -m benchmarks.macro.profile_commit [--singles 120] [--idle-s 15] [--sampler PATH]
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.macro.bench_consensus import MEMBERS, Bench, singles
from benchmarks.macro.processes import ProcessorTime
from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.plan import DEVNET_PARAMS
from pyrsia_node.schema.config import Config

SAMPLES_PER_S: Final = 250
SAMPLER_S: Final = 30.0
"""For the sampler to begin, and to write what it has."""

SCHEDULER: Final = "trio's scheduler, the interpreter"
Marks = Sequence[tuple[str, Sequence[str]]]

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

LAYERS: Final[Marks] = (
    ("Noise: encrypting, decrypting", ("security/noise", "/noise/", "cryptography/")),
    ("yamux", ("stream_muxer", "hardening/transport.py")),
    ("libp2p, other", ("libp2p/", "multiaddr", "base58", "google/")),
    ("signatures (libsodium)", ("/nacl/", "consensus/ed25519.py")),
    ("consensus core", ("/consensus/",)),
    ("member driver, log of votes", ("pyrsia_node/replica",)),
    ("ledger and model", ("pyrsia_node/ledger", "pyrsia_node/model", "pyrsia_node/tlog")),
    ("stores", ("pyrsia_node/store",)),
    ("our side of the network", ("pyrsia_node/p2p",)),
    ("core: links, methods", ("pyrsia_node/",)),
)
"""By the innermost frame that is not the scheduler's or the standard library's: whose code ran."""


@dataclass(frozen=True)
class Profile:
    """Samples by stack, outermost frame first, and how long was sampled."""

    stacks: Mapping[str, int]
    seconds: float

    def by(self, name_of: Callable[[str], str]) -> Counter[str]:
        """Return samples by what ``name_of`` says of a stack."""
        found: Counter[str] = Counter()
        for stack, samples in self.stacks.items():
            found[name_of(stack)] += samples
        return found


def task_of(stack: str) -> str:
    """Return the first of ``TASKS`` that the stack is in."""
    for name, parts in TASKS:
        if any(part in stack for part in parts):
            return name
    return SCHEDULER


def layer_of(stack: str) -> str:
    """Return whose code ran: the layer of the innermost frame that has one."""
    for frame in reversed(stack.split(";")):
        for name, parts in LAYERS:
            if any(part in frame for part in parts):
                return name
    return SCHEDULER


def read_stacks(text: str, seconds: float) -> Profile:
    """Read the sampler's raw form: frames joined by ``;``, a space, a count."""
    stacks: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        stacks[stack] += int(samples)
    return Profile(stacks, seconds)


def above_idle(busy: Counter[str], idle: Counter[str], ratio: float) -> list[tuple[str, float]]:
    """Return what ``busy`` has beyond ``ratio`` times ``idle``, as shares, largest first."""
    extra = {name: max(0.0, count - ratio * idle[name]) for name, count in busy.items()}
    total = sum(extra.values()) or 1.0
    return sorted(((name, each / total) for name, each in extra.items()), key=lambda one: -one[1])


@asynccontextmanager
async def _sampled(sampler: str, pid: int, out: Path) -> AsyncIterator[None]:
    words = [sampler, "record", "--pid", str(pid), "--rate", str(SAMPLES_PER_S), "--gil"]
    words += ["--nonblocking", "--full-filenames", "--format", "raw", "--output", str(out)]
    said = out.with_suffix(".said")
    # Not into a pipe: a sampler that nobody reads stands still, and with it whom it looks at.
    with said.open("wb") as file:
        process = await trio.lowlevel.open_process(words, stdout=file, stderr=file)
    with trio.fail_after(SAMPLER_S):
        while not said.stat().st_size:
            await trio.sleep(0.05)
    yield
    process.send_signal(signal.SIGINT)
    with trio.fail_after(SAMPLER_S):
        await process.wait()


async def measure(
    cluster: Cluster, *, commits: int, idle_s: float, sampler: str, folder: Path
) -> dict[str, Any]:
    """Sample one core, idle and while it commits."""
    pid = cluster.pids(next(iter(cluster.nodes)))["core"]
    async with trio.open_nursery() as nursery:
        bench = Bench(cluster, nursery)
        await singles(bench, MEMBERS)  # The first commits open streams and files.
        before = ProcessorTime.of([pid])
        async with _sampled(sampler, pid, folder / "idle"):
            await trio.sleep(idle_s)
        idle_used_s = (ProcessorTime.of([pid]) - before).used_s
        before, started_s = ProcessorTime.of([pid]), time.perf_counter()
        async with _sampled(sampler, pid, folder / "busy"):
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
        shares = above_idle(busy.by(name_of), idle.by(name_of), busy_s / idle_s)
        told[name] = {part: round(share, 4) for part, share in shares}
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


def _configure(config: Config) -> Config:
    return replace(config, build=replace(config.build, enabled=False))


def main() -> int:
    """Profile, print, write."""
    parser = argparse.ArgumentParser(prog="profile_commit")
    parser.add_argument("--singles", type=int, default=120)
    parser.add_argument("--idle-s", type=float, default=15.0)
    parser.add_argument("--sampler", default=shutil.which("py-spy"))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for stacks and the network")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.sampler is None:
        sys.stderr.write("profile_commit: no sampler: `pip install py-spy`, or --sampler PATH\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="profile-commit-") as name:
        folder = arguments.keep or Path(name)
        with Cluster.create(
            folder / "net",
            authorized=MEMBERS,
            regular=0,
            configure=_configure,
            params=DEVNET_PARAMS,
        ) as cluster:
            cluster.start()
            cluster.wait_ready(timeout_s=120)
            cluster.wait_connected()

            async def run() -> dict[str, Any]:
                return await measure(
                    cluster,
                    commits=arguments.singles,
                    idle_s=arguments.idle_s,
                    sampler=arguments.sampler,
                    folder=folder,
                )

            told = trio.run(run)
    show(told)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(told, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
