"""Images of upstream registries, pulled through: implements ``source.ImageSource``.

What is here already is served without asking anybody, but only under a name that may have it: a
public blob under any, one that came with credentials under the image that it came for. Everything
else is fetched once however many ask (``intake``), tags are asked about by ``tag_book``. Nothing
here is vouched for by the log; the caller says so to the client.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pyrsia_node.artifacts.images.byte_cache import ByteCache
from pyrsia_node.artifacts.images.intake import Intake
from pyrsia_node.artifacts.images.intakes import Intakes, Wanted
from pyrsia_node.artifacts.images.keeping import Keep, keep_bytes
from pyrsia_node.artifacts.images.private_blobs import PrivateBlobs
from pyrsia_node.artifacts.images.registry_client import (
    CLIENT_WAITS,
    BlobStream,
    RemoteManifest,
    RemoteTag,
)
from pyrsia_node.artifacts.images.source import HeldBlob, HeldManifest
from pyrsia_node.artifacts.images.tag_book import Absences, TagBook
from pyrsia_node.artifacts.images.upstreams import Upstreams
from pyrsia_node.artifacts.reading import BlobReader, Reader
from pyrsia_node.artifacts.single_flight import SingleFlight
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.manifests import MANIFEST_BYTES_MAX, parse_manifest
from pyrsia_node.model.oci import ImageName, OciDigest, is_digest
from pyrsia_node.ports import BlobStore, Clock
from pyrsia_node.ports.registry import RegistryDb

MANIFESTS_KEPT_BYTES: Final = 16 * 1024 * 1024
LISTS_KEPT_BYTES: Final = 16 * 1024 * 1024
TAG_COST_BYTES: Final = 64
"""Memory of a short text in a list, beside its characters."""

ANSWERS_KEPT: Final = 10_000
ABSENT_SECONDS: Final = 10.0
"""How long a missing blob or manifest is believed to be missing."""

KNOWN_SECONDS: Final = 600.0
"""How long an upstream's word that it has a repository is believed."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ProxyParts:
    """What a proxy stands on.

    ``folder`` takes manifests until they are stored; ``db`` remembers tags and private blobs.
    """

    upstreams: Upstreams
    intakes: Intakes
    store: BlobStore
    folder: Path
    db: RegistryDb
    clock: Clock


