"""``mvn dependency:resolve`` of 200 artifacts through a node, against the plain upstream server.

The artifacts are synthetic: a tree of dependencies, jars of 20 to 200 KB that do not compress. They
are in a real log, their bytes at four holders, each a gateway of its own. Each round takes the
plain server (Go's file server over a folder with files and checksums), then the node with an empty
store (cold: every byte comes from peers, checked) and again (warm). Maven is the real one, each
time with a local repository that has its own plugin and nothing else. Beside it stands what the
start of Java and of Maven alone takes, and the same files asked for by curl, a client that costs
next to nothing: there the servers are compared, not what Maven does around them.

    python -m benchmarks.macro.bench_maven [--artifacts 200] [--rounds 7] [--out FILE.json]

Targets: warm at most 1.1 times, cold at most 1.3 times the plain server, by the median of the
rounds' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.macro.holder_gateways import HOLDERS, holders
from pyrsia_node.devnet.maven_project import MavenClient
from pyrsia_node.devnet.maven_repository import debian_repository, serve_repository
from pyrsia_node.model.documents import FileEntry
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.blobs import FileBlobStore
from tests.fakes.debian_maven import Gav
from tests.fakes.gateway_process import (
    CONFIG,
    FakeCore,
    make_data_directory,
    run_gateway,
)
from tests.fakes.published_log import PublishedLog, document, file_entry

CHILDREN = 4
"""Dependencies of an artifact: the tree is three to four levels deep."""

GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.5.0:resolve"
CONNECTIONS = 5
"""As many as Maven opens."""

WARM_MAX, COLD_MAX = 1.1, 1.3
JAR_BYTES = (20_000, 200_000)


@dataclass(frozen=True)
class Artifact:
    """One artifact: coordinates, its files by name, what it depends on."""

    gav: Gav
    files: dict[str, bytes]
    needs: Sequence[Gav]


@dataclass(frozen=True)
class Round:
    """Seconds of one round."""

    plain_s: float
    cold_s: float
    warm_s: float
    curl_plain_s: float
    curl_cold_s: float
    curl_warm_s: float


def make_artifacts(count: int) -> list[Artifact]:
    """Return artifacts of which each needs the next ones of the tree; the same ones each time."""
    draw = random.Random(6)  # noqa: S311 - the same again, and no secret in it
    gavs = [Gav(f"org.bench.group{n % 20:02}", f"part-{n:03}", "1.0") for n in range(count)]
    found = []
    for number, gav in enumerate(gavs):
        children = gavs[CHILDREN * number + 1 : CHILDREN * number + 1 + CHILDREN]
        stem = f"{gav.artifact}-{gav.version}"
        files = {f"{stem}.jar": _jar(draw), f"{stem}.pom": pom(gav, children)}
        found.append(Artifact(gav, files, children))
    return found


def pom(gav: Gav, needs: Sequence[Gav]) -> bytes:
    """Return a pom with dependencies."""
    listed = "".join(f"<dependency>{_coordinates(each)}</dependency>" for each in needs)
    return (
        f"<project><modelVersion>4.0.0</modelVersion>{_coordinates(gav)}"
        f"<dependencies>{listed}</dependencies></project>\n"
    ).encode()


def _coordinates(gav: Gav) -> str:
    return (
        f"<groupId>{gav.group}</groupId><artifactId>{gav.artifact}</artifactId>"
        f"<version>{gav.version}</version>"
    )


def _jar(draw: random.Random) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo("data.bin")
        archive.writestr(entry, draw.randbytes(draw.randint(*JAR_BYTES)))
    return buffer.getvalue()


def write_repository(folder: Path, artifacts: Sequence[Artifact]) -> None:
    """Lay the artifacts out as a Maven repository, with the checksums that Maven asks for."""
    for each in artifacts:
        place = folder / each.gav.folder
        place.mkdir(parents=True)
        for name, data in each.files.items():
            (place / name).write_bytes(data)
            checksum = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            (place / f"{name}.sha1").write_text(checksum)


@contextmanager
def plain_server(folder: Path, work: Path) -> Iterator[str]:
    """Build and run the plain server in a process of its own; yield its URL."""
    program = work / "static"
    source = Path(__file__).parent / "static" / "main.go"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "GOCACHE": str(work / "go-cache"),
        "GO111MODULE": "off",
    }
    subprocess.run(["go", "build", "-o", program, source], env=environment, check=True)
    process = subprocess.Popen([program, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/maven2"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _fill(layout: Layout, contents: Sequence[bytes]) -> None:
    store = FileBlobStore(layout.blobs, cached_bytes_max=1 << 40)
    for data in contents:
        file = layout.root / "incoming"
        file.write_bytes(data)
        store.adopt(str(file), hashlib.sha256(data).hexdigest())


class Client:
    """Resolves the tree with Maven, or asks for the same files with curl."""

    def __init__(self, folder: Path, artifacts: Sequence[Artifact]) -> None:
        self._folder = folder
        self._seed = folder / "seed"
        self.project = folder / "project"
        self.project.mkdir()
        gav = Gav("org.bench", "all", "1.0")
        (self.project / "pom.xml").write_bytes(pom(gav, [artifacts[0].gav]))
        self._empty = folder / "empty"
        self._empty.mkdir()
        (self._empty / "pom.xml").write_bytes(pom(gav, []))
        self._names = [f"{each.gav.folder}/{name}" for each in artifacts for name in each.files]

    async def seed(self, url: str) -> None:
        """Fill the local repository that every run begins with: Maven's plugin, nothing else."""
        await self._maven(MavenClient(self._seed, url), self._empty)

    async def resolve(self, url: str, *, empty: bool = False) -> float:
        """Return the seconds of Maven; every file must have come."""
        home = self._folder / "run"
        shutil.rmtree(home, ignore_errors=True)
        shutil.copytree(self._seed, home, copy_function=os.link)
        client = MavenClient(home, url)
        seconds = await self._maven(client, self._empty if empty else self.project)
        if not empty:
            missing = [each for each in self._names if not (client.repository / each).is_file()]
            assert not missing, f"{len(missing)} files are missing, such as {missing[0]}"
        return seconds

    async def curl(self, url: str) -> float:
        """Return the seconds of curl for every file and its checksum."""
        listing = self._folder / "curl.config"
        asked = [f"{url}/{name}{ending}" for name in self._names for ending in ("", ".sha1")]
        listing.write_text("".join(f'url = "{each}"\noutput = "/dev/null"\n' for each in asked))
        parallel = ("--parallel", "--parallel-max", str(CONNECTIONS))
        return await _timed("curl", "-s", "--fail", *parallel, "--config", str(listing))

    async def _maven(self, client: MavenClient, project: Path) -> float:
        # A link to a file of the seed must not be written through: Maven replaces its settings.
        (client.home / "settings.xml").unlink(missing_ok=True)
        return await _timed(*client.command(project, GOAL), environment=client.environment)


