"""One authorized node's build service on a real chain; worker, gateway and peers are scripted."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import trio

from buildpipelines.spec.framing import JsonObject
from buildpipelines.spec.lock import Lock
from buildpipelines.spec.messages import BuildResult, JobFailure, JobStatus, OutputFile, Source
from buildpipelines.spec.metadata import Metadata
from consensus.types import NodeId
from pyrsia_node.builds.context import BuildContext, Identity
from pyrsia_node.builds.links import Caller, Vault, Worker
from pyrsia_node.builds.logged_images import LoggedImage, image_at
from pyrsia_node.builds.maven import Origin
from pyrsia_node.builds.mirror_link import Mirror
from pyrsia_node.builds.records import BuildRecords
from pyrsia_node.ledger.mempool import Mempool
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from pyrsia_node.model.purl import Purl
from pyrsia_node.ports import Clock, PeerId, PeerRequests, RequestHandler
from pyrsia_node.replica.pending import PendingTransactions
from pyrsia_node.replica.watch import HeightWatch
from tests.fakes.local_chain import LocalChain
from tests.fakes.scripted_upstream import Upstream
from tests.strategies.build_bodies import digest

WHEEL = "six-1.17.0-py2.py3-none-any.whl"


class ChainClock(Clock):
    """The time of a local chain."""

    def __init__(self, local: LocalChain) -> None:
        self._local = local

    def now_ms(self) -> int:
        return self._local.now_ms

    def monotonic_s(self) -> float:
        return trio.current_time()


class WorkerLink(Caller):
    """A build worker that remembers jobs as the real one does; ``results`` says how they end."""

    def __init__(self, results: Callable[[str, Mapping[str, object]], object]) -> None:
        self._results = results
        self.jobs: dict[str, object] = {}
        self.started: list[str] = []
        self.is_away = False
        self.description: JsonObject = {"toolchain_doc": {}}

    async def call(
        self, method: str, params: Mapping[str, object], *, timeout_s: float = 30.0
    ) -> JsonObject:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise UnavailableError("nobody listens on worker.sock")
        job = str(params.get("job", ""))
        match method:
            case "trial" | "rebuild":
                if job in self.jobs:
                    raise InvalidInputError(f"job '{job}' exists")
                result = self._results(method, params)
                if isinstance(result, Exception):
                    raise result
                self.started.append(job)
                self.jobs[job] = result
                return {"job": job}
            case "job":
                if job not in self.jobs:
                    raise NotFoundError(f"no job '{job}'")
                return _status(job, self.jobs[job]).document()
            case "forget":
                if self.jobs.pop(job, None) is None:
                    raise NotFoundError(f"no job '{job}'")
                return {}
            case _:
                return self.description

    def restart(self) -> None:
        """Forget every job, as a worker that was killed has."""
        self.jobs.clear()


def _status(job: str, result: object) -> JobStatus:
    if isinstance(result, BuildResult):
        return JobStatus(job, "done", "done", "", "", result)
    if isinstance(result, JobFailure):
        return JobStatus(job, "failed", "failed", "", "", result)
    return JobStatus(job, "running", "build", "compiling", "", None)


class GatewayLink(Caller):
    """A blob store that takes every file."""

    def __init__(self) -> None:
        self.is_away = False
        self.upstream = Upstream()
        self.adopted: list[str] = []
        self.pinned: list[str] = []

    async def call(
        self, method: str, params: Mapping[str, object], *, timeout_s: float = 30.0
    ) -> JsonObject:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise UnavailableError("nobody listens on gateway.sock")
        if method in {"look", "mirror", "mirror_job", "mirror_forget"}:
            return self.upstream.call(method, params)
        if method == "fetch":
            assert params["pin"] is True
            self.pinned.append(str(params["sha256"]))
            return {key: params[key] for key in ("sha256", "size", "pieces")}
        assert method == "adopt"
        self.adopted.append(str(params["path"]))
        return {"sha256": params["sha256"], "size": params["size"], "pieces": digest("pieces")}


Ask = Callable[[PeerId, str, bytes], Awaitable[bytes]]


async def nobody(to: PeerId, _method: str, _payload: bytes) -> bytes:
    raise UnavailableError(f"{to} is away")


class Peers(PeerRequests):
    """Peers whose answers are one function."""

    def __init__(self) -> None:
        self.answer: Ask = nobody
        self.peers: list[PeerId] = []
        self.handlers: dict[str, RequestHandler] = {}

    async def ask(
        self, to: PeerId, method: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        return await self.answer(to, method, payload)

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        self.handlers[method] = handler

    def connected(self) -> list[PeerId]:
        return self.peers


class BuildSite:
    """Member 0 of a local chain and all that its build service touches."""

    def __init__(
        self,
        folder: Path,
        *,
        parallel: int = 1,
        unmapped_sources: bool = False,
        has_pipeline: bool = True,
    ) -> None:
        self.folder = folder
        self.local = LocalChain(4)
        self.me: NodeId = self.local.members[0].id
        self.clock = ChainClock(self.local)
        self.watch = HeightWatch(0)
        self.worker = WorkerLink(lambda _method, _params: self.result())
        self.gateway = GatewayLink()
        self.gateway.upstream.now_ms = self.clock.now_ms
        self.peers = Peers()
        self.pending = PendingTransactions(
            store=self.local.store,
            chain=self.local.chain,
            mempool=Mempool(),
            clock=self.clock,
            push=lambda _transaction: None,
        )
        self.is_member = True
        self.origins: dict[str, Origin] = {}
        self.refusing: Callable[[bytes], Exception | None] = lambda _transaction: None
        self.records = BuildRecords(self.local.store)
        identity = self.local.members[0]
        self.context = BuildContext(
            identity=Identity(
                self.me, self.local.network_id, identity.sign["tx"], identity.sign["p2p"]
            ),
            chain=self.local.chain,
            records=self.records,
            worker=Worker(self.worker),
            vault=Vault(self.gateway),
            mirror=Mirror(self.gateway),
            newest_image=self.newest_image,
            origin_of=lambda purl: self.origins.get(str(purl)),
            requests=self.peers,
            clock=self.clock,
            submit=self._submit,
            is_pending=self.pending.is_pending,
            published_size=lambda: self.local.chain.tip.size,
            beyond=self.watch.beyond,
            peer_of=PeerId,
            labels=dict,
            is_member=lambda: self.is_member,
            parallel=parallel,
            seconds_max=600,
            has_pipeline=has_pipeline,
            unmapped_sources=unmapped_sources,
            faults={},
        )

    def newest_image(self, purl: Purl) -> LoggedImage | None:
        """Return the newest accepted entry of an image, by reading the whole log."""
        chain = self.local.chain
        for leaf in reversed(range(2, chain.tip.size)):
            value = json.loads(chain.leaf(leaf))
            if value["t"] == "accepted" and value["doc"]["purl"] == str(purl):
                return image_at(chain, leaf)
        return None

    async def _submit(self, transaction: bytes) -> None:
        error = self.refusing(transaction)
        if error is not None:
            raise error
        await self.pending.submit(transaction)

    def result(self, *, purl: str = "pkg:pypi/six@1.17.0", upstream: bool = False) -> BuildResult:
        """Return what a build of ``purl`` makes; the files are there."""
        out = self.folder / "out.whl"
        out.write_bytes(b"wheel")
        upstream_path = self.folder / "upstream.whl"
        if upstream:
            upstream_path.write_bytes(b"wheel")
        file = OutputFile(
            name=WHEEL,
            path=str(out),
            size=5,
            sha256=digest("wheel"),
            l1=digest("l1"),
            l2=digest("l2"),
            media="application/zip",
            claim="rebuilt",
            upstream_sha256=digest("wheel of the index") if upstream else None,
            upstream_path=str(upstream_path) if upstream else None,
            level=1 if upstream else None,
        )
        return BuildResult(
            purl=purl,
            source=Source("sdist", "six-1.17.0.tar.gz", digest("sdist"), 34_031),
            pipeline={"id": "pypi", "version": 1, "digest": digest("pipeline")},
            toolchain=digest("toolchain"),
            lock=Lock(()),
            recipe={},
            metadata=Metadata(name="six", version="1.17.0"),
            files=(file,),
            environment={},
            seconds=1.0,
            log_path="/job/log",
        )

    def commit_pending(self) -> int:
        """Put what waits into one block; return how many transactions it holds."""
        found = [self.pending._mempool.get(each) for each in self.pending.known()]
        block = self.local.build(*(each for each in found if each is not None))
        if block is None:
            return 0
        committed = self.local.chain.commit(block, self.local.certify(block))
        self.local.now_ms += 1_000
        self.pending.committed(committed.transaction_ids)
        self.watch.advance(committed.tip.height)
        return len(committed.transaction_ids)
