"""The sponsor's side: a wish becomes a trial build, the trial a request in the log.

States of a build: ``queued``, ``trial``, ``requested`` (signed and sent, not yet ordered), then
what the ledger says: ``building`` and an outcome. ``refused`` ends a wish whose trial failed; it
never reaches the log. A restart takes up every build where its record stands.
"""

from __future__ import annotations

import logging
import secrets
from dataclasses import replace
from typing import Final

import trio

from buildpipelines.spec import canonical as build_canonical
from buildpipelines.spec.messages import BuildResult, JobFailure, JobStatus, TrialParams
from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.records import BuildRecord
from pyrsia_node.model.digest import parse_sha256
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import (
    BuildRequest,
    Pipeline,
    SignedTransaction,
    Source,
    sign_transaction,
)

_LOG = logging.getLogger("pyrsia.builds.sponsor")

UNTIL_MS: Final = 30 * 60 * 1000
"""How long a request may wait to be ordered before it lapses."""

OPEN_MAX: Final = 500
"""Builds that may be under way or waiting at one sponsor."""

OPEN_PER_NODE_MAX: Final = 50
"""Of these, those that one other node may have forwarded."""

RETRY_S: Final = 2.0
PATIENCE_S: Final = 600.0
"""How long a wish waits for a worker, or a mempool, that is away or full."""

_SHORT_S: Final = 60.0
_MEDIUM_S: Final = 600.0


