"""Garbage collection without a pause: what nothing needs goes, while clients push and pull.

One run goes through five stages: uploads that nobody goes on with, blobs on the disk that no row
names, links of repositories to blobs that they do not need, the cache's least recently used blobs
above its limit, and at last the bytes that nothing needs. Each removal is three steps, so that a
push at the same time never loses a byte and a crash leaves something that the next run finishes:

1. ``begin_removal`` closes the row, if still nothing needs it: durable, and whoever claims these
   bytes from now on is told to try again;
2. the bytes go, unless somebody reads them just now: then the row is opened again;
3. ``end_removal`` forgets the row.

A crash after 1 or 2 leaves a closed row, which ``removable`` gives again. Blocks: call it from a
thread, one run at a time (``registry.collecting``). Contract of the steps: docs/design/registry.md.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.ports import BlobStore, Clock
from pyrsia_node.ports.registry import Proxied, RegistryDb, RepositoryBlob
from pyrsia_node.ports.registry_blobs import BlobCensus, BlobUploads, Standing
from pyrsia_node.schema.collection import DIGESTS_NAMED_MAX, CollectionReport, Stage

LEAST_GRACE_MS: Final = 5_000
"""No setting makes the grace shorter: a push has claimed its bytes and is about to name them."""

BATCH: Final = 200
"""Rows that are asked for at a time; between two batches the run can be stopped."""

_ALL: Final = 1_000_000
_TAG_MS: Final = 30 * 86_400_000
_TAGS_KEPT: Final = 100_000
"""What upstreams' tags meant: clients choose their names, so they must not grow without bound."""


@dataclass(frozen=True, slots=True)
class CollectedPorts:
    """What collections work on; ``store`` and ``census`` are the same blobs."""

    db: RegistryDb
    uploads: BlobUploads
    store: BlobStore
    census: BlobCensus


@dataclass(frozen=True, slots=True)
class CollectionPolicy:
    """When something goes. Milliseconds, bytes."""

    grace_ms: int
    upload_ms: int
    cache_bytes_max: int
    cache_bytes_low: int

    @property
    def grace_held_ms(self) -> int:
        """The grace that collections keep."""
        return max(self.grace_ms, LEAST_GRACE_MS)


@dataclass(slots=True)
class Tally:
    """What a run has done so far; read by others while it goes on."""

    stage: Stage = "idle"
    done: int = 0
    uploads: int = 0
    links: int = 0
    orphans: int = 0
    evicted: int = 0
    blobs: int = 0
    bytes: int = 0
    busy: int = 0
    digests: list[str] = field(default_factory=list)

    def enter(self, stage: Stage) -> None:
        """Begin a stage."""
        self.stage, self.done = stage, 0

    def removed(self, sha256: str, size: int) -> None:
        """Count bytes that left the store."""
        self.blobs += 1
        self.bytes += size
        if len(self.digests) < DIGESTS_NAMED_MAX:
            self.digests.append(sha256)


