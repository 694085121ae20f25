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

from buildpipelines.spec import canonical as build_canonical
from buildpipelines.spec.messages import BuildResult, JobFailure, JobStatus, TrialParams
from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.records import BuildRecord
from pyrsia_node.model.digest import parse_sha256
from pyrsia_node.model.errors import PyrsiaError
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

_SHORT_S: Final = 60.0
_MEDIUM_S: Final = 600.0


class Sponsor:
    """Takes wishes, tries them, and puts requests into the log."""

    def __init__(self, context: BuildContext) -> None:
        """Work in ``context``."""
        self._context = context

    def accept(self, purl: Purl, *, time_class: str, forwarded_by: str) -> BuildRecord:
        """Record a wish; the same wish, still open, is the same build."""
        records = self._context.records
        for record in records.all():
            if record.purl == str(purl) and not record.has_ended:
                return record
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

    async def carry_out(self, record: BuildRecord) -> None:
        """Bring a recorded wish into the log, or end it as refused. Errors end it too."""
        try:
            await self._try(record)
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
        result = await self._context.worker.trial(params, progress)
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
