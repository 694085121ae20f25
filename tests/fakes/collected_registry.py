"""A registry that is collected while the test pushes, pulls and deletes, with a clock by hand.

It pushes as ``registry.sessions`` does: check, claim, commit, row, look.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from pyrsia_node.ports import BlobStore
from pyrsia_node.ports.registry import Proxied, RegistryDb, RepositoryBlob, StoredManifest
from pyrsia_node.ports.registry_blobs import BlobCensus, BlobUploads
from pyrsia_node.registry.collector import (
    CollectedPorts,
    CollectionPolicy,
    Collector,
    Tally,
)
from pyrsia_node.schema.collection import CollectionReport
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.registry_db import SqliteRegistryDb
from pyrsia_node.store.uploads import FileBlobUploads
from tests.fakes.memory_blobs import MemoryBlobStore
from tests.fakes.memory_registry import MemoryRegistryDb
from tests.fakes.memory_uploads import MemoryBlobUploads

MINUTE_MS = 60_000
DAY_MS = 86_400_000
START_MS = 1_790_000_000_000

POLICY = CollectionPolicy(
    grace_ms=60 * MINUTE_MS, upload_ms=DAY_MS, cache_bytes_max=1000, cache_bytes_low=600
)


@dataclass
class HandClock:
    """Time that only the test moves."""

    ms: int = START_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class CollectedRegistry:
    """Ports, their collector, and what a client would do."""

    db: RegistryDb
    uploads: BlobUploads
    store: BlobStore
    census: BlobCensus
    folder: Path
    policy: CollectionPolicy = POLICY
    clock: HandClock = field(default_factory=HandClock)

    @property
    def ports(self) -> CollectedPorts:
        return CollectedPorts(self.db, self.uploads, self.store, self.census)

    def collect(self, *, dry_run: bool = False) -> CollectionReport:
        collector = Collector(self.ports, self.clock, self.policy)
        return collector.run(1, Tally(), dry_run=dry_run)

    def commit(self, data: bytes) -> RepositoryBlob:
        """Put bytes into the store that nothing names yet but a claim."""
        digest = digest_of(data)
        name = self.uploads.begin()
        with self.uploads.open(name) as writer:
            writer.append(data)
        sha256 = self.uploads.check(name, digest)
        self.db.claim(sha256, now_ms=self.clock.ms)
        info = self.uploads.commit(name, digest)
        return RepositoryBlob(digest, info.sha256, info.size)

    def push(self, repository: str, data: bytes) -> RepositoryBlob:
        blob = self.commit(data)
        self.db.add_blob(repository, blob, now_ms=self.clock.ms)
        return blob

    def tag(
        self, repository: str, tag: str, data: bytes, *needs: RepositoryBlob | StoredManifest
    ) -> StoredManifest:
        blob = self.commit(data)
        digests = tuple(need.digest for need in needs)
        manifest = StoredManifest(blob.digest, blob.sha256, blob.size, "m", digests)
        tags = [tag] if tag else []
        self.db.put_manifest(repository, manifest, tags, actor="ann", now_ms=self.clock.ms)
        return manifest

    def untag(self, repository: str, manifest: StoredManifest) -> None:
        self.db.remove_manifest(repository, manifest.digest, actor="ann", now_ms=self.clock.ms)

    def proxy(self, image: str, data: bytes) -> RepositoryBlob:
        blob = self.commit(data)
        self.db.note_proxied([Proxied(blob.sha256, blob.size, image, self.clock.ms)])
        return blob

    def pull(self, sha256: str) -> bytes:
        with self.store.lease(sha256) as path:
            return Path(path).read_bytes()

    def share(self, data: bytes) -> str:
        """Let the log vouch for some bytes that come from elsewhere."""
        path = self.folder / "outside"
        path.write_bytes(data)
        return self.store.adopt(str(path), hashlib.sha256(data).hexdigest()).sha256

    def age(self, sha256: str, used_ms: int) -> None:
        """Let the store believe that a blob was last used then."""
        if isinstance(self.store, MemoryBlobStore):
            self.store.used_ms[sha256] = used_ms
        else:
            os.utime(self.store.path(sha256), ns=(used_ms * 10**6, used_ms * 10**6))

    def is_here(self, *what: RepositoryBlob | StoredManifest) -> list[bool]:
        return [self.store.stat(each.sha256) is not None for each in what]


def in_memory(folder: Path) -> CollectedRegistry:
    store = MemoryBlobStore(folder)
    uploads = MemoryBlobUploads(folder, store)
    return CollectedRegistry(MemoryRegistryDb(), uploads, store, store, folder)


def on_disk(folder: Path) -> CollectedRegistry:
    """Open the real parts; a second call on the same folder is a restart."""
    store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 40)
    uploads = FileBlobUploads(folder / "blobs" / "uploads", store)
    db = SqliteRegistryDb(folder / "registry.sqlite", create=True)
    return CollectedRegistry(db, uploads, store, store, folder)