class Collector:
    """Collects one registry's garbage."""

    def __init__(
        self,
        ports: CollectedPorts,
        clock: Clock,
        policy: CollectionPolicy,
    ) -> None:
        """Work on these ports."""
        self._ports = ports
        self._clock = clock
        self.policy = policy
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End a run that is under way after its next step, and every later one at once."""
        self._stopping.set()

    def finish(self) -> int:
        """End the removals that a crash cut off; return how many. For the start of the process.

        Until then every push of these bytes would be told to try again.
        """
        run = _Run(self._ports, Tally(), self._stopping, dry_run=False)
        run.remove_blobs(0)
        return run.tally.done

    def run(self, number: int, tally: Tally, *, dry_run: bool = False) -> CollectionReport:
        """Collect once.

        Args:
            number: Of the run, for the report.
            tally: Is kept up to date meanwhile.
            dry_run: Look only: nothing is changed.

        Raises:
            UnavailableError: The disk is full; the next run goes on.
        """
        started_ms = self._clock.now_ms()
        run = _Run(self._ports, tally, self._stopping, dry_run=dry_run)
        before_ms = max(started_ms - self.policy.grace_held_ms, 0)
        run.drop_uploads(max(started_ms - self.policy.upload_ms, 0), before_ms)
        if not dry_run:
            tags_ms = max(started_ms - _TAG_MS, 0)
            self._ports.db.forget_upstream_tags(before_ms=tags_ms, keep=_TAGS_KEPT)
        run.find_orphans(before_ms)
        run.drop_links(before_ms)
        run.evict(self.policy, before_ms)
        run.remove_blobs(before_ms)
        tally.enter("idle")
        return self._report(number, tally, started_ms, dry_run=dry_run)

    def _report(
        self, number: int, tally: Tally, started_ms: int, *, dry_run: bool
    ) -> CollectionReport:
        return CollectionReport(
            number=number,
            dry_run=dry_run,
            started_ms=started_ms,
            ended_ms=self._clock.now_ms(),
            uploads=tally.uploads,
            links=tally.links,
            orphans=tally.orphans,
            evicted=tally.evicted,
            blobs=tally.blobs,
            bytes=tally.bytes,
            busy=tally.busy,
            digests=tally.digests,
        )


class _Run:
    """The stages of one run."""

    def __init__(
        self, ports: CollectedPorts, tally: Tally, stopping: threading.Event, *, dry_run: bool
    ) -> None:
        self._db = ports.db
        self._uploads = ports.uploads
        self._store = ports.store
        self._census = ports.census
        self.tally = tally
        self._stopping = stopping
        self._dry_run = dry_run

    def drop_uploads(self, stale_ms: int, orphaned_ms: int) -> None:
        """Drop uploads not touched since ``stale_ms``, and bytes that no upload owns."""
        self.tally.enter("uploads")
        for upload in self._db.stale_uploads(before_ms=stale_ms, limit=_ALL):
            now = self._db.upload(upload.id)
            if now is None or now.touched_ms >= stale_ms or self._uploads.is_open(upload.id):
                continue  # it ended or went on meanwhile, or a slow client is at it
            # The row first: without it nobody can write to the bytes, which the next lines find.
            if not self._dry_run:
                self._db.end_upload(upload.id)
                self._uploads.cancel(upload.id)
            self._count_upload()
        for name in self._uploads.names(before_ms=orphaned_ms):
            if self._db.upload(name) is None:
                if not self._dry_run:
                    self._uploads.cancel(name)
                self._count_upload()

    def find_orphans(self, before_ms: int) -> None:
        """Make local bytes that the registry does not know removable, if they are old enough."""
        self.tally.enter("orphans")
        digests = self._census.local_digests()
        for start in range(0, len(digests), BATCH):
            if self._stopping.is_set():
                return
            batch = digests[start : start + BATCH]
            known = self._db.known(batch)
            found = [each for each in batch if each not in known]
            orphans = [each for each in map(self._census.standing, found) if each is not None]
            orphans = [each for each in orphans if each.is_local and each.used_ms < before_ms]
            self.tally.orphans += len(orphans)
            self.tally.done += len(batch)
            if self._dry_run:
                for each in orphans:
                    self.tally.removed(each.sha256, each.size)
            elif orphans:
                self._db.note_orphans([(each.sha256, each.size) for each in orphans])

    def drop_links(self, before_ms: int) -> None:
        """Take blobs out of repositories that do not need them."""
        self.tally.enter("links")
        if self._dry_run:
            self.tally.links = self._db.count_unneeded(before_ms=before_ms)
            return
        while not self._stopping.is_set():
            dropped = self._db.unlink_unneeded(before_ms=before_ms, limit=BATCH)
            self.tally.links += dropped
            self.tally.done += dropped
            if dropped < BATCH:
                return

    def evict(self, policy: CollectionPolicy, before_ms: int) -> None:
        """Let go of what the cache has no room for, proxied and public content alike.

        The store keeps public content under the limit by itself; only together with what came by
        credentials it may be too much.
        """
        self.tally.enter("cache")
        proxied = self._db.proxied(limit=_ALL)
        if not proxied:
            return
        cached = self._census.evictable()
        candidates: list[Proxied | Standing] = [*proxied, *cached]
        total = sum(each.size for each in candidates)
        if total <= policy.cache_bytes_max:
            return
        for each in sorted(candidates, key=lambda each: (each.used_ms, each.sha256)):
            enough = total <= policy.cache_bytes_low or each.used_ms >= before_ms
            if enough or self._stopping.is_set():
                return
            self.tally.done += 1
            if self._evict_one(each):
                total -= each.size
                self.tally.evicted += 1

    def remove_blobs(self, before_ms: int) -> None:
        """Remove the bytes that nothing needs, least recently used first."""
        self.tally.enter("blobs")
        if self._dry_run:
            for blob in self._db.removable(before_ms=before_ms, limit=_ALL):
                self.tally.removed(blob.sha256, blob.size)
            return
        kept: set[str] = set()
        while not self._stopping.is_set():
            batch = self._db.removable(before_ms=before_ms, limit=BATCH + len(kept))
            fresh = [blob for blob in batch if blob.sha256 not in kept]
            if not fresh:
                return
            for blob in fresh:
                self.tally.done += 1
                if not self._remove(blob, before_ms):
                    kept.add(blob.sha256)

    def _count_upload(self) -> None:
        self.tally.uploads += 1
        self.tally.done += 1

    def _evict_one(self, each: Proxied | Standing) -> bool:
        if self._dry_run:
            self.tally.removed(each.sha256, each.size)
            return True
        if isinstance(each, Proxied):
            # Its bytes go with the last stage, by three steps as all others.
            return self._db.evict_proxied(each.sha256, used_ms=each.used_ms)
        try:
            self._store.remove(each.sha256)
        except UnavailableError:
            self.tally.busy += 1
            return False
        self.tally.removed(each.sha256, each.size)
        return True

    def _remove(self, blob: RepositoryBlob, before_ms: int) -> bool:
        if not self._db.begin_removal(blob.sha256, before_ms=before_ms):
            return False
        found = self._census.standing(blob.sha256)
        try:
            self._store.drop_local(blob.sha256)
        except UnavailableError:
            # Somebody reads it. The bytes are whole, so pushes need not wait for the reader.
            self._db.cancel_removal(blob.sha256)
            self.tally.busy += 1
            return False
        self._db.end_removal(blob.sha256)
        if found is not None and self._census.standing(blob.sha256) is None:
            self.tally.removed(blob.sha256, found.size)
        return True
