"""Many clients push, mount, delete and pull while the collector runs all the time."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.ports.registry import Proxied, RepositoryBlob, StoredManifest, Upload
from pyrsia_node.registry.collector import Collector, Tally
from tests.fakes.collected_registry import (
    DAY_MS,
    POLICY,
    START_MS,
    CollectedRegistry,
    digest_of,
    on_disk,
)

REPOSITORIES = ("a", "b", "b/c", "d")
LAYERS = [bytes([number]) * (1000 + number) for number in range(12)]
SPEED = 50
"""How fast the clock runs: the shortest grace, five seconds, is a tenth of one."""

ENOUGH = {
    "pushed": 60,
    "mounted": 10,
    "deleted": 30,
    "pulled": 60,
    "blobs": 40,
    "links": 20,
    "uploads": 20,
    "evicted": 10,
}


@dataclass
class _Load:
    shop: CollectedRegistry
    stop: threading.Event = field(default_factory=threading.Event)
    acknowledged: dict[tuple[str, str], StoredManifest] = field(default_factory=dict)
    """By repository and tag: what was answered with 201 and was not deleted."""
    counts: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    # ------------------------------------------------------------ clients

    def tick(self) -> None:
        """Let the hours run: ``SPEED`` times as fast as ours."""
        started = time.perf_counter()
        while not self.stop.wait(0.001):
            self.shop.clock.ms = START_MS + int((time.perf_counter() - started) * 1000 * SPEED)

    def push(self, seed: int) -> None:
        dice = random.Random(seed)
        number = 0
        while not self.stop.is_set():
            number += 1
            repository = dice.choice(REPOSITORIES)
            try:
                layers = [
                    self._layer(dice, repository, data)
                    for data in dice.sample(LAYERS, dice.randint(1, 4))
                ]
                manifest = self._manifest(repository, f"{seed}-{number}", layers)
            except (UnavailableError, NotFoundError):
                # 503, or a layer went before the manifest came: the client pushes again.
                self.count("pushed again")
                continue
            with self.lock:
                self.acknowledged[repository, f"{seed}-{number}"] = manifest
            self.count("pushed")
            if dice.random() < 0.7:
                self._delete(dice, seed)

    def _layer(self, dice: random.Random, repository: str, data: bytes) -> RepositoryBlob:
        db, store, clock = self.shop.db, self.shop.store, self.shop.clock
        digest = digest_of(data)
        if dice.random() < 0.3:
            for holder, _ in db.find_blob(digest):
                mounted = db.mount_blob(holder, repository, digest, now_ms=clock.ms)
                if mounted is not None:
                    self.count("mounted")
                    return mounted
        upload = self.shop.uploads.begin()
        db.begin_upload(Upload(upload, repository, 0, clock.ms, clock.ms))
        with self.shop.uploads.open(upload) as writer:
            writer.append(data)
        db.claim(self.shop.uploads.check(upload, digest), now_ms=clock.ms)
        info = self.shop.uploads.commit(upload, digest)
        blob = RepositoryBlob(digest, info.sha256, info.size)
        db.add_blob(repository, blob, now_ms=clock.ms, upload_id=upload)
        if store.stat(blob.sha256) is None:
            self.count("looked in vain")
            db.remove_blob(repository, digest)
            raise UnavailableError(digest)
        return blob

    def _manifest(self, repository: str, tag: str, layers: list[RepositoryBlob]) -> StoredManifest:
        data = f"{repository} {tag}".encode()
        blob = self.shop.commit(data)
        needs = tuple(layer.digest for layer in layers)
        manifest = StoredManifest(blob.digest, blob.sha256, blob.size, "m", needs)
        now_ms = self.shop.clock.ms
        self.shop.db.put_manifest(repository, manifest, [tag, "latest"], actor="x", now_ms=now_ms)
        while self.shop.store.stat(blob.sha256) is None:
            self.count("stored again")
            self.shop.commit(data)
        return manifest

    def _delete(self, dice: random.Random, seed: int) -> None:
        with self.lock:
            mine = [key for key in self.acknowledged if key[1].startswith(f"{seed}-")]
            key = dice.choice(mine)
            manifest = self.acknowledged.pop(key)
        now_ms = self.shop.clock.ms
        assert self.shop.db.remove_manifest(key[0], manifest.digest, actor="x", now_ms=now_ms)
        self.count("deleted")

    def pull(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self.stop.is_set():
            repository = dice.choice(REPOSITORIES)
            for tag in ["latest", *self.shop.db.tags(repository, after="", limit=5)]:
                manifest = self.shop.db.manifest(repository, tag)
                if manifest is not None and self._is_whole(repository, manifest):
                    self.count("pulled")

    def _is_whole(self, repository: str, manifest: StoredManifest) -> bool:
        """Read everything; what is not there is an error unless the manifest is deleted by now."""
        for need in manifest.needs:
            blob = self.shop.db.blob(repository, need)
            try:
                assert blob is not None, need
                data = self.shop.pull(blob.sha256)
            except (AssertionError, NotFoundError, FileNotFoundError):
                assert self.shop.db.manifest(repository, manifest.digest) is None
                return False
            assert digest_of(data) == need
        return True

    def clutter(self, seed: int) -> None:
        """What nobody needs: blobs without a manifest, proxied images, uploads never gone on."""
        dice = random.Random(seed)
        while not self.stop.is_set():
            now_ms = self.shop.clock.ms
            try:
                self.shop.push(dice.choice(REPOSITORIES), dice.choice(LAYERS))
                blob = self.shop.commit(b"proxied %d" % dice.randrange(50))
                proxied = Proxied(blob.sha256, blob.size, "registry.example/x", now_ms)
                self.shop.db.note_proxied([proxied])
            except UnavailableError:
                self.count("clutter again")
            self.shop.db.begin_upload(
                Upload(self.shop.uploads.begin(), "a", 0, now_ms - 10**9, now_ms - 10**9)
            )

    def collect(self) -> None:
        while not self.stop.is_set():
            report = self._collector().run(1, Tally())
            for name in ("blobs", "links", "uploads", "evicted", "busy"):
                with self.lock:
                    self.counts[name] = self.counts.get(name, 0) + getattr(report, name)

    def _collector(self) -> Collector:
        policy = replace(POLICY, grace_ms=0, cache_bytes_max=200, cache_bytes_low=100)
        return Collector(self.shop.ports, self.shop.clock, policy)


def test_no_manifest_lacks_a_blob_and_nothing_unneeded_is_left(tmp_path: Path) -> None:
    load = _Load(on_disk(tmp_path))
    clients: list[Callable[[], None]] = [load.tick, load.collect]
    clients += [partial(load.push, seed) for seed in (1, 2, 3)]
    clients += [partial(load.pull, 4), partial(load.pull, 5), partial(load.clutter, 6)]
    with ThreadPoolExecutor(len(clients)) as threads:
        running = [threads.submit(client) for client in clients]
        try:
            _wait_until_enough_happened(load, running)
        finally:
            load.stop.set()
        for each in running:
            each.result()
    _check_everything_acknowledged_is_there(load)
    _delete_everything(load)
    # Bytes that were stored and then not named are as old as their files, by the machine's clock.
    load.shop.clock.ms = time.time_ns() // 1_000_000 + 2 * DAY_MS
    load.shop.collect()
    _check_nothing_is_left(load, tmp_path)


def _wait_until_enough_happened(load: _Load, running: list[Future[None]]) -> None:
    """Return once everything was done often; raise what a client raised."""
    while any(load.counts.get(what, 0) < count for what, count in ENOUGH.items()):
        done, _ = wait(running, timeout=0.05, return_when=FIRST_EXCEPTION)
        for each in done:
            each.result()


def _check_everything_acknowledged_is_there(load: _Load) -> None:
    for (repository, tag), manifest in load.acknowledged.items():
        assert load.shop.db.manifest(repository, tag) == manifest
        assert hashlib.sha256(load.shop.pull(manifest.sha256)).hexdigest() == manifest.sha256
        for need in manifest.needs:
            blob = load.shop.db.blob(repository, need)
            assert blob is not None
            assert digest_of(load.shop.pull(blob.sha256)) == need


def _delete_everything(load: _Load) -> None:
    db = load.shop.db
    for repository in db.repositories(after="", limit=99):
        for tag in db.tags(repository, after="", limit=10_000):
            manifest = db.manifest(repository, tag)
            if manifest is not None:
                db.remove_manifest(repository, manifest.digest, actor="x", now_ms=START_MS)
    for each in db.proxied(limit=10_000):
        db.evict_proxied(each.sha256, used_ms=each.used_ms)


def _check_nothing_is_left(load: _Load, folder: Path) -> None:
    shop = load.shop
    assert shop.db.removable(before_ms=START_MS * 2, limit=9) == []
    assert shop.db.rows(after="", limit=9) == []
    assert not any(shop.db.has_repository(name) for name in REPOSITORIES)
    assert shop.census.local_digests() == []
    assert list((folder / "blobs").glob("local/*/*")) == []
    assert list((folder / "blobs" / "uploads").iterdir()) == []
