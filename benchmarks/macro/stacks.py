"""Stacks of a running core, sampled from outside, and the shares of what they were in.

The sampler is ``py-spy`` (``pip install py-spy``): nothing in the core is changed or slowed down.
What counts as a share, and of what, is the business of the two profiles that use this:
``profile_commit`` and ``profile_attestation``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio

from benchmarks.macro.bench_consensus import network
from pyrsia_node.devnet.cluster import Cluster

SAMPLES_PER_S: Final = 250
SAMPLER_S: Final = 30.0
"""For the sampler to begin, and to write what it has."""

SCHEDULER: Final = "trio's scheduler, the interpreter"
"""What no mark is found in."""

Marks = Sequence[tuple[str, Sequence[str]]]
"""Names, and the parts of a frame's text by which a stack gets the name: the first that fits."""

Measure = Callable[[Cluster, argparse.Namespace, Path], Awaitable[dict[str, Any]]]
"""Measures a network by the options of the command line; stacks go into the folder."""

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


def first_in(marks: Marks, text: str) -> str | None:
    """Return the first name of which a mark stands in ``text``: a stack, or one frame."""
    for name, parts in marks:
        if any(part in text for part in parts):
            return name
    return None


def layer_of(stack: str) -> str:
    """Return whose code ran: the layer of the innermost frame that has one."""
    layers = (first_in(LAYERS, frame) for frame in reversed(stack.split(";")))
    return next((layer for layer in layers if layer is not None), SCHEDULER)


def read_stacks(text: str, seconds: float) -> Profile:
    """Read the sampler's raw form: frames joined by ``;``, a space, a count."""
    stacks: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, samples = line.rpartition(" ")
        stacks[stack] += int(samples)
    return Profile(stacks, seconds)


def shares(samples: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return each name's part of the whole, the largest first."""
    total = sum(samples.values()) or 1.0
    found = ((name, each / total) for name, each in samples.items())
    return sorted(found, key=lambda one: -one[1])


@asynccontextmanager
async def sampled(
    sampler: str, pid: int, out: Path, *, rate: int = SAMPLES_PER_S, only_python: bool = True
) -> AsyncIterator[None]:
    """Sample a process within the context; the stacks are in ``out`` afterwards.

    Args:
        sampler: The program.
        pid: The process.
        out: Where the stacks go, in the raw form.
        rate: Samples a second.
        only_python: Count a thread only while it holds the interpreter. Else all that run count,
            in a system call or in a library, too.
    """
    words = [sampler, "record", "--pid", str(pid), "--rate", str(rate)]
    words += ["--gil"] if only_python else []
    words += ["--nonblocking", "--full-filenames", "--format", "raw", "--output", str(out)]
    said = out.with_suffix(".said")
    # Not into a pipe: a sampler that nobody reads stands still, and with it whom it looks at.
    with said.open("wb") as file:
        process = await trio.lowlevel.open_process(words, stdout=file, stderr=file)
    with trio.fail_after(SAMPLER_S):
        while not said.stat().st_size:
            await trio.sleep(0.05)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        with trio.fail_after(SAMPLER_S):
            await process.wait()


def run_profile(
    parser: argparse.ArgumentParser, measure: Measure, show: Callable[[Mapping[str, Any]], None]
) -> int:
    """Profile a network of four as the command line says, print, write; return the exit code.

    Ends the program with a hint where there is no sampler.
    """
    parser.add_argument("--sampler", default=shutil.which("py-spy"))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for stacks and the network")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    arguments = parser.parse_args()
    if arguments.sampler is None:
        parser.error("no sampler: `pip install py-spy`, or --sampler PATH")
    with tempfile.TemporaryDirectory(prefix=f"{parser.prog}-") as name:
        folder = arguments.keep or Path(name)
        with network(folder / "net") as cluster:
            told = trio.run(measure, cluster, arguments, folder)
    show(told)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(told, indent=2) + "\n")
    return 0
