"""Imports images: the sponsor finds what to ask for, a member fetches what the log asks for.

Neither needs a build worker. The sponsor looks at its upstream and fetches the image once whole:
what cannot be fetched or does not fit the log never gets there, and the size chooses the deadline.
A member compares everything but the bytes with its own (``images.why_refused``), fetches by the
digest that the request pins, and asks its upstream once more what the tag is.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Final

from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.images import (
    TOOLCHAIN,
    check_pin,
    class_for_bytes,
    compose_image,
    image_of,
    lock_document,
    pinned_digest,
    platforms_of,
    recipe_of,
    root_of_mirrored,
    root_source,
    total_bytes,
    why_refused,
)
from pyrsia_node.builds.logged_images import LoggedImage
from pyrsia_node.builds.mirror_link import OnProgress
from pyrsia_node.builds.records import BuildRecord, OwnItem
from pyrsia_node.ledger.chain import RequestView
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.items import MOVED, BuiltItem, FailedItem
from pyrsia_node.model.limits import CAUSE_LENGTH_MAX
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import RecipeValue, Source
from pyrsia_node.schema.mirroring import Mirrored, MirrorFailure, MirrorParams

_LOG = logging.getLogger("pyrsia.builds.importer")

PATIENCE_MS_MAX: Final = 5 * 60_000
PATIENCE_SHARE: Final = 8
"""How long a member whose upstream is down tries again: this part of the class, at most 5 min."""

_NO_CAUSE: Final = re.compile(r"[^A-Za-z0-9 ._:/()+,=-]")
_PASSING: Final = frozenset({"SOURCE_UNAVAILABLE", "TIMEOUT"})


@dataclass(frozen=True, slots=True)
class Found:
    """What a sponsor asks for: the root that the tag is, and the deadline that the size needs."""

    source: Source
    recipe: dict[str, RecipeValue]
    time_class: str


class Importer:
    """Works through the gateway's mirror jobs."""

    def __init__(self, context: BuildContext) -> None:
        """Work in ``context``."""
        self._context = context

    # ------------------------------------------------------------ the sponsor

    async def find(self, record: BuildRecord, on_progress: OnProgress) -> Found | LoggedImage:
        """Return what to ask for, or the entry of the log that says it already.

        Raises:
            InvalidInputError: The image is not what was wanted, or does not fit the log.
            NotFoundError: The upstream has no such tag, or may not be asked.
            UnavailableError: Upstream or gateway do not answer now.
        """
        purl = Purl.parse(record.purl)
        name, tag, digest = image_of(purl)
        wanted = str(digest or "")
        if tag is not None:
            look = await self._context.mirror.look(str(name), tag)
            check_pin(look, record.pinned)
            wanted = look.digest
        platforms = record.platforms.split(",") if record.platforms else []
        logged = self._logged(purl, wanted, platforms)
        if logged is not None:
            return logged
        params = MirrorParams(
            job=f"find-{record.build_id}", image=str(name), digest=wanted, platforms=platforms
        )
        mirrored = await self._context.mirror.mirror(params, on_progress)
        if isinstance(mirrored, MirrorFailure):
            # A job that has failed stays failed: the next try is another one.
            await self.forget(record)
            raise _refusal(mirrored)
        compose_image(purl, mirrored)
        source = root_source(root_of_mirrored(mirrored))
        self._context.records.add_document(lock_document(source))
        self._context.records.add_document(TOOLCHAIN)
        return Found(source, recipe_of(platforms), class_for_bytes(total_bytes(mirrored)))

    async def forget(self, record: BuildRecord) -> None:
        """Let the gateway forget what ``find`` began."""
        await self._context.mirror.forget(f"find-{record.build_id}")

    def _logged(self, purl: Purl, digest: str, platforms: list[str]) -> LoggedImage | None:
        """Return the newest entry of the image if it says what a new one would."""
        newest = self._context.newest_image(purl)
        if newest is None or newest.is_closed or newest.digest != digest:
            return None
        view = self._context.chain.request(newest.request)
        is_same = view is not None and view.request.recipe == recipe_of(platforms)
        return newest if is_same else None

    # ------------------------------------------------------------ the member

    async def answer(self, view: RequestView, on_progress: OnProgress) -> OwnItem:
        """Return this member's answer to a request for a mirrored image.

        Raises:
            UnavailableError: Not yet: upstream or gateway are away, and there is time.
        """
        cause = why_refused(view.request)
        if cause:
            return _failed(view.id, "REFUSED", cause)
        params = self._params(view)
        try:
            found = await self._context.mirror.mirror(params, on_progress)
        except InvalidInputError as error:
            # Its form is right, so this node's own configuration does not allow it.
            _LOG.warning("import of %s is refused: %s", view.request.purl, error)
            return _failed(view.id, "REFUSED", "upstream")
        if isinstance(found, MirrorFailure):
            return self._failure(view, await self._seen_instead(params, found))
        return await self._own_item(view, found, has_tag=params.tag is not None)

    def _params(self, view: RequestView) -> MirrorParams:
        name, tag, _ = image_of(view.request.purl)
        return MirrorParams(
            job=job_of(view),
            image=str(name),
            digest=str(pinned_digest(view.request.source)),
            tag=tag,
            platforms=platforms_of(view.request.recipe),
        )

    async def _seen_instead(self, params: MirrorParams, failure: MirrorFailure) -> MirrorFailure:
        """Return why there is no result: an upstream whose tag has moved may lack the digest."""
        if failure.outcome not in _PASSING or params.tag is None:
            return failure
        try:
            look = await self._context.mirror.look(params.image, params.tag)
        except (NotFoundError, UnavailableError):
            return failure
        if look.digest == params.digest:
            return failure
        return failure.model_copy(
            update={
                "outcome": MOVED,
                "cause": "tag moved",
                "detail": f"the tag is {look.digest}; {failure.detail}",
                "moved": look.digest,
                "seen_ms": look.seen_ms,
            }
        )

    def _failure(self, view: RequestView, failure: MirrorFailure) -> OwnItem:
        now_ms = self._context.clock.now_ms()
        if failure.outcome in _PASSING and now_ms < view.opened_ms + _patience_ms(view):
            raise UnavailableError(f"{failure.cause}: {failure.detail}")
        _LOG.warning(
            "import of %s: %s (%s): %s",
            *(view.request.purl, failure.outcome, failure.cause, failure.detail),
        )
        if failure.outcome != MOVED:
            return _failed(view.id, failure.outcome, failure.cause)
        if failure.moved is None or failure.seen_ms is None:
            raise VerificationError("the gateway says that the tag moved, and not to what")
        moved = FailedItem(
            view.id, MOVED, _cause(failure.cause), seen_ms=failure.seen_ms, moved=failure.moved
        )
        return OwnItem(moved.to_json(), None, {})

    async def _own_item(self, view: RequestView, mirrored: Mirrored, *, has_tag: bool) -> OwnItem:
        root = root_of_mirrored(mirrored)
        if root_source(root) != view.request.source:
            return _failed(view.id, "REFUSED", "source")
        try:
            composed = compose_image(view.request.purl, mirrored)
        except InvalidInputError as error:
            _LOG.warning("import of %s: %s", view.request.purl, error)
            return _failed(view.id, "REFUSED", "document")
        # To attest is to promise to serve: these files never make room for a cached one.
        for file in composed.document.files:
            await self._context.vault.fetch(sha256=file.sha256, size=file.size, pieces=file.pieces)
        self._context.records.add_document(lock_document(view.request.source))
        item = BuiltItem(
            request=view.id,
            result=composed.document.digest(),
            level=composed.level,
            own=composed.own,
            seen_ms=mirrored.seen_ms if has_tag else None,
        )
        return OwnItem(item.to_json(), composed.document, {})


def job_of(view: RequestView) -> str:
    """Return the name of the gateway's job for a request."""
    return f"mirror-{view.id[:32]}"


def _patience_ms(view: RequestView) -> int:
    return min((view.deadline_ms - view.opened_ms) // PATIENCE_SHARE, PATIENCE_MS_MAX)


def _refusal(failure: MirrorFailure) -> InvalidInputError | UnavailableError:
    text = f"{failure.outcome} ({failure.cause}): {failure.detail}"
    return UnavailableError(text) if failure.outcome in _PASSING else InvalidInputError(text)


def _failed(request: Sha256, outcome: str, cause: str) -> OwnItem:
    return OwnItem(FailedItem(request, outcome, _cause(cause)).to_json(), None, {})


def _cause(text: str) -> str:
    """Return a few words as an item may have them."""
    return _NO_CAUSE.sub("", text)[:CAUSE_LENGTH_MAX]
