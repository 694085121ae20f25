"""The node's registry and Debian's ``docker-registry`` under the same loads, in one run.

Both are on loopback, hold the same content on the same disk, write no access log, and are asked in
turns: in each round every load goes to the one and at once to the other, in changing order. What
counts is the ratio of the two within a round: its median over the rounds, with a 95 % bootstrap
interval. Above 1 the node is ahead; an interval that holds 1 says that nobody is. Beside it stands
what the servers' processes cost, as the kernel counts it.

    python -m benchmarks.macro.bench_registry [--rounds 11] [--seconds 0.5] [--only TEXT]
    python -m benchmarks.macro.bench_registry --control    # the same server twice: nobody is ahead
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import hashlib
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.macro.processes import ProcessorTime, memory_of
from benchmarks.macro.registry_load import (
    Address,
    Answer,
    Client,
    Fresh,
    Load,
    ask_with_care,
    manifest_of,
    read,
    read_anew,
    seed,
    work,
)
from pyrsia_node.devnet.ports import LOOPBACK, free_ports
from tests.fakes.gateway_process import make_data_directory, run_gateway
from tests.fakes.published_log import PublishedLog

REPOSITORY = "bench/app"
KB, MB, GB = 1_000, 1_000_000, 1_000_000_000
GIB = 1024**3
SIZES = (KB, MB, 10 * MB)
RESAMPLES = 10_000
MANIFEST_GOAL = 5.0
OURS, THEIRS = "ours", "docker-registry"


@dataclass
class Server:
    """A running registry and what is in it; ``digests`` by size, the manifest's under 0."""

    name: str
    address: Address
    pid: int
    digests: dict[int, str] = field(default_factory=dict)
    answers: dict[bytes, Answer] = field(default_factory=dict)

    def answer_to(self, request: bytes) -> Answer:
        """Return the form of the answer to a request, learned once; the digest is checked."""
        if request not in self.answers:
            path = request.split()[1].decode()
            digest = path.rpartition("/")[2] if "/blobs/" in path else self.digests[0]
            self.answers[request] = ask_with_care(self.address, request, digest)
        return self.answers[request]


Run = Callable[[float], Load]
"""Loads a server for so many seconds."""

Workload = Callable[[Server], Run]
"""Gets ready to load a server; what this costs is not measured."""


@dataclass(frozen=True)
class Row:
    """One line of the table. ``unit`` is what the rate counts."""

    name: str
    unit: str
    load: Workload


@dataclass
class Taken:
    """What was measured of one server in one row."""

    rates: list[float] = field(default_factory=list)
    operations: int = 0
    body_bytes: int = 0
    cpu_s: float = 0.0
    client_share: list[float] = field(default_factory=list)


def reads(path: Callable[[Server], str], *, method: str = "GET", clients: int = 1) -> Workload:
    """Return the load of equal requests over connections that stay open."""

    def begin(server: Server) -> Run:
        request = server.address.request(method, path(server))
        answer = server.answer_to(request)
        return lambda seconds: read(
            server.address, request, answer, clients=clients, seconds=seconds
        )

    return begin


def manifest(_server: Server) -> str:
    """Return the path of the manifest by its tag."""
    return f"/v2/{REPOSITORY}/manifests/1"


def blob(size: int) -> Callable[[Server], str]:
    """Return the path of the blob of a size."""
    return lambda server: f"/v2/{REPOSITORY}/blobs/{server.digests[size]}"


def manifest_anew(server: Server) -> Run:
    """HEAD a manifest over a new connection each time."""
    request = server.address.request("HEAD", manifest(server), closes=True)
    answer = server.answer_to(request)
    return lambda seconds: read_anew(server.address, request, answer, seconds=seconds)


def pushes(size: int, chunks: int) -> Workload:
    """Return the load of pushes of new blobs."""
    made = functools.cache(Fresh)

    def step(client: Client, _number: int) -> int:
        digest, parts = made(size).next()
        client.push(digest, parts, chunks=chunks)
        return size

    return lambda server: (
        lambda seconds: work(server.address, REPOSITORY, clients=1, seconds=seconds, step=step)
    )


def mixed(clients: int) -> Workload:
    """Return the load of three pulls (manifest, 1 MB layer) for one push (1 MB layer, manifest)."""
    made = functools.cache(Fresh)

    def begin(server: Server) -> Run:
        def step(client: Client, number: int) -> int:
            if number % 4:
                client.get("manifests/1")
                return len(client.get(f"blobs/{server.digests[MB]}"))
            digest, parts = made(MB).next()
            client.push(digest, parts, chunks=1)
            document = manifest_of([server.digests[KB], digest], (KB, MB))
            client.put_manifest(f"sha256:{hashlib.sha256(document).hexdigest()}", document)
            return MB

        made(MB)
        return lambda seconds: work(
            server.address, REPOSITORY, clients=clients, seconds=seconds, step=step
        )

    return begin


