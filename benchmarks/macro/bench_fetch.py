"""One large file from four holders through a regular node's gateway, against curl and b3sum.

Five gateways and curl share this machine. Each round first takes the baseline (curl over TLS from
one holder into a file, then b3sum of the file), then starts a gateway with an empty store and lets
curl download the same file through it. Measured: seconds until the client has the last byte, until
the blob is complete, verified, synced and in the store, and how much the gateway's memory grew.

    python -m benchmarks.macro.bench_fetch [--mebibytes 1024] [--rounds 5] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.macro.holder_gateways import HOLDERS, holders
from pyrsia_node.gateway.link import LinkClient
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import FileEntry
from pyrsia_node.ports import Holder
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.blobs import FileBlobStore
from tests.fakes.gateway_process import (
    RunningGateway,
    node,
    run_gateway,
)
from tests.fakes.published_log import document

NAME = "large-1.0-py3-none-any.whl"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Round:
    """Seconds, and bytes of memory, of one round."""

    curl_s: float
    b3sum_s: float
    client_s: float
    stored_s: float
    memory_growth_bytes: int
    gateway_cpu_s: float


def make_file(path: Path, mebibytes: int) -> None:
    """Write bytes that do not compress, different in every block."""
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MIB))


def give(layout: Layout, source: Path, entry: FileEntry) -> None:
    """Put the file into a holder's store by a hard link: one copy in the page cache for all."""
    blob = layout.blobs / "sha256" / entry.sha256[:2] / entry.sha256
    blob.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, blob)
    FileBlobStore(layout.blobs, cached_bytes_max=1 << 40).piece_hashes(entry.sha256)


def describe(path: Path) -> FileEntry:
    """Return what the log says about the file."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        shutil.copy(path, Path(folder) / "copy")
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        store = FileBlobStore(Path(folder) / "blobs", cached_bytes_max=1 << 40)
        info = store.adopt(str(Path(folder) / "copy"), sha256)
    assert info.pieces is not None
    return FileEntry(
        name=NAME,
        size=info.size,
        sha256=Sha256(info.sha256),
        pieces=info.pieces,
        media="application/zip",
        claim="rebuilt",
        origin="upstream",
    )


async def command(*words: str) -> float:
    """Run a command and return its seconds."""
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.DEVNULL)
    code = await process.wait()
    assert code == 0, f"{words[0]} ended with {code}"
    return time.perf_counter() - started


async def baseline(folder: Path, holder: Holder, entry: FileEntry) -> tuple[float, float]:
    """Return the seconds of curl and of b3sum."""
    target = folder / "baseline"
    target.unlink(missing_ok=True)
    url = f"{holder.data_url}/blobs/{entry.sha256}"
    curl = await command("curl", "-sk", "--fail", "-o", str(target), url)
    b3sum = await command("b3sum", str(target))
    assert target.stat().st_size == entry.size
    target.unlink()
    return curl, b3sum


class Memory:
    """The gateway's resident memory, by the kernel's own high-water mark."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._before = self._field("VmRSS")

    def growth_bytes(self) -> int:
        """Return how far it rose at most since this object was made."""
        return self._field("VmHWM") - self._before

    def _field(self, name: str) -> int:
        for line in self._status.read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(name)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def stored(gateway: RunningGateway, sha256: str) -> None:
    """Return when the blob is in the store."""
    client = LinkClient(gateway.layout.gateway_socket)
    while not (await client.call("stat", {"sha256": sha256}))["present"]:
        await asyncio.sleep(0.02)
    client.close()


async def through_gateway(
    folder: Path, layout: Layout, entry: FileEntry
) -> tuple[float, float, int, float]:
    """Return seconds at the client and in the store, memory growth and processor seconds."""
    for blob in layout.blobs.rglob(entry.sha256):
        blob.unlink()
    target = folder / "client"
    target.unlink(missing_ok=True)
    async with run_gateway(layout) as gateway:
        pid = gateway.process.pid
        url = f"{gateway.url}/pypi/files/{entry.sha256}/{NAME}"
        await command(
            "curl", "-s", "--fail", "-o", "/dev/null", f"{gateway.url}/pypi/simple/large/"
        )
        memory, cpu = Memory(pid), cpu_seconds(pid)
        started = time.perf_counter()
        in_store = asyncio.create_task(stored(gateway, entry.sha256))
        client_s = await command("curl", "-s", "--fail", "-o", str(target), url)
        await in_store
        stored_s = time.perf_counter() - started
        growth, cpu = memory.growth_bytes(), cpu_seconds(pid) - cpu
    assert target.stat().st_size == entry.size
    target.unlink()
    return client_s, stored_s, growth, cpu


async def measure(folder: Path, mebibytes: int, rounds: int) -> list[Round]:
    """Run all rounds."""
    source = folder / "source"
    make_file(source, mebibytes)
    entry = describe(source)
    results = []
    fill = partial(give, source=source, entry=entry)
    async with node(folder / "node") as own, holders(folder, fill) as peers:
        own.core.holders = peers
        own.log.accept(document("pkg:pypi/large@1.0", entry))
        for number in range(rounds):
            os.sync()
            curl, b3sum = await baseline(folder, peers[number % HOLDERS], entry)
            os.sync()
            client, in_store, growth, cpu = await through_gateway(folder, own.layout, entry)
            results.append(Round(curl, b3sum, client, in_store, growth, cpu))
            print(_line(results[-1], mebibytes), flush=True)
    return results


def _line(one: Round, mebibytes: int) -> str:
    base = one.curl_s + one.b3sum_s
    return (
        f"curl {one.curl_s:.2f} s + b3sum {one.b3sum_s:.2f} s = {mebibytes / base:.0f} MiB/s | "
        f"client {one.client_s:.2f} s = {100 * base / one.client_s:.0f} % | "
        f"stored {one.stored_s:.2f} s = {100 * base / one.stored_s:.0f} % | "
        f"memory +{one.memory_growth_bytes / MIB:.0f} MiB | cpu {one.gateway_cpu_s:.2f} s"
    )


def summary(results: list[Round], mebibytes: int) -> dict[str, Any]:
    """Return what the documentation quotes: medians over the rounds, and the worst memory."""
    base = [each.curl_s + each.b3sum_s for each in results]
    return {
        "benchmark": "macro.fetch",
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        "mebibytes": mebibytes,
        "holders": HOLDERS,
        "rounds": [vars(each) for each in results],
        "baseline_mib_per_s": round(mebibytes / statistics.median(base), 1),
        "client_mib_per_s": round(mebibytes / statistics.median(r.client_s for r in results), 1),
        "stored_mib_per_s": round(mebibytes / statistics.median(r.stored_s for r in results), 1),
        "client_percent": round(
            100 * statistics.median(b / r.client_s for b, r in zip(base, results, strict=True)), 1
        ),
        "stored_percent": round(
            100 * statistics.median(b / r.stored_s for b, r in zip(base, results, strict=True)), 1
        ),
        "memory_growth_mib_max": round(max(r.memory_growth_bytes for r in results) / MIB, 1),
    }


def main() -> int:
    """Measure, print, write; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="bench_fetch")
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the files go; needs 6 times the size")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-fetch-", dir=arguments.folder) as folder:
        results = asyncio.run(measure(Path(folder), arguments.mebibytes, arguments.rounds))
    told = summary(results, arguments.mebibytes)
    text = json.dumps(told, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text)
    reached = (
        told["stored_percent"] >= 60
        and told["client_percent"] >= 45
        and told["memory_growth_mib_max"] <= 64
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