class Sponsor:
    """Takes wishes, tries them, and puts requests into the log."""

    def __init__(self, context: BuildContext) -> None:
        """Work in ``context``."""
        self._context = context
        self._limiter = trio.CapacityLimiter(context.parallel)

    def accept(self, purl: Purl, *, time_class: str, forwarded_by: str) -> BuildRecord:
        """Record a wish; the same wish, still open, is the same build.

        Raises:
            InvalidInputError: the network has too few members to rebuild packages.
            UnavailableError: too many builds are under way; nothing was recorded.
        """
        self._check_members()
        records = self._context.records
        under_way = [record for record in records.all() if not self._is_over(record)]
        for record in under_way:
            if record.purl == str(purl):
                return record
        theirs = sum(record.forwarded_by == forwarded_by for record in under_way)
        if len(under_way) >= OPEN_MAX or (forwarded_by and theirs >= OPEN_PER_NODE_MAX):
            raise UnavailableError(f"{len(under_way)} builds are under way; try again later")
        now = self._context.clock.now_ms()
        record = BuildRecord(
            build_id=f"b-{secrets.token_hex(8)}",
            purl=str(purl),
            time_class=time_class,
            state="queued",
            stage="",
            detail="",
            request="",
            sponsor=self._context.identity.me,
            forwarded_by=forwarded_by,
            started_ms=now,
            updated_ms=now,
        )
        records.save(record)
        records.prune()
        return record

    def _check_members(self) -> None:
        """Refuse before the trial what the ledger would refuse after it."""
        chain = self._context.chain
        n, needed = len(chain.tip.set_leaf.members), chain.params.params.min_authorized
        if n < needed:
            raise InvalidInputError(
                f"packages are rebuilt from {needed} authorized nodes on (min_authorized), and this"
                f" network has {n}: let another in with `pyrsia authorize --peer ID`"
            )

    def _is_over(self, record: BuildRecord) -> bool:
        """Whether nothing will come of a record any more, whatever it says itself."""
        if record.has_ended:
            return True
        if not record.request:
            return False
        view = self._context.chain.request(parse_sha256(record.request))
        return view is not None and not view.is_open

    async def carry_out(self, record: BuildRecord) -> None:
        """Bring a recorded wish into the log, or end it as refused.

        What passes (a worker that is restarted, a mempool that is full) is waited for, up to
        ``PATIENCE_S``; any other error ends the wish.
        """
        deadline = trio.current_time() + PATIENCE_S
        try:
            async with self._limiter:
                while True:
                    try:
                        await self._try(record)
                    except UnavailableError as error:
                        if trio.current_time() > deadline:
                            raise
                        _LOG.info("build %s waits: %s", record.build_id, error)
                        await trio.sleep(RETRY_S)
                    else:
                        return
        except CorruptStateError:
            raise
        except PyrsiaError as error:
            _LOG.warning("build %s of %s refused: %s", record.build_id, record.purl, error)
            self._save(record, "refused", "sponsor", str(error))

    async def _try(self, record: BuildRecord) -> None:
        purl = Purl.parse(record.purl)
        assert purl.version is not None
        job = f"trial-{record.build_id}"

        def progress(status: JobStatus) -> None:
            current = self._context.records.get(record.build_id)
            if (current.stage, current.detail) != (status.stage, status.detail):
                self._save(record, "trial", status.stage, status.detail)

        self._save(record, "trial", "starting", "")
        params = TrialParams(
            job=job,
            ecosystem=purl.type,
            name=purl.name,
            version=purl.version,
            seconds_max=self._context.seconds_max,
        )
        with trio.move_on_after(3 * self._context.seconds_max + PATIENCE_S) as limit:
            result = await self._context.worker.trial(params, progress)
        if limit.cancelled_caught:
            # The worker ends a build by itself; one that does not is broken.
            await self._context.worker.forget(job)
            raise InvalidInputError("the build worker did not end the trial in time")
        if isinstance(result, JobFailure):
            text = f"{result.outcome} ({result.cause}): {result.detail}"
            self._save(record, "refused", "trial", text)
        else:
            await self._request(record, result)
        await self._context.worker.forget(job)

    async def _request(self, record: BuildRecord, result: BuildResult) -> None:
        """Sign and send the request that the trial found.

        The record names the request before it is sent: after a crash between the two, the
        record's request is unknown to the ledger and to the pending transactions, and the wish
        is tried again.
        """
        records = self._context.records
        records.add_document(build_canonical.dumps(result.lock.document()))
        description = await self._context.worker.describe()
        toolchain = description.get("toolchain_doc")
        if isinstance(toolchain, dict):
            records.add_document(build_canonical.dumps(toolchain))
        signed = self._sign(record, result)
        records.save(
            replace(
                record.at("requested", "", "", now_ms=self._context.clock.now_ms()),
                request=signed.id,
            )
        )
        await self._context.submit(signed.encoded)

    def _sign(self, record: BuildRecord, result: BuildResult) -> SignedTransaction:
        identity = self._context.identity
        pipeline = result.pipeline
        version = pipeline["version"]
        assert isinstance(version, int)
        body = BuildRequest(
            sponsor=identity.me,
            purl=Purl.parse(result.purl),
            claim="rebuilt",
            source=Source(
                kind=result.source.kind,
                file=result.source.file,
                sha256=parse_sha256(result.source.sha256),
                size=result.source.size,
            ),
            pipeline=Pipeline(
                id=str(pipeline["id"]),
                version=version,
                digest=parse_sha256(str(pipeline["digest"])),
            ),
            toolchain=parse_sha256(result.toolchain),
            lock=parse_sha256(build_canonical.digest(result.lock.document())),
            recipe=result.recipe,
            time_class=record.time_class or class_for(result.seconds),
            until=self._context.clock.now_ms() + UNTIL_MS,
            nonce=secrets.token_hex(16),
        )
        return sign_transaction(
            body, network_id=identity.network_id, sign=identity.sign_transaction
        )

    def _save(self, record: BuildRecord, state: str, stage: str, detail: str) -> None:
        now = self._context.clock.now_ms()
        self._context.records.save(record.at(state, stage, detail, now_ms=now))


def class_for(seconds: float) -> str:
    """Return the deadline class for a build that took ``seconds`` in the trial."""
    if seconds <= _SHORT_S:
        return "S"
    return "M" if seconds <= _MEDIUM_S else "L"