def rows() -> list[Row]:
    """Return all loads in the order of the table."""
    return [
        *(
            Row(
                f"manifest {method}, {_clients(clients)}",
                "requests",
                reads(manifest, method=method, clients=clients),
            )
            for method in ("GET", "HEAD")
            for clients in (1, 8, 64)
        ),
        Row("manifest HEAD, a new connection each", "requests", manifest_anew),
        *(
            Row(f"blob GET {label}, {_clients(clients)}", unit, reads(blob(size), clients=clients))
            for size, label, unit in ((KB, "1 kB", "requests"), (MB, "1 MB", "MB"))
            for clients in (1, 8)
        ),
        Row("blob GET 10 MB", "MB", reads(blob(10 * MB))),
        Row("blob GET 1 GB", "MB", reads(blob(GB))),
        *(
            Row(f"push {label}, {manner}", "MB", pushes(size, chunks))
            for size, label in ((MB, "1 MB"), (10 * MB, "10 MB"))
            for manner, chunks in (("monolithic", 1), ("in 4 chunks", 4))
        ),
        Row("mixed, 3 pulls to 1 push, 8 clients", "operations", mixed(8)),
    ]


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


@contextlib.contextmanager
def debian_server(folder: Path) -> Iterator[Server]:
    """Run ``docker-registry`` without its logs."""
    folder.mkdir()
    (port,) = free_ports(1)
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {"addr": f"{LOOPBACK}:{port}", "secret": "of the benchmark"},
    }
    path = folder / "config.yml"
    path.write_text(json.dumps(config))
    process = subprocess.Popen(
        ["docker-registry", "serve", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = Address(LOOPBACK, port)
        _wait_for(address, process)
        yield Server(THEIRS, address, process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait_for(address: Address, process: subprocess.Popen[bytes]) -> None:
    while True:
        assert process.poll() is None, "docker-registry ended"
        with contextlib.suppress(OSError):
            address.connect().close()
            return
        time.sleep(0.02)


def fill(server: Server, *, with_gigabyte: bool) -> None:
    """Push what the loads read."""
    *blobs, manifest = seed(server.address, REPOSITORY, "1", SIZES)
    server.digests = {0: manifest, **dict(zip(SIZES, blobs, strict=True))}
    if with_gigabyte:
        client = Client(server.address, REPOSITORY)
        digest, parts = Fresh(GB).next()
        client.push(digest, parts, chunks=1)
        client.close()
        server.digests[GB] = digest


def measure(
    servers: list[Server], chosen: list[Row], rounds: int, seconds: float
) -> dict[str, dict[str, Taken]]:
    """Run every row on both servers in every round."""
    taken = {row.name: {server.name: Taken() for server in servers} for row in chosen}
    for number in range(rounds):
        for place, row in enumerate(chosen):
            order = servers if (number + place) % 2 == 0 else servers[::-1]
            for server in order:
                _measure_one(server, row, taken[row.name][server.name], seconds)
        print(f"round {number + 1} of {rounds}", file=sys.stderr, flush=True)
    return taken


def _measure_one(server: Server, row: Row, taken: Taken, seconds: float) -> None:
    run = row.load(server)
    before = ProcessorTime.of([server.pid])
    load = run(seconds)
    spent = ProcessorTime.of([server.pid]) - before
    amount = load.body_bytes / MB if row.unit == "MB" else load.operations
    taken.rates.append(amount / load.seconds)
    taken.operations += load.operations
    taken.body_bytes += load.body_bytes
    taken.cpu_s += spent.used_s
    taken.client_share.append(load.client_s / load.seconds)


@dataclass(frozen=True)
class Verdict:
    """One row of the result. CPU is seconds per GiB, or per 1,000 requests or operations."""

    name: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    cpu_ours: float
    cpu_theirs: float
    client_share: float

    @property
    def word(self) -> str:
        """Say who is ahead."""
        return "ahead" if self.low > 1 else "behind" if self.high < 1 else "level"


def judge(row: Row, ours: Taken, theirs: Taken) -> Verdict:
    """Return the median ratio of the rounds and where it lies in 95 of 100 resamples."""
    ratios = [a / b for a, b in zip(ours.rates, theirs.rates, strict=True)]
    chance = random.Random(1)  # noqa: S311 - resampling, no secret
    medians = sorted(
        statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES)
    )
    return Verdict(
        name=row.name,
        unit=row.unit,
        ours=statistics.median(ours.rates),
        theirs=statistics.median(theirs.rates),
        ratio=statistics.median(ratios),
        low=medians[int(RESAMPLES * 0.025)],
        high=medians[int(RESAMPLES * 0.975) - 1],
        cpu_ours=_cpu(row, ours),
        cpu_theirs=_cpu(row, theirs),
        client_share=max(statistics.median(each.client_share) for each in (ours, theirs)),
    )


def _cpu(row: Row, taken: Taken) -> float:
    if row.unit == "MB":
        return taken.cpu_s / (taken.body_bytes / GIB)
    return taken.cpu_s / (taken.operations / 1000)


def table(verdicts: list[Verdict]) -> str:
    """Return the result as a table in Markdown."""
    lines = [
        "| load | ours | docker-registry | ratio (95 %) | | CPU s, ours | CPU s, theirs |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in verdicts:
        per = "/GiB" if each.unit == "MB" else "/1,000"
        lines.append(
            f"| {each.name} | {each.ours:,.0f} {each.unit}/s | {each.theirs:,.0f} |"
            f" {each.ratio:.2f} ({each.low:.2f}-{each.high:.2f}) | {each.word} |"
            f" {each.cpu_ours:.2f}{per} | {each.cpu_theirs:.2f}{per} |"
        )
    return "\n".join(lines)


@contextlib.asynccontextmanager
async def our_server(folder: Path) -> AsyncIterator[Server]:
    """Run a gateway with an empty log."""
    folder.mkdir()
    layout = make_data_directory(folder)
    PublishedLog(folder).close()
    async with run_gateway(layout) as gateway:
        host, _, port = gateway.url.removeprefix("http://").rpartition(":")
        yield Server(OURS, Address(host, int(port)), gateway.process.pid)


@contextlib.asynccontextmanager
async def both_servers(folder: Path, *, control: bool) -> AsyncIterator[list[Server]]:
    """Run ours and Debian's, or for a control Debian's twice."""
    async with contextlib.AsyncExitStack() as stack:
        if control:
            ours = stack.enter_context(debian_server(folder / "control"))
            ours.name = OURS
        else:
            ours = await stack.enter_async_context(our_server(folder / "node"))
        yield [ours, stack.enter_context(debian_server(folder / "debian"))]


async def measured_by(arguments: argparse.Namespace) -> dict[str, object]:
    """Start both servers and measure."""
    chosen = [row for row in rows() if arguments.only in row.name]
    with_gigabyte = any("1 GB" in row.name for row in chosen)
    folder = Path(tempfile.mkdtemp(prefix="bench-registry-"))
    try:
        async with both_servers(folder, control=arguments.control) as servers:
            idle = {server.name: memory_of(server.pid).rss for server in servers}
            for server in servers:
                await asyncio.to_thread(fill, server, with_gigabyte=with_gigabyte)
            taken = await asyncio.to_thread(
                measure, servers, chosen, arguments.rounds, arguments.seconds
            )
            after = {server.name: memory_of(server.pid).rss for server in servers}
    finally:
        shutil.rmtree(folder)
    verdicts = [judge(row, taken[row.name][OURS], taken[row.name][THEIRS]) for row in chosen]
    print(table(verdicts))
    for name in (OURS, THEIRS):
        print(f"{name}: {idle[name] / MB:.0f} MB idle, {after[name] / MB:.0f} MB in the end")
    return {
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "is_control": arguments.control,
        "manifest_goal": MANIFEST_GOAL,
        "rows": [asdict(each) | {"word": each.word} for each in verdicts],
        "rates": {
            row: {name: each.rates for name, each in by.items()} for row, by in taken.items()
        },
        "memory_bytes": {"idle": idle, "after": after},
    }


def failures(measured: dict[str, object]) -> list[str]:
    """Return the rows in which the node is behind."""
    found = measured["rows"]
    assert isinstance(found, list)
    return [row["name"] for row in found if row["word"] == "behind"]


def goals_missed(measured: dict[str, object]) -> list[str]:
    """Return what is more than the target and was not reached."""
    found = measured["rows"]
    assert isinstance(found, list)
    level = [f"{row['name']}: {row['word']}" for row in found if row["word"] != "ahead"]
    slow = [
        f"{row['name']}: {row['ratio']:.1f}, the goal is {MANIFEST_GOAL}"
        for row in found
        if row["name"].startswith("manifest") and row["ratio"] < MANIFEST_GOAL
    ]
    return level + slow


def main() -> int:
    """Measure, print, and tell by the exit code whether the node is behind anywhere."""
    parser = argparse.ArgumentParser(prog="bench_registry")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", default="", help="part of the rows' names")
    parser.add_argument("--control", action="store_true", help="docker-registry against itself")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    measured = asyncio.run(measured_by(arguments))
    for each in goals_missed(measured):
        print(f"goal missed: {each}")
    behind = failures(measured)
    if arguments.out:
        arguments.out.write_text(json.dumps({**measured, "failures": behind}, indent=2))
    return int(bool(behind))


if __name__ == "__main__":
    sys.exit(main())
