"""Pulling: manifests by tag or digest, blobs by digest; GET and HEAD.

Distribution specification 1.1, "Pull" (end-2, end-3). ``X-Pyrsia-Verified`` says who vouches for
what is answered: ``log``, ``upstream``, or ``local`` for what was pushed to this node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pyrsia_node.artifacts.images.found import OCTETS, FoundManifest
from pyrsia_node.artifacts.reading import BlobReader, Reader
from pyrsia_node.gateway.images.calls import Call, Fields, digest_of
from pyrsia_node.gateway.images.errors import FIELDS
from pyrsia_node.gateway.images.names import Names, NetworkImages, Target
from pyrsia_node.gateway.images.routes import RouteError
from pyrsia_node.gateway.negotiation import preferred
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.model.oci import OciDigest, check_tag, is_digest
from pyrsia_node.ports import BlobStore
from pyrsia_node.ports.registry import RepositoryBlob
from pyrsia_node.registry.access import Action
from pyrsia_node.registry.errors import BlobUnknownError, ManifestUnknownError
from pyrsia_node.registry.service import Registry
from pyrsia_node.transfer.asgi import answer_at_once, encoded
from pyrsia_node.transfer.body import send_reader
from pyrsia_node.transfer.conditions import matches_etag

LOCAL: Final = "local"
SMALL_BYTES_MAX: Final = 16 * 1024
"""Blobs up to this size, configs above all, are answered from memory."""

_ENCODED_FIELDS: Final = tuple((name.encode(), value.encode()) for name, value in FIELDS)
_CONDITIONS: Final = frozenset({b"range", b"if-none-match", b"if-range"})
_ANY_JSON: Final = "application/json"
_RANGE: Final = re.compile(r"\s*bytes=\s*(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})\s*")


@dataclass(frozen=True, slots=True)
class Pulls:
    """Answers what is pulled."""

    names: Names
    images: NetworkImages
    registry: Registry
    store: BlobStore

    # ------------------------------------------------------------ manifests

    async def manifest(self, call: Call) -> None:
        """Answer GET or HEAD of a manifest."""
        reference = _reference(call.route.item)
        data, media, digest, fields = await self._find_manifest(call, reference)
        etag = f'"{digest}"'
        if matches_etag(call.header(b"if-none-match"), etag):
            await call.answer_empty(304, [("etag", etag), ("docker-content-digest", digest)])
            return
        accept = call.header(b"accept")
        if accept is not None and not _accepts(accept, media):
            raise ManifestUnknownError(f"the manifest is {media}, which Accept does not name")
        headers = [
            (b"content-type", media.encode()),
            (b"content-length", b"%d" % len(data)),
            (b"docker-content-digest", digest.encode()),
            (b"etag", etag.encode()),
            (b"vary", b"accept"),
            *_ENCODED_FIELDS,
            *encoded((*fields, *call.fields)),
        ]
        await answer_at_once(call.scope, call.send, 200, headers, data)

    async def _find_manifest(
        self, call: Call, reference: str
    ) -> tuple[bytes, str, str, tuple[tuple[str, str], ...]]:
        """Return bytes, type, digest and further header fields."""
        target = self.names.target(call.route)
        is_logged = await self.names.is_logged(target)
        if is_logged:
            assert target.image is not None
            try:
                return _network(await self.images.manifest(target.image, reference, upstream=False))
            except NotFoundError:
                # An own tag of a repository that the log has learnt of since stays readable.
                pass
        local = target.local
        if local is not None and (stored := self.registry.find(local, reference)) is not None:
            call.rights.check(Action.PULL, local)
            data = await self.registry.bytes_of(stored)
            return data, stored.media, stored.digest, _LOCAL_FIELDS
        if self._is_here(call, target):
            raise ManifestUnknownError(f"{local} has no manifest {reference}")
        image = self.names.check_upstream(target, call.rights, call.route.asked)
        found = await self.images.manifest(image, reference)
        if found.is_private:
            # Credentials may have come into the file since the look before.
            call.rights.check_credentialed(image, call.route.asked)
        return _network(found)

    def _is_here(self, call: Call, target: Target) -> bool:
        """Tell whether this node alone answers for a name; only for who may pull it."""
        if target.local is None:
            return False
        ours = call.rights.is_private(target.local) or self.registry.has_repository(target.local)
        if ours or target.image is None:
            call.rights.check(Action.PULL, target.local)
            return True
        return False

    # ------------------------------------------------------------ blobs

    async def blob(self, call: Call) -> None:
        """Answer GET or HEAD of a blob, whole or a range."""
        digest = digest_of(call.route.item)
        _check_range(call)
        target = self.names.target(call.route)
        is_logged = await self.names.is_logged(target)
        if is_logged:
            try:
                await self._send_network(call, target, digest, upstream=False)
            except NotFoundError:
                pass
            else:
                return
        local = target.local
        if local is not None and (blob := self.registry.find_blob(local, str(digest))) is not None:
            call.rights.check(Action.PULL, local)
            await self._send_local(call, blob, digest)
            return
        if self._is_here(call, target):
            raise BlobUnknownError(f"{local} has no blob {digest}")
        self.names.check_upstream(target, call.rights, call.route.asked)
        await self._send_network(call, target, digest, upstream=True)

    async def _send_local(self, call: Call, blob: RepositoryBlob, digest: OciDigest) -> None:
        if call.scope["method"] == "HEAD":
            self.registry.check_there(blob)
            await self.registry.hold(blob)
            await self._send(call, _Sized(blob.size), _blob_fields(call, digest, LOCAL))
            return
        if blob.size <= SMALL_BYTES_MAX and not _has_conditions(call):
            data = await self.registry.small(blob)
            fields = _blob_fields(call, digest, LOCAL)
            fields += [
                ("etag", f'"{digest}"'),
                ("accept-ranges", "bytes"),
                ("content-type", OCTETS),
                ("content-length", str(len(data))),
            ]
            await answer_at_once(call.scope, call.send, 200, encoded(fields), data)
            return
        try:
            reader = BlobReader(self.store, blob.sha256)
        except NotFoundError as error:
            raise BlobUnknownError(f"the bytes of {digest} are gone") from error
        await self._send(call, reader, _blob_fields(call, digest, LOCAL))

    async def _send_network(
        self, call: Call, target: Target, digest: OciDigest, *, upstream: bool
    ) -> None:
        assert target.image is not None
        try:
            found = await self.images.stat(target.image, digest, upstream=upstream)
            if found.is_private:
                call.rights.check_credentialed(target.image, call.route.asked)
            reader: Reader = _Sized(found.size)
            if call.scope["method"] == "GET":
                reader = await self.images.open(target.image, digest, upstream=upstream)
        except NotFoundError as error:
            raise BlobUnknownError(str(error)) from error
        call.fields.extend(found.headers)
        is_public = not found.is_private
        fields = _blob_fields(call, digest, found.vouched, is_public=is_public)
        # Never the type that the image claims: a browser would take a layer of text/html for a page
        # of this node.
        await self._send(call, reader, fields)

    async def _send(self, call: Call, reader: Reader, fields: Fields) -> None:
        try:
            await send_reader(
                call.scope,
                call.receive,
                call.send,
                reader,
                etag=f'"{call.route.item}"',
                media=OCTETS,
                headers=fields,
            )
        finally:
            reader.close()


_LOCAL_FIELDS: Final = (("x-pyrsia-verified", LOCAL),)


def _network(found: FoundManifest) -> tuple[bytes, str, str, tuple[tuple[str, str], ...]]:
    fields = (("x-pyrsia-verified", found.vouched), *found.headers)
    return found.data, found.media, str(found.digest), fields


def _reference(text: str) -> str:
    """Return a tag or digest that may exist."""
    if is_digest(text):
        digest_of(text)
        return text
    try:
        return check_tag(text)
    except InvalidInputError as error:
        raise RouteError(404, "MANIFEST_UNKNOWN", str(error)) from error


def _accepts(accept: str, media: str) -> bool:
    """Tell whether a client takes a manifest of this type; most name it outright."""
    if media in accept and ";" not in accept:
        return True
    return preferred(accept, (media, _ANY_JSON)) is not None


def _blob_fields(call: Call, digest: OciDigest, vouched: str, *, is_public: bool = False) -> Fields:
    # Caches on the way keep for everybody what is "public", even if it was asked for with a login.
    scope = "public" if is_public else "private"
    return [
        *FIELDS,
        ("docker-content-digest", str(digest)),
        ("cache-control", f"{scope}, max-age=31536000, immutable"),
        ("x-pyrsia-verified", vouched),
        *call.fields,
    ]


def _has_conditions(call: Call) -> bool:
    return any(name in _CONDITIONS for name, _ in call.scope["headers"])


def _check_range(call: Call) -> None:
    """Refuse a range that ends before it begins: a client that miscounts should be told.

    RFC 9110 14.2 lets a server ignore it; every registry that is tested for it answers 416.
    """
    match = _RANGE.fullmatch(call.header(b"range") or "")
    if match is not None and int(match["last"]) < int(match["first"]):
        raise RouteError(416, "UNSUPPORTED", "the range ends before it begins")


class _Sized:
    """A blob of which only the size is wanted: what HEAD is answered from."""

    def __init__(self, size: int) -> None:
        self.size = size

    async def read(self, position: int, length: int) -> bytes | bytearray:
        raise AssertionError(position, length)

    async def ready(self, position: int, length: int) -> tuple[int, int]:
        raise AssertionError(position, length)

    def close(self) -> None:
        """Nothing is held."""
