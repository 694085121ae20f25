"""The node-local registry: manifests, tags, their history, lists. Knows ports, no HTTP.

Single rows are read on the caller's thread: a look into the embedded database takes microseconds
and never waits for a writer. Everything that writes, or reads a list, runs in a thread. Bytes of
manifests and small blobs are kept in memory by digest, which never goes stale; which digest a tag
means is asked of the database each time, so several gateways on one database agree at once.

Distribution specification 1.1; docs/design/registry.md.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from itertools import islice
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import CorruptStateError, NotFoundError, UnavailableError
from pyrsia_node.ports.registry import RepositoryBlob, StoredManifest, TagChange, referrer_bytes
from pyrsia_node.registry.errors import (
    BlobUnknownError,
    ContentMissingError,
    ManifestInvalidError,
    ManifestUnknownError,
    NameUnknownError,
)
from pyrsia_node.registry.manifests import PushedManifest
from pyrsia_node.registry.sessions import SessionPorts, WholeSession
from pyrsia_node.registry.uploads import Uploads, in_thread

REFERRERS_BYTES_MAX: Final = 1024 * 1024
"""Descriptors on one page of referrers; the next page has the rest."""

MISSING_NAMED_MAX: Final = 100
"""Of what a manifest lacks so many are named."""

SMALL_BYTES_KEPT: Final = 32 * 1024 * 1024


class Registry:
    """Repositories of this node. ``uploads`` is the half that takes blobs."""

    def __init__(self, ports: SessionPorts) -> None:
        """Serve what these ports hold."""
        self._ports = ports
        self._db = ports.db
        self.uploads = Uploads(ports)
        self._bytes = SmallBytes()

    # ------------------------------------------------------------ single rows

    def has_repository(self, repository: str) -> bool:
        """Tell whether anything that was pushed to it is still there."""
        return self._db.has_repository(repository)

    def find(self, repository: str, reference: str) -> StoredManifest | None:
        """Return what a tag or digest names, or None."""
        return self._db.manifest(repository, reference)

    def find_blob(self, repository: str, digest: str) -> RepositoryBlob | None:
        """Return a blob of a repository; its manifests can be asked for as blobs, too."""
        return self._db.blob(repository, digest) or self._as_blob(repository, digest)

    async def small(self, blob: RepositoryBlob) -> bytes:
        """Return all bytes of a small blob, as :meth:`bytes_of`; raises BlobUnknownError."""
        try:
            return await self._kept_bytes(blob.sha256, blob.digest)
        except ManifestUnknownError as error:
            raise BlobUnknownError(str(error)) from error

    def check_there(self, blob: RepositoryBlob) -> None:
        """Return if a blob's file is here.

        Raises:
            BlobUnknownError: It was lost: a client that pushes it again repairs that.
        """
        if self._ports.store.stat(blob.sha256) is None:
            raise BlobUnknownError(f"the bytes of {blob.digest} are gone")

    async def hold(self, blob: RepositoryBlob) -> None:
        """Renew the grace of a blob that a client is about to be told it need not push.

        Raises:
            BlobUnknownError: It is just being removed: the client has to push it.
        """
        if blob.is_needed:
            return
        try:
            await in_thread(self._claim, blob.sha256)
        except UnavailableError:
            raise BlobUnknownError(f"{blob.digest} is just being removed") from None

    def _claim(self, sha256: str) -> None:
        self._db.claim(sha256, now_ms=self._ports.clock.now_ms())

    def _as_blob(self, repository: str, digest: str) -> RepositoryBlob | None:
        manifest = self._db.manifest(repository, digest)
        if manifest is None:
            return None
        return RepositoryBlob(manifest.digest, manifest.sha256, manifest.size)

    async def bytes_of(self, manifest: StoredManifest) -> bytes:
        """Return a manifest's exact bytes; raises ManifestUnknownError if they are gone."""
        return await self._kept_bytes(manifest.sha256, manifest.digest)

    async def _kept_bytes(self, sha256: str, digest: str) -> bytes:
        kept = self._bytes.get(sha256)
        if kept is not None:
            return kept
        data = await in_thread(self._read, sha256, digest)
        self._bytes.keep(sha256, data)
        return data

    def _read(self, sha256: str, digest: str) -> bytes:
        try:
            with self._ports.store.lease(sha256) as path:
                data = Path(path).read_bytes()
        except NotFoundError:
            raise ManifestUnknownError(f"the bytes of {digest} are gone") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptStateError(f"blob {sha256} was changed on the disk: run fsck")
        return data

    # ------------------------------------------------------------ changes

    async def put_manifest(self, repository: str, pushed: PushedManifest, *, actor: str) -> None:
        """Store a manifest and let its tags point to it.

        Raises:
            ContentMissingError: It needs what the repository has not; nothing is stored.
            ManifestInvalidError: The repository has these bytes under another media type.
            ImmutableTagError, QuotaExceededError: As of ``RegistryDb.put_manifest``.
            UnavailableError: The disk is full.
        """
        await in_thread(self._put_manifest, repository, pushed, actor)
        self._bytes.keep(pushed.stored.sha256, pushed.data)

    def _put_manifest(self, repository: str, pushed: PushedManifest, actor: str) -> None:
        """Store the bytes, then the rows, then look whether the bytes are there."""
        stored = pushed.stored
        self._check_type(repository, stored)
        missing = self._missing(repository, stored)
        if missing:
            raise ContentMissingError(missing)
        session = WholeSession(self._ports, repository)
        try:
            session.store(pushed.data, f"sha256:{stored.sha256}")
        finally:
            session.close()
        now_ms = self._ports.clock.now_ms()
        try:
            self._db.put_manifest(repository, stored, pushed.tags, actor=actor, now_ms=now_ms)
        except NotFoundError as error:
            missing = self._missing(repository, stored)
            raise ContentMissingError(missing or [str(error)]) from error
        self._ports.check_there(stored.sha256)

    def _missing(self, repository: str, manifest: StoredManifest) -> list[str]:
        absent = (
            digest
            for digest in manifest.needs
            if self._db.blob(repository, digest) is None
            and self._db.manifest(repository, digest) is None
        )
        return list(islice(absent, MISSING_NAMED_MAX))

    def _check_type(self, repository: str, manifest: StoredManifest) -> None:
        """Refuse bytes that are here already as something else: tags on them must not change."""
        known = self._db.manifest(repository, manifest.digest)
        if known is not None and known.media != manifest.media:
            raise ManifestInvalidError(f"{manifest.digest} is here as {known.media}")

    async def remove_manifest(self, repository: str, digest: str, *, actor: str) -> None:
        """Take a manifest and all tags on it away; its history stays.

        Raises:
            ManifestUnknownError: It is not there.
            ImmutableTagError: A tag on it may not be deleted.
            InUseError: Another manifest of the repository needs it.
        """
        if not await in_thread(self._remove_manifest, repository, digest, actor):
            raise ManifestUnknownError(f"{repository} has no manifest {digest}")

    def _remove_manifest(self, repository: str, digest: str, actor: str) -> bool:
        now_ms = self._ports.clock.now_ms()
        return self._db.remove_manifest(repository, digest, actor=actor, now_ms=now_ms)

    async def remove_tag(self, repository: str, tag: str, *, actor: str) -> None:
        """Delete a tag; manifest and history stay. Raises as ``remove_manifest``."""
        if not await in_thread(self._remove_tag, repository, tag, actor):
            raise ManifestUnknownError(f"{repository} has no tag {tag}")

    def _remove_tag(self, repository: str, tag: str, actor: str) -> bool:
        now_ms = self._ports.clock.now_ms()
        return self._db.remove_tag(repository, tag, actor=actor, now_ms=now_ms)

    async def remove_blob(self, repository: str, digest: str) -> None:
        """Take a blob out of a repository; raises BlobUnknownError, InUseError."""
        if not await in_thread(self._db.remove_blob, repository, digest):
            raise BlobUnknownError(f"{repository} has no blob {digest}")

    # ------------------------------------------------------------ lists

    async def repositories(self, *, after: str, limit: int) -> list[str]:
        """Return names of repositories, sorted bytewise, after one."""
        return await in_thread(lambda: self._db.repositories(after=after, limit=limit))

    async def tags(self, repository: str, *, after: str, limit: int) -> list[str]:
        """Return tags, sorted bytewise, after one; raises NameUnknownError."""
        if not self._db.has_repository(repository):
            raise NameUnknownError(f"nothing was pushed to {repository}")
        return await in_thread(lambda: self._db.tags(repository, after=after, limit=limit))

    async def referrers(
        self, repository: str, subject: str, *, artifact_type: str | None, after: str
    ) -> tuple[list[StoredManifest], bool]:
        """Return a page of the manifests that name a digest as their subject.

        Args:
            repository: Where.
            subject: The digest.
            artifact_type: Of this type alone; None is any.
            after: Behind this digest.

        Returns:
            The page, in order of digest, and whether there may be more.
        """
        page = await in_thread(
            lambda: self._db.referrers(
                repository,
                subject,
                artifact_type=artifact_type,
                after=after,
                bytes_max=REFERRERS_BYTES_MAX,
            )
        )
        return page, sum(map(referrer_bytes, page)) > REFERRERS_BYTES_MAX

    async def history(
        self, repository: str, tag: str, *, before: int | None, limit: int
    ) -> list[TagChange]:
        """Return changes of a tag, newest first, with numbers below ``before``."""
        return await in_thread(
            lambda: self._db.tag_history(repository, tag, before=before, limit=limit)
        )


class SmallBytes:
    """Bytes in memory by SHA-256, bounded; what was not asked for longest goes first."""

    def __init__(self, bytes_max: int = SMALL_BYTES_KEPT) -> None:
        """Keep up to ``bytes_max`` bytes."""
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes_max = bytes_max
        self._bytes = 0

    def get(self, sha256: str) -> bytes | None:
        """Return bytes that are kept, or None."""
        found = self._kept.get(sha256)
        if found is not None:
            self._kept.move_to_end(sha256)
        return found

    def keep(self, sha256: str, data: bytes) -> None:
        """Keep bytes, if they are not far too long to be kept."""
        if sha256 in self._kept or len(data) > self._bytes_max // 8:
            return
        self._kept[sha256] = data
        self._bytes += len(data)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._kept.popitem(last=False)[1])
