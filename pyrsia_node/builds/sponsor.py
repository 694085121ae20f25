"""The sponsor's side: a wish becomes a trial build, the trial a request in the log.

States of a build: ``queued``, ``trial``, ``requested`` (signed and sent, not yet ordered), then
what the ledger says: ``building`` and an outcome. ``refused`` ends a wish whose trial failed; it
never reaches the log. A restart takes up every build where its record stands.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import trio

from buildpipelines.spec import canonical as build_canonical
from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    JobStatus,
    RecipeValue,
    TrialParams,
)
from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.images import PIPELINE, TOOLCHAIN, lock_document
from pyrsia_node.builds.importer import Found, Importer
from pyrsia_node.builds.maven import (
    MAVEN,
    checked_options,
    departing_text,
    departing_wish,
    filled_in,
    not_as_published,
)
from pyrsia_node.builds.mirror_link import progress_words
from pyrsia_node.builds.records import BuildRecord
from pyrsia_node.builds.wishes import decode_options
from pyrsia_node.model.digest import Sha256, parse_sha256, sha256_of
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.model.oci import ImageName
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.sources import MAPPING
from pyrsia_node.model.transactions import (
    BuildRequest,
    Pipeline,
    Source,
    sign_transaction,
)
from pyrsia_node.schema.maven_builds import PIPELINE_EXTERNAL
from pyrsia_node.schema.mirroring import MirrorStatus

_LOG = logging.getLogger("pyrsia.builds.sponsor")

UNTIL_MS: Final = 30 * 60 * 1000
"""How long a request may wait to be ordered before it lapses."""

OPEN_MAX: Final = 500
"""Builds that may be under way or waiting at one sponsor."""

OPEN_FORWARDED_MAX: Final = 400
"""Of these, those that other nodes may have forwarded: the operator's own always find room."""

OPEN_PER_NODE_MAX: Final = 50
"""Of these, those that one other node may have forwarded."""

RETRY_S: Final = 2.0
PATIENCE_S: Final = 600.0
"""How long a wish waits for a worker, or a mempool, that is away or full."""

IMPORTS_MAX: Final = 2
"""Images that are fetched at the same time for this node's user, and for other nodes."""

IMPORT_TIMEOUT_S: Final = 6 * 3600.0

