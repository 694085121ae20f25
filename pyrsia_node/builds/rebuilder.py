"""Rebuilds what the log asks for, and keeps the answer before anybody hears it.

For every open request whose members include this node: fetch the inputs lock by its digest, let
the worker replay exactly that, put the files into the blob store, compose document and roots, and
write the answer under ``builds/item/``. A restart finds the answer and does not build again: a
second, different build would contradict this node's own word.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from buildpipelines.errors import FormatError
from buildpipelines.spec import canonical as build_canonical
from buildpipelines.spec.lock import Lock, parse_lock
from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    JobStatus,
    RebuildParams,
)
from buildpipelines.spec.messages import Source as WorkerSource
from pyrsia_node.builds.composition import Composed, compose, files_to_store
from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.documents import Documents
from pyrsia_node.builds.explanations import keep_explanation
from pyrsia_node.builds.importer import Importer, job_of
from pyrsia_node.builds.maven import MAVEN, NOT_MAPPED, departing_text, not_as_published
from pyrsia_node.builds.mirror_link import progress_words
from pyrsia_node.builds.records import DOCUMENT_BYTES_MAX, OwnItem
from pyrsia_node.ledger.chain import RequestView
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.transactions import BuildRequest, BuiltItem, FailedItem, Item
from pyrsia_node.schema.links import Stored
from pyrsia_node.schema.mirroring import MirrorStatus

_LOG = logging.getLogger("pyrsia.builds.rebuilder")

RETRY_S: Final = 2.0
"""Pause before a rebuild that failed for a passing reason is tried again; doubles each time."""

RETRY_MAX_S: Final = 60.0
IMPORTS_MAX: Final = {"S": 2, "M": 1, "L": 1}
"""Images of each class that are fetched at the same time: small ones wait for no large one."""

GRACE_MS: Final = 30_000
"""How long after its deadline a rebuild goes on: block time may be behind our clock."""


@dataclass(slots=True)
class RebuildProgress:
    """Where this node's own rebuild of a request stands, for people."""

    state: str = "queued"
    stage: str = ""
    detail: str = ""


