"""The pipeline contract's real server on real sockets; what its builds come to is scripted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from buildpipelines.errors import BuildFailure
from buildpipelines.spec.lock import make_lock
from buildpipelines.spec.messages import BuildResult, OutputFile, Source, TrialParams
from buildpipelines.spec.metadata import Metadata
from buildpipelines.worker.contract_server import Address, ContractServer
from buildpipelines.worker.contract_store import ContractStore
from buildpipelines.worker.jobs import Jobs
from buildpipelines.worker.machine import Report
from buildpipelines.worker.workspace import JobFolder, Workspace

END_SECONDS = 10.0


@dataclass
class Trials:
    """Stands where the worker's service does: its jobs are real, their builds are not.

    ``files`` is what every build makes; ``failure`` how it fails instead; while ``gate`` is not
    set, builds wait.
    """

    jobs: Jobs
    files: Mapping[str, bytes] = field(default_factory=dict)
    failure: BuildFailure | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    asked: list[TrialParams] = field(default_factory=list)
    at_once: int = 0
    at_once_most: int = 0

    def trial(self, params: TrialParams) -> None:
        self.asked.append(params)

        async def work(folder: JobFolder, _report: Report) -> BuildResult:
            self.at_once += 1
            self.at_once_most = max(self.at_once, self.at_once_most)
            try:
                await asyncio.to_thread(self.gate.wait, END_SECONDS)
            finally:
                self.at_once -= 1
            if self.failure is not None:
                raise self.failure
            return self._result(folder, params)

        self.jobs.start(params.job, work, seconds_max=params.seconds_max)

    def _result(self, folder: JobFolder, params: TrialParams) -> BuildResult:
        files = []
        for name, content in {**self.files, "source-0123456789abcdef.tar": b"source"}.items():
            (folder.out / name).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            files.append(
                OutputFile(
                    name=name,
                    path=str(folder.out / name),
                    size=len(content),
                    sha256=digest,
                    l1=digest,
                    l2=digest,
                    media="application/octet-stream",
                    claim="mirrored" if name.startswith("source-") else "rebuilt",
                )
            )
        return BuildResult(
            purl=f"pkg:maven/{params.name.replace(':', '/')}@{params.version}",
            source=Source("tree", "source-0123456789abcdef.tar", "0" * 64, 6),
            pipeline={"id": "maven", "version": 1, "digest": "0" * 64},
            toolchain="0" * 64,
            lock=make_lock(()),
            recipe={},
            metadata=Metadata(params.name, params.version),
            files=tuple(files),
            environment={},
            seconds=0.0,
            log_path=str(folder.log),
        )


@dataclass(frozen=True)
class ContractSite:
    """A server that runs: its address without a slash at the end, its socket, its builds."""

    url: str
    socket: Path
    trials: Trials


@contextlib.contextmanager
def serving_contract(
    folder: Path,
    *,
    uids: frozenset[int] | None = None,
    silence_seconds: float = END_SECONDS,
    port: int = 0,
) -> Iterator[ContractSite]:
    """Serve the contract from a thread of its own until the context ends.

    A second site over the same ``folder`` is what a restarted worker is. A ``port`` that is taken
    leaves the socket alone, and no address.
    """
    ready: list[ContractSite] = []
    is_ready, is_over = threading.Event(), threading.Event()

    async def serve() -> None:
        jobs = Jobs(Workspace(folder / "work"), parallel=2)
        trials = Trials(jobs)
        trials.gate.set()
        server = ContractServer(
            trials,
            ContractStore(folder / "contract"),
            seconds_max=60,
            allowed_uids=frozenset({os.getuid()}) if uids is None else uids,
            silence_seconds=silence_seconds,
        )
        path = folder / "pipeline.sock"
        async with server.listening(path, Address("127.0.0.1", port)) as found:
            url = f"http://127.0.0.1:{found[0].port}" if found else ""
            ready.append(ContractSite(url, path, trials))
            is_ready.set()
            await asyncio.to_thread(is_over.wait)
        trials.gate.set()
        await jobs.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert is_ready.wait(END_SECONDS), "the contract's server did not start"
        yield ready[0]
    finally:
        if ready:
            ready[0].trials.gate.set()
        is_over.set()
        thread.join(END_SECONDS)
        assert not thread.is_alive(), "the contract's server did not end"