class ImageProxy:
    """Pulls through every registry that may be asked."""

    def __init__(self, parts: ProxyParts, *, fresh_seconds: int, is_offline: bool = False) -> None:
        """Wire a proxy.

        Args:
            parts: What it stands on.
            fresh_seconds: How long a tag is believed without asking again.
            is_offline: Serve what is here, ask nobody.
        """
        self._upstreams = parts.upstreams
        self._intakes = parts.intakes
        self._store = parts.store
        self._folder = parts.folder
        self._is_offline = is_offline
        self._fresh_seconds = float(fresh_seconds)
        self._private = PrivateBlobs(parts.store, parts.db, parts.clock)
        self._book = TagBook(
            self._look, parts.db, parts.clock, fresh_seconds=fresh_seconds, is_offline=is_offline
        )
        self._manifests: ByteCache[HeldManifest] = ByteCache(MANIFESTS_KEPT_BYTES)
        self._absent = Absences(ABSENT_SECONDS)
        self._flights = SingleFlight()
        self._tags: ByteCache[tuple[float, list[str]]] = ByteCache(LISTS_KEPT_BYTES)
        self._has: OrderedDict[ImageName, tuple[float, bool]] = OrderedDict()

    def may_ask(self, name: ImageName) -> bool:
        """Tell whether the configuration allows to ask the registry of this image."""
        return self._upstreams.allows(name)

    def is_private(self, name: ImageName) -> bool:
        """Tell whether credentials are configured for the image; raises UnavailableError."""
        return self._upstreams.is_private(name)

    # ------------------------------------------------------------ manifests

    async def manifest(self, name: ImageName, reference: str) -> HeldManifest:
        """Return what a tag or digest means; raises as ``ImageSource`` says."""
        if is_digest(reference):
            return await self._by_digest(name, OciDigest.parse(reference), is_stale=False)
        tag = await self._book.resolve(name, reference)
        return await self._by_digest(name, tag.digest, is_stale=tag.is_stale)

    async def _by_digest(
        self, name: ImageName, digest: OciDigest, *, is_stale: bool
    ) -> HeldManifest:
        held = await self._held(name, digest)
        if held is None:
            self._check_online(f"manifest {digest} of {name}")
            key = ("manifest", name, digest)
            held = await self._once(key, lambda: self._fetch_manifest(name, digest))
        return HeldManifest(
            held.data,
            held.media,
            digest,
            held.sha256,
            is_private=self.is_private(name),
            is_stale=is_stale,
        )

    async def _held(self, name: ImageName, digest: OciDigest) -> HeldManifest | None:
        """Return a manifest that is in the store and may be served under this name."""
        sha256 = self._intakes.sha256_of(digest)
        if sha256 is None or not await self._may_serve(name, sha256):
            return None
        held = self._manifests.get(f"{name} {sha256}")
        if held is not None:
            return held
        data = await asyncio.to_thread(self._read, sha256)
        return None if data is None else self._remember(name, digest, data, "")

    async def _fetch_manifest(self, name: ImageName, digest: OciDigest) -> HeldManifest:
        client = await self._upstreams.client(name)
        found = await client.manifest(name, str(digest), patience=CLIENT_WAITS)
        media = _media_of(found)
        # Judged before it is kept: what is no manifest is not stored as one.
        held = self._remember(name, digest, found.data, media)
        keep = None if self._upstreams.is_public(name) else self._private.keeper(name)
        await asyncio.to_thread(keep_bytes, self._store, self._folder, found.data, keep=keep)
        self._intakes.note_sha256(digest, held.sha256)
        return held

    def _remember(
        self, name: ImageName, digest: OciDigest, data: bytes, media: str
    ) -> HeldManifest:
        try:
            manifest = parse_manifest(data, media=media)
        except InvalidInputError as error:
            if media:
                raise VerificationError(f"{name.host} sent {digest}: {error}") from error
            raise NotFoundError(f"{digest} is no manifest of {name}") from error
        sha256 = sha256_of(data)
        held = HeldManifest(data, manifest.media, digest, sha256, is_private=False)
        # By name, too: of a document that says no type, each registry tells one.
        self._manifests.put(f"{name} {sha256}", held, len(data))
        return held

    # ------------------------------------------------------------ blobs

    async def stat(self, name: ImageName, digest: OciDigest) -> HeldBlob:
        """Tell a blob's size without fetching it; raises as ``ImageSource`` says."""
        is_private = self.is_private(name)
        sha256 = self._intakes.sha256_of(digest)
        if sha256 is not None and await self._may_serve(name, sha256):
            info = self._store.stat(sha256)
            if info is not None:
                return HeldBlob(info.size, sha256, is_private)
        self._check_online(f"blob {digest} of {name}")
        size = await self._once(("size", name, digest), lambda: self._size(name, digest))
        return HeldBlob(size, sha256, is_private)

    async def open(self, name: ImageName, digest: OciDigest) -> tuple[Reader, str]:
        """Return a reader, which may be ahead of the fetch; raises as ``ImageSource`` says."""
        sha256 = self._intakes.sha256_of(digest)
        if sha256 is not None and await self._may_serve(name, sha256):
            # What is evicted between the two looks is fetched anew.
            with contextlib.suppress(NotFoundError, FileNotFoundError):
                return BlobReader(self._store, sha256), sha256
        self._check_online(f"blob {digest} of {name}")
        key = ("blob", name, digest)
        self._absent.check(key)
        try:
            return await (await self._intake(name, digest)).open()
        except NotFoundError as error:
            self._absent.note(key, error)
            raise

    async def _intake(self, name: ImageName, digest: OciDigest) -> Intake:
        client = await self._upstreams.client(name)
        is_public = self._upstreams.is_public(name)
        keep: Keep | None = None if is_public else self._private.keeper(name)

        def fetch(start: int) -> AbstractAsyncContextManager[BlobStream]:
            return client.blob(name, digest, start=start, patience=CLIENT_WAITS)

        return self._intakes.begin(Wanted(digest, name.host), fetch, keep, patience=CLIENT_WAITS)

    # ------------------------------------------------------------ names

    async def tags(self, name: ImageName) -> list[str]:
        """Return the repository's tags, as they were at most ``fresh_seconds`` ago."""
        kept = self._tags.get(str(name))
        if kept is not None and asyncio.get_running_loop().time() - kept[0] < self._fresh_seconds:
            return kept[1]
        try:
            self._check_online(f"the list of tags of {name}")
            return await self._once(("tags", name), lambda: self._ask_tags(name))
        except UnavailableError:
            if kept is None:
                raise
            return kept[1]

    async def knows(self, name: ImageName) -> bool:
        """Tell whether the upstream has the repository; raises UnavailableError alone."""
        if self._book.knows(name):
            return True
        now = asyncio.get_running_loop().time()
        until, known = self._has.get(name, (0.0, False))
        if until > now:
            return known
        if self._is_offline:
            raise UnavailableError(
                f"whether {name.host} has {name.repository} cannot be told offline; "
                "names of this node's own belong into registry.local_prefixes"
            )
        return await self._once(("has", name), lambda: self._ask_whether(name))

    async def close(self) -> None:
        """Stop what is under way; clients and intakes are closed by who made them."""
        await self._book.close()
        await self._flights.close()

    # ------------------------------------------------------------ inside

    async def _may_serve(self, name: ImageName, sha256: str) -> bool:
        """Tell whether a blob is here and may be served under this name."""
        if self._store.is_shared(sha256):
            return True
        # What came with credentials is not served once there are none: the upstream decides anew.
        if self._upstreams.is_public(name) or self._store.stat(sha256) is None:
            return False
        return await asyncio.to_thread(self._private.may_serve, name, sha256)

    def _check_online(self, what: str) -> None:
        if self._is_offline:
            raise UnavailableError(f"{what} is not here, and docker.offline is set")

    async def _once(self, key: object, act: Callable[[], Awaitable[_T]]) -> _T:
        """Run what others wait for as well once; an absence is remembered."""
        self._absent.check(key)

        async def noted() -> _T:
            try:
                return await act()
            except NotFoundError as error:
                self._absent.note(key, error)
                raise

        return await self._flights.run(key, noted)

    async def _look(self, name: ImageName, tag: str) -> RemoteTag:
        client = await self._upstreams.client(name)
        return await client.look(name, tag, patience=CLIENT_WAITS)

    async def _size(self, name: ImageName, digest: OciDigest) -> int:
        client = await self._upstreams.client(name)
        return await client.blob_size(name, digest, patience=CLIENT_WAITS)

    async def _ask_tags(self, name: ImageName) -> list[str]:
        client = await self._upstreams.client(name)
        found = await client.tags(name, patience=CLIENT_WAITS)
        cost = sum(len(tag) + TAG_COST_BYTES for tag in found)
        self._tags.put(str(name), (asyncio.get_running_loop().time(), found), cost)
        return found

    async def _ask_whether(self, name: ImageName) -> bool:
        client = await self._upstreams.client(name)
        found = await client.has(name, patience=CLIENT_WAITS)
        seconds = KNOWN_SECONDS if found else ABSENT_SECONDS
        until = asyncio.get_running_loop().time() + seconds
        self._has[name] = (until, found)
        self._has.move_to_end(name)
        if len(self._has) > ANSWERS_KEPT:
            self._has.popitem(last=False)
        return found

    def _read(self, sha256: str) -> bytes | None:
        """Return a stored document if it is small enough to be a manifest."""
        with contextlib.suppress(NotFoundError, FileNotFoundError):
            info = self._store.stat(sha256)
            if info is not None and info.size <= MANIFEST_BYTES_MAX:
                with self._store.lease(sha256) as path:
                    return Path(path).read_bytes()
        return None


def _media_of(found: RemoteManifest) -> str:
    """Return the type that the registry gave, unless it is one that says nothing."""
    return found.media if found.media.startswith("application/vnd.") else ""