class Rebuilder:
    """Answers open requests, ``parallel`` at a time."""

    def __init__(
        self, context: BuildContext, documents: Documents, answered: Callable[[], None]
    ) -> None:
        """Work in ``context``, finding locks through ``documents``.

        ``answered`` is called whenever an answer has become durable.
        """
        self._context = context
        self._documents = documents
        self._answered = answered
        self._limiter = trio.CapacityLimiter(context.parallel)
        # Fetching waits for the network: it neither waits for builds nor holds them up.
        self._imports = {each: trio.CapacityLimiter(number) for each, number in IMPORTS_MAX.items()}
        self._importer = Importer(context)
        self._running: dict[Sha256, RebuildProgress] = {}

    def progress(self, request: Sha256) -> RebuildProgress | None:
        """Return where the rebuild of ``request`` stands; None if this node never began it."""
        found = self._running.get(request)
        if found is None and self._context.records.item(request) is not None:
            return RebuildProgress("done")
        return found

    def wanted(self) -> list[RequestView]:
        """Return open requests that this node must answer and has not begun to."""
        if not self._context.is_member():
            return []
        me = self._context.identity.me
        return [
            view
            for view in self._context.chain.open_requests()
            if me in view.members
            and view.id not in self._running
            and self._context.records.item(view.id) is None
        ]

    async def run(self, nursery: trio.Nursery) -> None:
        """Start a rebuild for every request that appears, for ever."""
        height = -1
        while True:
            for view in self.wanted():
                self._running[view.id] = RebuildProgress()
                nursery.start_soon(self._answer, view)
            height = await self._context.beyond(height)

    async def _answer(self, view: RequestView) -> None:
        remaining_ms = view.deadline_ms + GRACE_MS - self._context.clock.now_ms()
        with trio.move_on_after(max(0, remaining_ms) / 1000) as limit:
            own = await self._attempt(view, self._running[view.id])
            if own is not None:
                # With its salt in the same write: what is promised from it can always be shown.
                own = own.salted() if view.is_sealed else own
                self._context.records.save_item(view.id, own)
                self._answered()
        # From here on the record, if there is one, tells how it went.
        del self._running[view.id]
        if limit.cancelled_caught:
            _LOG.warning("rebuild of %s is given up: its time is over", view.request.purl)
        await self._forget(view)

    async def _forget(self, view: RequestView) -> None:
        if is_import(view):
            await self._context.mirror.forget(job_of(view))
        else:
            await self._context.worker.forget(_job_of(view))

    async def _attempt(self, view: RequestView, progress: RebuildProgress) -> OwnItem | None:
        """Return the answer to a request; None when it has ended meanwhile.

        A slot is held for building alone: a request whose lock nobody has waits beside the others.
        """
        departing = self._departing(view.request)
        if departing and not self._context.unmapped_sources:
            _LOG.warning("request %s: %s", view.id, departing)
            return _refusal(view.id, NOT_MAPPED)
        pause_s = RETRY_S
        while self._is_open(view):
            try:
                lock = None if is_import(view) else await self._lock(view)
                if isinstance(lock, OwnItem):
                    return lock
                async with self._place(view):
                    if not self._is_open(view):
                        return None
                    if lock is None:
                        return await self._import(view, progress)
                    return await self._build(view, lock, progress)
            except CorruptStateError:
                raise
            except PyrsiaError as error:
                # Not an answer: the worker or the gateway is being restarted, or the lock is not
                # to be had yet. The deadline of the request bounds the attempts.
                progress.detail = str(error)
                _LOG.warning("rebuild of %s: %s", view.request.purl, error)
                # What the worker holds may have been moved away in part: build anew.
                await self._forget(view)
            await trio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_MAX_S)
        return None

    def _is_open(self, view: RequestView) -> bool:
        current = self._context.chain.request(view.id)
        # Who has left the set is not counted any more: its answer would be nobody's gain.
        return current is not None and current.is_open and self._context.is_member()

    def _place(self, view: RequestView) -> trio.CapacityLimiter:
        return self._imports[view.request.time_class] if is_import(view) else self._limiter

    async def _import(self, view: RequestView, progress: RebuildProgress) -> OwnItem:
        def on_progress(status: MirrorStatus) -> None:
            progress.state = status.state
            progress.stage, progress.detail = status.stage, progress_words(status)

        return await self._importer.answer(view, on_progress)

    async def _build(self, view: RequestView, lock: Lock, progress: RebuildProgress) -> OwnItem:
        job = _job_of(view)
        request = view.request

        def on_progress(status: JobStatus) -> None:
            progress.state = status.state
            progress.stage, progress.detail = status.stage, status.detail

        params = RebuildParams(
            job=job,
            purl=str(request.purl),
            source=WorkerSource(
                request.source.kind,
                request.source.file,
                request.source.sha256,
                request.source.size,
            ),
            lock=lock,
            recipe=request.recipe,
            toolchain=request.toolchain,
            seconds_max=self._context.seconds_max,
            tamper=self._context.faults.get("tamper"),
        )
        try:
            result = await self._context.worker.rebuild(params, on_progress)
        except InvalidInputError as error:
            # The recipe of the request is not one: it will not become one by waiting.
            _LOG.warning("rebuild of %s is refused: %s", request.purl, error)
            return _refusal(view.id, "request")
        if isinstance(result, BuildResult) and result.purl != str(request.purl):
            raise VerificationError(f"the worker built {result.purl}, asked for {request.purl}")
        if isinstance(result, BuildResult) and self._is_unvouched(request, result):
            return _refusal(view.id, NOT_MAPPED)
        return await self._own_item(view.id, result)

    def _departing(self, request: BuildRequest) -> str:
        """Return in what a request is not what the log says of its package; "" if it is."""
        if request.purl.type != MAVEN:
            return ""
        origin = self._context.origin_of(request.purl)
        return departing_text(request.purl, request.recipe, origin, kind=request.source.kind)

    def _is_unvouched(self, request: BuildRequest, result: BuildResult) -> bool:
        """Tell whether nobody vouches for a build's source, neither the log nor an equal file.

        Asked again after the build: a mapping that was taken back meanwhile counts no more.
        """
        departing = self._departing(request)
        if not departing:
            return False
        others = not_as_published(result)
        if others:
            _LOG.warning("%s; not as published: %s", departing, ", ".join(others))
        return bool(others) or not self._context.unmapped_sources

    async def _lock(self, view: RequestView) -> Lock | OwnItem:
        """Return the inputs lock, or the refusal if what its digest names is none."""
        raw = await self._documents.find(view.request.lock, prefer=[view.request.sponsor])
        try:
            return parse_lock(build_canonical.loads_object(raw, bytes_max=DOCUMENT_BYTES_MAX))
        except FormatError as error:
            _LOG.warning("inputs lock %s of %s: %s", view.request.lock, view.request.purl, error)
            return _refusal(view.id, "lock")

    async def _own_item(self, request: Sha256, result: BuildResult | JobFailure) -> OwnItem:
        item: Item
        if isinstance(result, JobFailure):
            item = FailedItem(request, result.outcome, result.cause)
            return OwnItem(item.to_json(), None, {})
        composed = await self._compose(result)
        # The words are durable before the answer that names them: after a crash between the two
        # a document is kept that nobody asks for.
        explained = keep_explanation(self._context, result)
        item = BuiltItem(
            request=request,
            result=composed.document.digest(),
            level=composed.level,
            own=composed.own,
            explained=explained,
        )
        return OwnItem(item.to_json(), composed.document, dict(result.environment))

    async def _compose(self, result: BuildResult) -> Composed:
        stored: dict[str, Stored] = {}
        for path, sha256, size in files_to_store(result):
            if sha256 not in stored:
                length = size if size is not None else _size_of(path)
                stored[sha256] = await self._context.vault.adopt(path, sha256, length)
        composed = compose(result, stored)
        # To attest is to promise to serve: these files never make room for a cached one.
        for file in composed.document.files:
            await self._context.vault.fetch(sha256=file.sha256, size=file.size, pieces=file.pieces)
        return composed


def is_import(view: RequestView) -> bool:
    """Tell whether a request is answered by fetching: there is nothing to build."""
    return view.request.claim == "mirrored" and view.request.purl.type == "docker"


def _job_of(view: RequestView) -> str:
    return f"rebuild-{view.id[:32]}"


def _refusal(request: Sha256, cause: str) -> OwnItem:
    return OwnItem(FailedItem(request, "REFUSED", cause).to_json(), None, {})


def _size_of(path: str) -> int:
    """Return a local file's size in bytes; raises UnavailableError."""
    try:
        return Path(path).stat().st_size
    except OSError as error:
        # The worker was restarted, and its folders went with it.
        raise UnavailableError(f"{path} is gone: {error.strerror}") from error
