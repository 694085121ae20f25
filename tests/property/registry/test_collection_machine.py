"""Pushes, deletions, pulls, collections and crashes in any order, against a simple model.

The model knows what must be there: everything that a manifest needs. A crash drops the process's
memory at any of the three steps of a removal and opens the same files again.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.ports.registry import StoredManifest
from pyrsia_node.registry.collector import LEAST_GRACE_MS
from pyrsia_node.store.registry_db import SqliteRegistryDb
from pyrsia_node.store.registry_db_check import check_registry
from tests.fakes.collected_registry import (
    DAY_MS,
    POLICY,
    digest_of,
    on_disk,
)

LAYERS = [b"layer %d" % number for number in range(4)]
layers = st.sampled_from(LAYERS)
repositories = st.sampled_from(["a", "b", "b/c"])


class Collected(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.shop = on_disk(self.folder)
        self.images: dict[tuple[str, str], tuple[StoredManifest, list[bytes]]] = {}
        self.number = 0

    def teardown(self) -> None:
        self._close()
        shutil.rmtree(self.folder)

    # ------------------------------------------------------------ clients

    @rule(repository=repositories, data=layers)
    def push_blob(self, repository: str, data: bytes) -> None:
        try:
            self.shop.push(repository, data)
        except UnavailableError:
            self.shop.collect()  # a removal that a crash cut off: the next run ends it
            self.shop.push(repository, data)

    @rule(repository=repositories, needed=st.lists(layers, min_size=1, max_size=3, unique=True))
    def push_image(self, repository: str, needed: list[bytes]) -> None:
        for data in needed:
            self.push_blob(repository, data)
        blobs = [self.shop.db.blob(repository, digest_of(data)) for data in needed]
        self.number += 1
        tag = str(self.number)
        needs = [blob for blob in blobs if blob is not None]
        assert len(needs) == len(needed)
        image = self.shop.tag(repository, tag, f"image {tag}".encode(), *needs)
        self.images[repository, tag] = image, needed

    @precondition(lambda self: self.images)
    @rule(position=st.integers(0, 9))
    def delete_image(self, position: int) -> None:
        key = sorted(self.images)[position % len(self.images)]
        image, _ = self.images.pop(key)
        self.shop.untag(key[0], image)

    @rule(holder=repositories, wanting=repositories, data=layers)
    def mount(self, holder: str, wanting: str, data: bytes) -> None:
        digest = digest_of(data)
        there = self.shop.db.blob(holder, digest) is not None
        mounted = self.shop.db.mount_blob(holder, wanting, digest, now_ms=self.shop.clock.ms)
        assert (mounted is not None) is there

    @rule(data=layers)
    def share(self, data: bytes) -> None:
        self.shop.share(data)

    # ------------------------------------------------------------ time, collections, crashes

    @rule(ms=st.sampled_from([1, LEAST_GRACE_MS, POLICY.grace_ms, POLICY.grace_ms + 1]))
    def wait(self, ms: int) -> None:
        self.shop.clock.ms += ms

    @rule()
    def collect(self) -> None:
        self.shop.collect()

    @rule(data=layers, steps=st.integers(0, 2))
    def crash_in_a_removal(self, data: bytes, steps: int) -> None:
        sha256 = digest_of(data).removeprefix("sha256:")
        before_ms = self.shop.clock.ms - POLICY.grace_ms
        if self.shop.db.begin_removal(sha256, before_ms=before_ms):
            if steps > 0:
                self.shop.store.drop_local(sha256)
            if steps > 1:
                self.shop.db.end_removal(sha256)
        self.crash()

    @rule(data=layers)
    def crash_in_a_push(self, data: bytes) -> None:
        # Of bytes whose removal is not finished nothing is stored.
        with contextlib.suppress(UnavailableError):
            self.shop.commit(data)
        self.crash()

    @rule()
    def crash(self) -> None:
        clock = self.shop.clock
        self._close()
        self.shop = on_disk(self.folder)
        self.shop.clock = clock

    # ------------------------------------------------------------ what must hold

    @invariant()
    def every_image_is_whole(self) -> None:
        for (repository, tag), (image, needed) in self.images.items():
            assert self.shop.db.manifest(repository, tag) == image
            assert digest_of(self.shop.pull(image.sha256)) == image.digest
            for data in needed:
                blob = self.shop.db.blob(repository, digest_of(data))
                assert blob is not None
                assert blob.is_needed
                assert self.shop.pull(blob.sha256) == data

    @invariant()
    def every_name_has_its_bytes_and_counts_are_right(self) -> None:
        faults = check_registry(self.folder / "registry.sqlite", self.folder / "blobs")
        assert [fault.what for fault in faults] == []

    @rule()
    def in_the_end_only_what_is_needed_is_left(self) -> None:
        clock = self.shop.clock
        now_ms, clock.ms = clock.ms, clock.ms + 100 * DAY_MS
        self.shop.collect()
        clock.ms = now_ms
        needed = {image.sha256 for image, _ in self.images.values()} | {
            digest_of(data).removeprefix("sha256:")
            for _, layers_needed in self.images.values()
            for data in layers_needed
        }
        assert set(self.shop.census.local_digests()) == needed
        assert {row.sha256 for row in self.shop.db.rows(after="", limit=99)} == needed

    def _close(self) -> None:
        assert isinstance(self.shop.db, SqliteRegistryDb)
        self.shop.db.close()


def test_crashes_at_any_step_lose_nothing_that_is_needed_and_leave_nothing_else() -> None:
    run_state_machine_as_test(
        Collected, settings=settings(max_examples=15, stateful_step_count=20, deadline=None)
    )