_SHORT_S: Final = 60.0
_MEDIUM_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody wants built or imported; of an image or Maven artifact as in ``Wish``."""

    purl: Purl
    time_class: str
    platforms: tuple[str, ...] = ()
    pinned: str = ""
    options: str = ""

    def is_for(self, record: BuildRecord) -> bool:
        """Tell whether a recorded build is the same wish."""
        asked = (str(self.purl), ",".join(self.platforms), self.pinned, self.options)
        return asked == (record.purl, record.platforms, record.pinned, record.options)


class Sponsor:
    """Takes wishes, tries them, and puts requests into the log."""

    def __init__(self, context: BuildContext) -> None:
        """Work in ``context``."""
        self._context = context
        self._limiter = trio.CapacityLimiter(context.parallel)
        # Fetching waits for the network: it neither waits for builds nor holds them up.
        self._imports = trio.CapacityLimiter(IMPORTS_MAX)
        self._forwarded_imports = trio.CapacityLimiter(IMPORTS_MAX)
        self._importer = Importer(context)

    def accept(self, wanted: Wanted, *, forwarded_by: str) -> BuildRecord:
        """Record a wish; the same wish, still open, is the same build.

        Raises:
            InvalidInputError: the network has too few members to rebuild packages, nobody says
                where a Maven artifact comes from, or no external pipeline is to be asked here.
            UnavailableError: too many builds are under way; nothing was recorded.
        """
        self._check_members()
        if wanted.purl.type == MAVEN:
            wanted = replace(wanted, options=checked_options(wanted.options))
            self._check_origin(wanted)
        records = self._context.records
        under_way = [record for record in records.all() if not self._is_over(record)]
        for record in under_way:
            if wanted.is_for(record):
                return record
        theirs = sum(record.forwarded_by == forwarded_by for record in under_way)
        forwarded = sum(bool(record.forwarded_by) for record in under_way)
        is_full = forwarded_by and (theirs >= OPEN_PER_NODE_MAX or forwarded >= OPEN_FORWARDED_MAX)
        if len(under_way) >= OPEN_MAX or is_full:
            raise UnavailableError(f"{len(under_way)} builds are under way; try again later")
        now = self._context.clock.now_ms()
        record = BuildRecord(
            build_id=f"b-{secrets.token_hex(8)}",
            purl=str(wanted.purl),
            time_class=wanted.time_class,
            platforms=",".join(wanted.platforms),
            pinned=wanted.pinned,
            options=wanted.options,
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

    def _check_origin(self, wanted: Wanted) -> None:
        """Refuse before the trial what members, or the worker here, would refuse after it."""
        origin = self._context.origin_of(wanted.purl)
        told = filled_in(wanted.purl, wanted.options, origin)
        if told.get("pipeline") == PIPELINE_EXTERNAL and not self._context.has_pipeline:
            # Said at once, so that a node that forwards wishes goes on to the next sponsor.
            raise InvalidInputError(
                "build.external names no pipeline at this node: ask an authorized node that has one"
            )
        why = departing_wish(wanted.purl, told, origin)
        if why and not self._context.unmapped_sources:
            raise InvalidInputError(why)

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
            is_import = Purl.parse(record.purl).type == "docker" and not record.options
            async with self._place(record, is_import=is_import):
                self._save(record, "trial", "looking" if is_import else "starting", "")
                while True:
                    try:
                        await (self._find(record) if is_import else self._try(record))
                    except UnavailableError as error:
                        if trio.current_time() > deadline:
                            raise
                        _LOG.info("build %s waits: %s", record.build_id, error)
                        stage = self._context.records.get(record.build_id).stage
                        self._save(record, "trial", stage, f"waits and tries again: {error}")
                        await trio.sleep(RETRY_S)
                    else:
                        return
        except CorruptStateError:
            raise
        except PyrsiaError as error:
            _LOG.warning("build %s of %s refused: %s", record.build_id, record.purl, error)
            self._save(record, "refused", "sponsor", str(error))

    def _place(self, record: BuildRecord, *, is_import: bool) -> trio.CapacityLimiter:
        """Return where a wish waits its turn: others' images are in nobody else's way."""
        if not is_import:
            return self._limiter
        return self._forwarded_imports if record.forwarded_by else self._imports

    async def _try(self, record: BuildRecord) -> None:
        purl = Purl.parse(record.purl)
        assert purl.version is not None
        job = f"trial-{record.build_id}"

        def progress(status: JobStatus) -> None:
            current = self._context.records.get(record.build_id)
            if (current.stage, current.detail) != (status.stage, status.detail):
                self._save(record, "trial", status.stage, status.detail)

        params = TrialParams(
            job=job,
            ecosystem=purl.type,
            name=name_for_worker(purl),
            version=purl.version,
            seconds_max=self._context.seconds_max,
            options=self._options(purl, record.options),
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
        elif refused := self._why_not(purl, result):
            self._save(record, "refused", "source", refused)
        else:
            await self._request(record, result)
        await self._context.worker.forget(job)

    def _options(self, purl: Purl, options: str) -> Mapping[str, RecipeValue]:
        """Return what the worker is told beside name and version."""
        if purl.type == MAVEN:
            return filled_in(purl, options, self._context.origin_of(purl))
        return decode_options(options)

    def _why_not(self, purl: Purl, result: BuildResult) -> str:
        """Return why members would refuse what the trial found; "" if they would not."""
        if purl.type != MAVEN:
            return ""
        origin = self._context.origin_of(purl)
        why = departing_text(purl, result.recipe, origin, kind=result.source.kind)
        if not why or not self._context.unmapped_sources:
            return why
        others = not_as_published(result)
        return f"{why}; and {others[0]} is not what the upstream publishes" if others else ""

    async def _find(self, record: BuildRecord) -> None:
        """Fetch the image that a wish is for, and ask for what was found."""

        def progress(status: MirrorStatus) -> None:
            current, words = self._context.records.get(record.build_id), progress_words(status)
            if (current.stage, current.detail) != (status.stage, words):
                self._save(record, "trial", status.stage, words)

        try:
            with trio.move_on_after(IMPORT_TIMEOUT_S) as limit:
                found = await self._importer.find(record, progress)
                if isinstance(found, Found):
                    await self._send(record, self._body_of_image(record, found))
                else:
                    self._point_to(record, found.request)
        except UnavailableError:
            raise  # tried again: what was fetched is there still
        except PyrsiaError:
            await self._importer.forget(record)
            raise
        await self._importer.forget(record)
        if limit.cancelled_caught:
            raise InvalidInputError(f"the image was not fetched in {IMPORT_TIMEOUT_S / 3600:g} h")

    def _body_of_image(self, record: BuildRecord, found: Found) -> BuildRequest:
        return BuildRequest(
            sponsor=self._context.identity.me,
            purl=Purl.parse(record.purl),
            claim="mirrored",
            source=found.source,
            pipeline=PIPELINE,
            toolchain=sha256_of(TOOLCHAIN),
            lock=sha256_of(lock_document(found.source)),
            recipe=found.recipe,
            time_class=record.time_class or found.time_class,
            until=self._context.clock.now_ms() + UNTIL_MS,
            nonce=secrets.token_hex(16),
        )

    def _point_to(self, record: BuildRecord, request: Sha256) -> None:
        """Have a build follow a request that is in the log: what it says is what was wanted."""
        moved = record.at("requested", "", "", now_ms=self._context.clock.now_ms())
        self._context.records.save(replace(moved, request=request))

    async def _request(self, record: BuildRecord, result: BuildResult) -> None:
        """Keep the documents that the trial found, and ask for a rebuild from them."""
        records = self._context.records
        records.add_document(build_canonical.dumps(result.lock.document()))
        description = await self._context.worker.describe()
        for toolchain in toolchains_in(description):
            records.add_document(build_canonical.dumps(toolchain))
        await self._send(record, self._body(record, result))

    async def _send(self, record: BuildRecord, body: BuildRequest) -> None:
        """Sign and send a request, unless an equal one is open.

        The record names the request before it is sent: after a crash between the two, the
        record's request is unknown to the ledger and to the pending transactions, and the wish
        is tried again.
        """
        for view in self._context.chain.open_requests():
            if view.request.uniqueness() == body.uniqueness():
                self._point_to(record, view.id)
                return
        identity, records = self._context.identity, self._context.records
        signed = sign_transaction(
            body, network_id=identity.network_id, sign=identity.sign_transaction
        )
        records.save(
            replace(
                record.at("requested", "", "", now_ms=self._context.clock.now_ms()),
                request=signed.id,
            )
        )
        await self._context.submit(signed.encoded)

    def _body(self, record: BuildRecord, result: BuildResult) -> BuildRequest:
        pipeline = result.pipeline
        version = pipeline["version"]
        assert isinstance(version, int)
        return BuildRequest(
            sponsor=self._context.identity.me,
            purl=Purl.parse(result.purl),
            claim="external" if result.source.kind == MAPPING else "rebuilt",
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

    def _save(self, record: BuildRecord, state: str, stage: str, detail: str) -> None:
        now = self._context.clock.now_ms()
        self._context.records.save(record.at(state, stage, detail, now_ms=now))


def name_for_worker(purl: Purl) -> str:
    """Return a package's name as the build worker takes it: as its ecosystem's people write it."""
    match purl.type:
        case "docker":
            return str(ImageName.from_purl(purl))
        case "maven":
            return f"{purl.namespace}:{purl.name}"
        case _:
            return purl.name


def toolchains_in(description: Mapping[str, object]) -> list[dict[str, object]]:
    """Return the toolchains that a worker tells of, which the log knows by their digests.

    It has one for packages, one for images, one for each JDK, and one that says that nobody knows.
    """
    alone = ("toolchain_doc", "image_toolchain_doc", "external_toolchain_doc")
    of_jdks = description.get("maven_toolchains")
    listed = [
        each for each in (of_jdks if isinstance(of_jdks, list) else []) if isinstance(each, dict)
    ]
    found = [*(description.get(name) for name in alone), *(each.get("document") for each in listed)]
    return [each for each in found if isinstance(each, dict)]


def class_for(seconds: float) -> str:
    """Return the deadline class for a build that took ``seconds`` in the trial."""
    if seconds <= _SHORT_S:
        return "S"
    return "M" if seconds <= _MEDIUM_S else "L"
