"""Lists: repositories, tags, referrers, and the history of a tag; page by page.

Distribution specification 1.1, "Content Discovery" (end-8, end-12), the catalog of the older
Docker interface, and the open proposal for tag history under the ``_oci`` extension.
docs/spec/registry-api.md has the form of each answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlencode

from pyrsia_node.gateway.images.access import AccessError
from pyrsia_node.gateway.images.calls import PAGE_MAX, Call, Fields, digest_of, page_size
from pyrsia_node.gateway.images.histories import Cursor, Step, after, logged_step, own_steps
from pyrsia_node.gateway.images.names import Names, NetworkImages, Target
from pyrsia_node.gateway.images.routes import RouteError
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.manifests import OCI_INDEX
from pyrsia_node.model.oci import check_tag
from pyrsia_node.ports.registry import StoredManifest
from pyrsia_node.registry.access import Action
from pyrsia_node.registry.errors import ManifestUnknownError, NameUnknownError
from pyrsia_node.registry.service import Registry

EXTENSION_URL: Final = "https://github.com/opencontainers/distribution-spec/tree/main/extensions"


@dataclass(frozen=True, slots=True)
class Lists:
    """Answers lists."""

    names: Names
    images: NetworkImages
    registry: Registry

    async def ping(self, call: Call) -> None:
        """``GET /v2/``: this is a registry (end-1)."""
        call.rights.check_ping()
        await call.answer_json({})

    async def discover(self, call: Call) -> None:
        """``_oci/ext/discover``: which extensions are answered."""
        await call.answer_json(
            {
                "extensions": [
                    {"name": "_oci", "description": "tag-history", "url": EXTENSION_URL},
                ]
            }
        )

    # ------------------------------------------------------------ names

    async def catalog(self, call: Call) -> None:
        """``_catalog``: the repositories that were pushed here and that the client may pull."""
        call.rights.check_catalog()
        wanted = page_size(call)
        begin, found = call.parameter("last") or "", list[str]()
        # One more than wanted tells whether there is a next page.
        while len(found) <= wanted:
            batch = await self.registry.repositories(after=begin, limit=PAGE_MAX)
            found += [name for name in batch if call.rights.may(Action.PULL, name)]
            if len(batch) < PAGE_MAX:
                break
            begin = batch[-1]
        fields = _next_page(call, found, wanted)
        await call.answer_json({"repositories": found[:wanted]}, fields)

    async def tags(self, call: Call) -> None:
        """``tags/list``: tags of a repository, sorted bytewise (end-8)."""
        wanted, begin = page_size(call), call.parameter("last") or ""
        target = self.names.target(call.route)
        found = await self._tags(call, target, begin, wanted + 1)
        fields = _next_page(call, found, wanted)
        # As the client called it, so that it finds what it asked for.
        await call.answer_json({"name": call.route.asked, "tags": found[:wanted]}, fields)

    async def _tags(self, call: Call, target: Target, begin: str, limit: int) -> list[str]:
        own: list[str] | None = None
        if self._is_here(call, target):
            assert target.local is not None
            own = await self.registry.tags(target.local, after=begin, limit=limit)
            if not await self.names.is_logged(target):
                return own
        others = await self._others_tags(call, target)
        if others is None and own is None:
            raise NameUnknownError(f"nobody knows {target.image}")
        later = [tag for tag in others or [] if tag > begin]
        return sorted({*later, *(own or [])})[:limit]

    async def _others_tags(self, call: Call, target: Target) -> list[str] | None:
        """Return the tags that the log and the upstream have, as far as the client may know."""
        assert target.image is not None
        try:
            self.names.check_upstream(target, call.rights, call.route.asked)
        except AccessError:
            if not await self.names.is_logged(target):
                raise
            return await self.images.tags(target.image, upstream=False)
        return await self.images.tags(target.image)

    def _is_here(self, call: Call, target: Target) -> bool:
        if target.local is None:
            return False
        ours = call.rights.is_private(target.local) or self.registry.has_repository(target.local)
        if not ours and target.image is not None:
            return False
        call.rights.check(Action.PULL, target.local)
        return True

    # ------------------------------------------------------------ referrers

    async def referrers(self, call: Call) -> None:
        """``referrers/DIGEST``: manifests that name this one as their subject (end-12)."""
        subject = str(digest_of(call.route.item))
        target = self.names.target(call.route)
        wanted = call.parameter("artifactType")
        found: list[StoredManifest] = []
        is_more = False
        if self._is_here(call, target):
            assert target.local is not None
            found, is_more = await self.registry.referrers(
                target.local, subject, artifact_type=wanted, after=call.parameter("last") or ""
            )
        fields: Fields = []
        if wanted is not None:
            fields.append(("oci-filters-applied", "artifactType"))
        if is_more:
            fields.append(_link(call, found[-1].digest))
        listed = [_descriptor(each) for each in found]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed}
        await call.answer_json(index, fields, media=OCI_INDEX)

    # ------------------------------------------------------------ history

    async def history(self, call: Call) -> None:
        """``_oci/tag-history/TAG``: what a tag has been, newest first."""
        wanted, tag, last = page_size(call), _tag(call.route.item), call.parameter("last")
        target = self.names.target(call.route)
        steps: list[Step] = []
        if target.image is not None:
            changes = await self.images.history(target.image, tag)
            steps = [logged_step(change) for change in changes]
        if self._is_here(call, target):
            assert target.local is not None
            # With steps of the log among them all are needed to sort; else a page is enough.
            cursor = Cursor() if steps else Cursor.parse(last)
            count = PAGE_MAX * 100 if steps else wanted + 1
            own = await own_steps(self.registry, target.local, tag, cursor=cursor, count=count)
            steps = own if not steps else [*steps, *own]
        if any(step.cursor.startswith("log-") for step in steps):
            steps.sort(key=lambda step: step.time_ms, reverse=True)
            steps = after(steps, last)
        if not steps and last is None:
            raise ManifestUnknownError(f"tag {tag} has no history")
        fields: Fields = []
        if len(steps) > wanted > 0:
            fields.append(_link(call, steps[wanted - 1].cursor))
        await call.answer_json([step.shown for step in steps[:wanted]], fields)


def _tag(text: str) -> str:
    try:
        return check_tag(text)
    except InvalidInputError as error:
        raise RouteError(404, "MANIFEST_UNKNOWN", str(error)) from error


def _descriptor(manifest: StoredManifest) -> dict[str, object]:
    shown: dict[str, object] = {
        "mediaType": manifest.media,
        "digest": manifest.digest,
        "size": manifest.size,
    }
    if manifest.artifact_type:
        shown["artifactType"] = manifest.artifact_type
    annotations = json.loads(manifest.annotations)
    if annotations:
        shown["annotations"] = annotations
    return shown


def _next_page(call: Call, found: list[str], wanted: int) -> Fields:
    if len(found) <= wanted or wanted == 0:
        return []
    return [_link(call, found[wanted - 1])]


def _link(call: Call, last: str) -> tuple[str, str]:
    """Return where the next page is: the same request, with ``last`` moved on (RFC 8288)."""
    kept = [(key, value) for key, value in call.query if key != "last"]
    path = quote(call.scope["raw_path"].decode("ascii"), safe="/:%")
    return "link", f'<{path}?{urlencode([*kept, ("last", last)])}>; rel="next"'