async def _timed(*words: str, environment: dict[str, str] | None = None) -> float:
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"{words[0]}: {out.decode()[-800:]}"
    return time.perf_counter() - started


async def measure(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Run all rounds; return what was measured."""
    artifacts = make_artifacts(count)
    write_repository(folder / "central", artifacts)
    client = Client(folder, artifacts)
    contents = [data for each in artifacts for data in each.files.values()]
    results: list[Round] = []
    async with AsyncExitStack() as stack:
        debian = stack.enter_context(serve_repository(debian_repository()))
        plain = stack.enter_context(plain_server(folder / "central", folder))
        config = replace(CONFIG, maven=replace(CONFIG.maven, policy="deny"))
        layout = make_data_directory(folder / "node", config)
        # All artifacts are asked for at once, by one member.
        log = PublishedLog(layout.root, params=replace(DEFAULT_PARAMS, burst=count))
        _publish(log, artifacts)
        log.close()
        fill = partial(_fill, contents=contents)
        core = FakeCore(await stack.enter_async_context(holders(folder, fill)))
        await stack.enter_async_context(core.serve(layout.core_socket))
        await client.seed(debian.url)
        debian.stop()
        java_s = await client.resolve(plain, empty=True)
        for _ in range(rounds):
            results.append(await _round(client, layout, plain))
            print(_line(results[-1]), flush=True)
    return summary(results, artifacts, java_s)


async def _round(client: Client, layout: Layout, plain: str) -> Round:
    plain_s = await client.resolve(plain)
    curl_plain_s = await client.curl(plain)
    async with empty_node(layout) as url:
        cold_s = await client.resolve(url)
        warm_s = await client.resolve(url)
    async with empty_node(layout) as url:
        curl_cold_s = await client.curl(url)
        curl_warm_s = await client.curl(url)
    return Round(plain_s, cold_s, warm_s, curl_plain_s, curl_cold_s, curl_warm_s)


@asynccontextmanager
async def empty_node(layout: Layout) -> AsyncIterator[str]:
    """Run the node without any bytes of an artifact; yield the URL of its repository."""
    shutil.rmtree(layout.blobs)
    layout.blobs.mkdir(mode=0o700)
    layout.maven.unlink(missing_ok=True)
    async with run_gateway(layout) as gateway:
        yield f"{gateway.url}/maven2"


def _publish(log: PublishedLog, artifacts: Sequence[Artifact]) -> None:
    for each in artifacts:
        files = [_entry(name, data) for name, data in each.files.items()]
        # What the pipeline reads out of the pom stands in every entry.
        needs = tuple(f"{_purl(gav)} compile" for gav in each.needs)
        log.accept(document(_purl(each.gav), *files, requires=needs))


def _purl(gav: Gav) -> str:
    return f"pkg:maven/{gav.group}/{gav.artifact}@{gav.version}"


def _entry(name: str, data: bytes) -> FileEntry:
    return file_entry(name, data, origin="built")


def _line(one: Round) -> str:
    return (
        f"plain {one.plain_s:.2f} s | cold {one.cold_s:.2f} s = {one.cold_s / one.plain_s:.2f} | "
        f"warm {one.warm_s:.2f} s = {one.warm_s / one.plain_s:.2f} | "
        f"curl {one.curl_plain_s:.2f} s, cold {one.curl_cold_s:.2f} s, warm {one.curl_warm_s:.2f} s"
    )


def ratio(values: Sequence[float], base: Sequence[float]) -> dict[str, float]:
    """Return the median and the spread of the rounds' ratios."""
    found = sorted(value / plain for value, plain in zip(values, base, strict=True))
    return {
        "median": round(statistics.median(found), 3),
        "least": round(found[0], 3),
        "most": round(found[-1], 3),
    }


def summary(
    results: Sequence[Round], artifacts: Sequence[Artifact], java_s: float
) -> dict[str, Any]:
    """Return what the documentation quotes."""
    plain = [each.plain_s for each in results]
    curl = [each.curl_plain_s for each in results]
    return {
        "benchmark": "macro.maven",
        "artifacts": len(artifacts),
        "files": 4 * len(artifacts),
        "bytes": sum(len(data) for each in artifacts for data in each.files.values()),
        "holders": HOLDERS,
        "nothing to fetch s": round(java_s, 2),
        "plain s": round(statistics.median(plain), 2),
        "cold": ratio([each.cold_s for each in results], plain),
        "warm": ratio([each.warm_s for each in results], plain),
        "curl plain s": round(statistics.median(curl), 3),
        "curl cold": ratio([each.curl_cold_s for each in results], curl),
        "curl warm": ratio([each.curl_warm_s for each in results], curl),
        "rounds": [asdict(each) for each in results],
    }


def is_met(measured: dict[str, Any]) -> bool:
    """Tell whether both targets are met."""
    return bool(measured["warm"]["median"] <= WARM_MAX and measured["cold"]["median"] <= COLD_MAX)


def main() -> int:
    """Measure, print, write; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="bench_maven")
    parser.add_argument("--artifacts", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-maven-", dir=arguments.folder) as folder:
        measured = asyncio.run(measure(Path(folder), arguments.artifacts, arguments.rounds))
    text = json.dumps(measured, indent=2) + "\n"
    sys.stdout.write(text)
    if arguments.out is not None:
        arguments.out.write_text(text)
    return 0 if is_met(measured) else 1


if __name__ == "__main__":
    sys.exit(main())
