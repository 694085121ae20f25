"""Pushing: uploads of blobs, mounts, manifests; and deleting.

Distribution specification 1.1, "Push" and "Content Management" (end-4 to end-7, end-9 to end-11,
end-13, end-14). Where an upload stands is in its path alone: Locations have no query.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from pyrsia_node.gateway.images.bodies import pieces, whole
from pyrsia_node.gateway.images.calls import Call, Fields, digest_of
from pyrsia_node.gateway.images.names import Names
from pyrsia_node.gateway.images.routes import RouteError
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.manifests import MANIFEST_BYTES_MAX
from pyrsia_node.model.oci import check_repository, check_tag, is_digest
from pyrsia_node.registry.access import Action
from pyrsia_node.registry.errors import (
    ManifestUnknownError,
    OutOfOrderError,
    SizeMismatchError,
    TooLargeError,
)
from pyrsia_node.registry.manifests import read_push
from pyrsia_node.registry.service import Registry
from pyrsia_node.registry.uploads import in_thread

_CONTENT_RANGE: Final = re.compile(r"(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})")
_ALGORITHMS: Final = frozenset({"sha256", "sha512"})


@dataclass(frozen=True, slots=True)
class Pushes:
    """Takes what is pushed."""

    names: Names
    registry: Registry

    async def _own(self, call: Call, action: Action = Action.PUSH) -> str:
        """Return the repository that this client may change."""
        return await self.names.own(self.names.target(call.route), call.rights, action)

    async def _own_upload(self, call: Call) -> str:
        """Return the repository of an upload under way: it was judged when that was begun."""
        target = self.names.target(call.route)
        if target.local is None:
            return await self.names.own(target, call.rights, Action.PUSH)
        call.rights.check(Action.PUSH, target.local)
        self.registry.uploads.status(target.local, call.route.item)
        return target.local

    # ------------------------------------------------------------ uploads

    async def begin(self, call: Call) -> None:
        """POST: begin an upload, mount a blob, or take one whole."""
        repository = await self._own(call)
        mount, digest = call.parameter("mount"), call.parameter("digest")
        algorithm = call.parameter("digest-algorithm")
        if algorithm is not None and algorithm not in _ALGORITHMS:
            raise RouteError(
                400, "DIGEST_INVALID", f"digest-algorithm {algorithm[:40]!r} is not known"
            )
        if mount is not None and await self._mounted(call, repository, mount):
            return
        if digest is not None and mount is None:
            await self._put_whole(call, repository, digest)
            return
        upload = await self.registry.uploads.begin(repository)
        await call.answer_empty(202, _upload_fields(call, upload.id, 0))

    async def _mounted(self, call: Call, repository: str, mount: str) -> bool:
        """Mount a blob and say so; False if the client has to push it."""
        digest = str(digest_of(mount))
        source = call.parameter("from")
        if source is not None:
            try:
                check_repository(source)
            except InvalidInputError as error:
                raise RouteError(400, "NAME_INVALID", str(error)) from error
        blob = await self.registry.uploads.mount(
            repository,
            digest,
            source=source,
            may_read=lambda other: call.rights.may(Action.PULL, other),
        )
        if blob is None:
            return False
        await self._created(call, digest)
        return True

    async def _put_whole(self, call: Call, repository: str, text: str) -> None:
        digest = str(digest_of(text))
        await self.registry.uploads.put(repository, pieces(call.receive), digest=digest)
        await self._created(call, digest)

    async def status(self, call: Call) -> None:
        """GET: where an upload stands."""
        repository = await self._own_upload(call)
        upload = self.registry.uploads.status(repository, call.route.item)
        await call.answer_empty(204, _upload_fields(call, upload.id, upload.offset))

    async def append(self, call: Call) -> None:
        """PATCH: the next chunk, or all of it as a stream."""
        repository = await self._own_upload(call)
        start, body = self._chunk(call, repository)
        offset = await self.registry.uploads.append(repository, call.route.item, body, start=start)
        await call.answer_empty(202, _upload_fields(call, call.route.item, offset))

    async def finish(self, call: Call) -> None:
        """PUT: the last chunk, if there is one, and what the whole must hash to."""
        repository = await self._own_upload(call)
        text = call.parameter("digest")
        if text is None:
            raise RouteError(400, "DIGEST_INVALID", "?digest= is missing: what shall it hash to?")
        digest = str(digest_of(text))
        start, body = self._chunk(call, repository)
        await self.registry.uploads.finish(
            repository, call.route.item, body, start=start, digest=digest
        )
        await self._created(call, digest)

    async def cancel(self, call: Call) -> None:
        """DELETE: drop an upload."""
        repository = await self._own_upload(call)
        await self.registry.uploads.cancel(repository, call.route.item)
        await call.answer_empty(204)

    def _chunk(
        self, call: Call, repository: str
    ) -> tuple[int | None, AsyncIterator[bytes | bytearray]]:
        """Return where a chunk begins, None if it does not say, and its body.

        Raises:
            OutOfOrderError: Not where the upload stands; said before any byte is read.
            SizeMismatchError: ``Content-Range`` and ``Content-Length`` contradict each other.
        """
        text = call.header(b"content-range")
        if text is None:
            return None, pieces(call.receive)
        match = _CONTENT_RANGE.fullmatch(text.strip())
        if match is None or int(match["last"]) < int(match["first"]):
            raise RouteError(
                416, "BLOB_UPLOAD_INVALID", f"Content-Range {text[:80]!r} is not FIRST-LAST"
            )
        first, count = int(match["first"]), int(match["last"]) - int(match["first"]) + 1
        offset = self.registry.uploads.status(repository, call.route.item).offset
        if first != offset:
            raise OutOfOrderError(offset, first)
        length = call.header(b"content-length")
        if length is not None and int(length) != count:
            raise SizeMismatchError(f"Content-Range {text} is {count} bytes, the body {length}")
        return first, _exactly(count, pieces(call.receive))

    async def _created(self, call: Call, digest: str) -> None:
        # The path of an upload ends in blobs/uploads, that of a blob in blobs.
        path = call.route.path.removesuffix("/uploads")
        fields = [("location", f"{path}/{digest}"), ("docker-content-digest", digest)]
        await call.answer_empty(201, fields)

    # ------------------------------------------------------------ manifests

    async def put_manifest(self, call: Call) -> None:
        """PUT: a manifest under a tag, or under its digest and the tags of ``?tag=``."""
        repository = await self._own(call)
        reference = call.route.item
        if is_digest(reference):
            reference = str(digest_of(reference))
        length = call.header(b"content-length")
        if length is not None and int(length) > MANIFEST_BYTES_MAX:
            raise TooLargeError(f"manifest of {length} bytes exceeds {MANIFEST_BYTES_MAX}")
        data = await whole(call.receive, bytes_max=MANIFEST_BYTES_MAX)
        media = (call.header(b"content-type") or "").partition(";")[0].strip()
        tags = call.parameters("tag")
        # Megabytes of JSON would keep every other client waiting.
        pushed = await in_thread(read_push, data, media, reference, tags)
        await self.registry.put_manifest(repository, pushed, actor=call.rights.actor)
        digest = pushed.stored.digest
        fields = [
            ("location", f"{call.route.path}/{digest}"),
            ("docker-content-digest", digest),
        ]
        if pushed.stored.subject is not None:
            fields.append(("oci-subject", pushed.stored.subject))
        if tags:
            fields.append(("oci-tag", ", ".join(pushed.tags)))
        await call.answer_empty(201, fields)

    # ------------------------------------------------------------ deleting

    async def remove_manifest(self, call: Call) -> None:
        """DELETE: a tag, or a manifest with all its tags."""
        repository = await self._own(call, Action.DELETE)
        reference, actor = call.route.item, call.rights.actor
        if is_digest(reference):
            await self.registry.remove_manifest(repository, str(digest_of(reference)), actor=actor)
        else:
            try:
                check_tag(reference)
            except InvalidInputError as error:
                raise ManifestUnknownError(str(error)) from error
            await self.registry.remove_tag(repository, reference, actor=actor)
        await call.answer_empty(202)

    async def remove_blob(self, call: Call) -> None:
        """DELETE: a blob of a repository."""
        repository = await self._own(call, Action.DELETE)
        await self.registry.remove_blob(repository, str(digest_of(call.route.item)))
        await call.answer_empty(202)


def _upload_fields(call: Call, upload_id: str, offset: int) -> Fields:
    path = call.route.path if call.route.path.endswith("uploads") else f"{call.route.path}/uploads"
    return [
        ("location", f"{path}/{upload_id}"),
        ("range", f"0-{max(offset - 1, 0)}"),
        ("docker-upload-uuid", upload_id),
    ]


async def _exactly(
    count: int, body: AsyncIterator[bytes | bytearray]
) -> AsyncIterator[bytes | bytearray]:
    """Yield a body that must have so many bytes; raises SizeMismatchError at the first too many."""
    left = count
    async for piece in body:
        left -= len(piece)
        if left < 0:
            raise SizeMismatchError(f"the body exceeds the {count} bytes of Content-Range")
        yield piece
    if left:
        raise SizeMismatchError(f"the body is {left} bytes short of Content-Range")
