"""What garbage collection removes and what it keeps, on the fakes and on the real parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.ports.registry import Proxied, Upload
from pyrsia_node.registry.collector import LEAST_GRACE_MS, Collector, Tally
from tests.fakes.collected_registry import (
    DAY_MS,
    MINUTE_MS,
    POLICY,
    CollectedRegistry,
    in_memory,
    on_disk,
)

GRACE_MS = POLICY.grace_ms


@pytest.fixture(params=[in_memory, on_disk], ids=["memory", "disk"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CollectedRegistry]:
    factory: Callable[[Path], CollectedRegistry] = request.param
    opened = factory(tmp_path)
    yield opened
    close = getattr(opened.db, "close", None)
    if close is not None:
        close()


def test_what_an_image_needs_is_kept_for_ever(shop: CollectedRegistry) -> None:
    layer, config = shop.push("a", b"layer"), shop.push("a", b"config")
    image = shop.tag("a", "latest", b"image", layer, config)
    index = shop.tag("a", "multi", b"index", image)
    shop.clock.ms += 1000 * DAY_MS
    report = shop.collect()
    assert (report.blobs, report.links, report.busy) == (0, 0, 0)
    assert shop.is_here(layer, config, image, index) == [True] * 4


def test_what_nothing_needs_goes_after_its_grace(shop: CollectedRegistry) -> None:
    layer = shop.push("a", b"layer")
    image = shop.tag("a", "latest", b"image", layer)
    alone = shop.push("a", b"pushed, never named by a manifest")
    shop.clock.ms += GRACE_MS
    shop.untag("a", image)
    shop.clock.ms += 1
    report = shop.collect()
    assert report.digests == [alone.sha256]
    assert shop.db.blob("a", alone.digest) is None
    assert shop.is_here(layer, image, alone) == [True, True, False]
    shop.clock.ms += GRACE_MS
    report = shop.collect()
    assert sorted(report.digests) == sorted([layer.sha256, image.sha256])
    assert report.bytes == len(b"layer") + len(b"image")
    assert shop.is_here(layer, image) == [False, False]
    assert not shop.db.has_repository("a")


def test_mount_renews_the_grace(shop: CollectedRegistry) -> None:
    layer = shop.push("a", b"layer")
    shop.clock.ms += GRACE_MS
    shop.db.mount_blob("a", "b", layer.digest, now_ms=shop.clock.ms)
    shop.clock.ms += GRACE_MS
    assert shop.collect().blobs == 0
    assert shop.is_here(layer) == [True]
    shop.clock.ms += 1
    assert shop.collect().digests == [layer.sha256]


def test_repository_loses_what_it_does_not_need_though_another_needs_it(
    shop: CollectedRegistry,
) -> None:
    layer = shop.push("a", b"layer")
    shop.tag("a", "latest", b"image", layer)
    shop.db.mount_blob("a", "b", layer.digest, now_ms=shop.clock.ms)
    shop.clock.ms += GRACE_MS + 1
    report = shop.collect()
    assert (report.links, report.blobs) == (1, 0)
    assert not shop.db.has_repository("b")
    assert shop.is_here(layer) == [True]


def test_no_setting_makes_the_grace_shorter_than_a_push(shop: CollectedRegistry) -> None:
    shop.policy = replace(POLICY, grace_ms=0)
    blob = shop.commit(b"claimed, about to be named")
    shop.clock.ms += LEAST_GRACE_MS
    assert shop.collect().blobs == 0
    shop.clock.ms += 1
    assert shop.collect().digests == [blob.sha256]


def test_blob_that_somebody_reads_goes_another_time(shop: CollectedRegistry) -> None:
    blob = shop.push("a", b"being pulled")
    shop.clock.ms += GRACE_MS + 1
    with shop.store.lease(blob.sha256):
        report = shop.collect()
        assert (report.busy, report.blobs) == (1, 0)
        # Who pushes it again meanwhile need not wait for the reader.
        shop.db.claim(blob.sha256, now_ms=shop.clock.ms - 2 * GRACE_MS)
    assert shop.is_here(blob) == [True]
    assert shop.collect().digests == [blob.sha256]


def test_shared_bytes_stay_when_the_registry_lets_go(shop: CollectedRegistry) -> None:
    blob = shop.push("a", b"pushed, and logged later")
    shop.store.share(blob.sha256)
    shop.clock.ms += GRACE_MS + 1
    report = shop.collect()
    assert (report.blobs, report.bytes) == (0, 0)
    assert shop.store.is_shared(blob.sha256)
    assert shop.census.local_digests() == []
    assert shop.db.known([blob.sha256]) == set()


def test_stale_uploads_go_also_those_only_begun(shop: CollectedRegistry) -> None:
    only_begun, written, young = (shop.uploads.begin() for _ in range(3))
    with shop.uploads.open(written) as writer:
        writer.append(b"some bytes")
    for name, age_ms in ((only_begun, 2 * DAY_MS), (written, 2 * DAY_MS), (young, 0)):
        begun_ms = shop.clock.ms - age_ms
        shop.db.begin_upload(Upload(name, "a", 0, begun_ms, begun_ms))
    assert shop.collect().uploads == 2
    for name in (only_begun, written):
        assert shop.db.upload(name) is None
        with pytest.raises(NotFoundError), shop.uploads.open(name):
            pass
    assert shop.db.upload(young) is not None
    with shop.uploads.open(young):
        pass


def test_bytes_that_no_upload_owns_go_after_the_grace(shop: CollectedRegistry) -> None:
    # The files' own times are the machine's: the clock by hand is set beside it.
    owned, alone = shop.uploads.begin(), shop.uploads.begin()
    shop.clock.ms = time.time_ns() // 1_000_000 + GRACE_MS // 2
    shop.db.begin_upload(Upload(owned, "a", 0, shop.clock.ms, shop.clock.ms))
    assert shop.collect().uploads == 0
    shop.clock.ms += GRACE_MS
    assert shop.collect().uploads == 1
    with shop.uploads.open(owned):
        pass
    with pytest.raises(NotFoundError), shop.uploads.open(alone):
        pass


def test_local_bytes_that_no_row_names_go_after_the_grace(shop: CollectedRegistry) -> None:
    lost = shop.share(b"on the disk, not in the database")
    shop.store.keep_local(lost)
    shop.store.remove(lost)
    shop.age(lost, shop.clock.ms - GRACE_MS)
    assert shop.collect().orphans == 0
    shop.clock.ms += 1
    report = shop.collect()
    assert (report.orphans, report.digests) == (1, [lost])
    assert shop.store.stat(lost) is None


def test_public_blobs_are_the_caches_business(shop: CollectedRegistry) -> None:
    shared = shop.share(b"logged")
    shop.age(shared, 0)
    shop.clock.ms += 1000 * DAY_MS
    report = shop.collect()
    assert (report.orphans, report.blobs) == (0, 0)
    assert shop.store.is_shared(shared)


def test_proxied_blobs_go_least_recently_used_first_down_to_the_low_mark(
    shop: CollectedRegistry,
) -> None:
    blobs = []
    for number in range(6):
        blobs.append(shop.proxy(f"registry.example/{number}", bytes([number]) * 200))
        shop.clock.ms += MINUTE_MS
    shop.clock.ms += GRACE_MS
    shop.db.note_proxied([Proxied(blobs[0].sha256, 200, "registry.example/0", shop.clock.ms)])
    report = shop.collect()
    assert report.evicted == 3
    assert shop.is_here(*blobs) == [True, False, False, False, True, True]
    assert sorted(report.digests) == sorted(each.sha256 for each in blobs[1:4])
    assert shop.collect().evicted == 0


def test_proxied_and_public_content_share_one_limit_and_one_order(
    shop: CollectedRegistry,
) -> None:
    proxied = shop.proxy("registry.example/x", b"p" * 500)
    public = [shop.share(bytes([number]) * 300) for number in range(2)]
    shop.age(public[0], shop.clock.ms - 1)
    shop.age(public[1], shop.clock.ms + 1)
    shop.clock.ms += GRACE_MS + 2
    report = shop.collect()
    assert report.evicted == 2
    assert shop.store.stat(public[0]) is None
    assert shop.is_here(proxied) == [False]
    assert shop.store.is_shared(public[1])


def test_proxied_blob_used_within_the_grace_is_not_evicted(shop: CollectedRegistry) -> None:
    blobs = [shop.proxy("registry.example/x", bytes([number]) * 600) for number in range(3)]
    assert shop.collect().evicted == 0
    assert shop.is_here(*blobs) == [True] * 3


def test_proxied_blob_that_a_repository_holds_stays(shop: CollectedRegistry) -> None:
    for number in range(3):
        layer = shop.proxy("registry.example/x", bytes([number]) * 600)
        shop.db.add_blob("a", layer, now_ms=shop.clock.ms)
        shop.tag("a", str(number), b"image %d" % number, layer)
    shop.clock.ms += GRACE_MS + 1
    assert shop.collect().evicted == 0


def test_dry_run_tells_what_a_run_would_do_and_does_nothing(shop: CollectedRegistry) -> None:
    alone = shop.push("a", b"alone")
    for number in range(6):
        shop.proxy(f"registry.example/{number}", bytes([number]) * 200)
    lost = shop.share(b"lost")
    shop.store.keep_local(lost)
    shop.store.remove(lost)
    shop.age(lost, 0)
    begun_ms = shop.clock.ms - 2 * DAY_MS
    shop.db.begin_upload(Upload(shop.uploads.begin(), "a", 0, begun_ms, begun_ms))
    shop.clock.ms += GRACE_MS + 1
    first, second = shop.collect(dry_run=True), shop.collect(dry_run=True)
    assert first == second
    assert first.dry_run
    assert shop.db.blob("a", alone.digest) == alone
    assert shop.store.stat(lost) is not None
    done = shop.collect()
    counts = ("uploads", "links", "orphans", "evicted", "blobs", "bytes")
    assert [getattr(first, name) for name in counts] == [getattr(done, name) for name in counts]
    assert sorted(first.digests) == sorted(done.digests)


@pytest.mark.parametrize("reached", ["begin_removal", "drop_local"])
def test_removal_that_a_crash_cut_off_is_finished_by_the_next_run(
    tmp_path: Path, reached: str
) -> None:
    shop = on_disk(tmp_path)
    layer = shop.push("a", b"layer")
    before_ms = shop.clock.ms + 1
    assert shop.db.begin_removal(layer.sha256, before_ms=before_ms)
    if reached == "drop_local":
        shop.store.drop_local(layer.sha256)
    again = on_disk(tmp_path)
    report = again.collect()
    assert report.blobs == (1 if reached == "begin_removal" else 0)
    assert again.is_here(layer) == [False]
    assert again.db.known([layer.sha256]) == set()
    again.push("a", b"layer")
    assert again.is_here(layer) == [True]


def test_removals_that_a_crash_cut_off_are_ended_at_the_start(tmp_path: Path) -> None:
    # Else every push of these bytes would wait for the next collection.
    shop = on_disk(tmp_path)
    layer = shop.push("a", b"layer")
    needed = shop.push("a", b"needed")
    shop.db.begin_removal(layer.sha256, before_ms=shop.clock.ms + 1)
    again = on_disk(tmp_path)
    assert Collector(again.ports, again.clock, again.policy).finish() == 1
    assert again.is_here(layer, needed) == [False, True]
    again.push("b", b"layer")


def test_disk_that_refuses_a_removal_leaves_the_blob_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = on_disk(tmp_path)
    layer = shop.push("a", b"layer")
    shop.clock.ms += GRACE_MS + 1

    def refuse(self: Path, *, missing_ok: bool = False) -> None:
        raise OSError(5, "Input/output error", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        report = shop.collect()
    assert (report.busy, report.blobs) == (1, 0)
    assert shop.pull(layer.sha256) == b"layer"
    shop.db.claim(layer.sha256, now_ms=shop.clock.ms)


def test_slow_clients_upload_is_not_stale_while_it_writes(shop: CollectedRegistry) -> None:
    name = shop.uploads.begin()
    begun_ms = shop.clock.ms - 2 * DAY_MS
    shop.db.begin_upload(Upload(name, "a", 0, begun_ms, begun_ms))
    with shop.uploads.open(name) as writer:
        writer.append(b"slowly")
        assert shop.collect().uploads == 0
    assert shop.db.upload(name) is not None
    assert shop.collect().uploads == 1


def test_eviction_that_a_crash_cut_off_is_finished_by_the_next_run(tmp_path: Path) -> None:
    shop = on_disk(tmp_path)
    blob = shop.proxy("registry.example/x", b"proxied")
    shop.db.evict_proxied(blob.sha256, used_ms=shop.clock.ms)
    again = on_disk(tmp_path)
    again.clock.ms += GRACE_MS + 1
    assert again.collect().digests == [blob.sha256]


def test_stopped_run_leaves_what_the_next_one_finishes(shop: CollectedRegistry) -> None:
    blob = shop.push("a", b"alone")
    shop.clock.ms += GRACE_MS + 1
    collector = Collector(shop.ports, shop.clock, shop.policy)
    collector.stop()
    assert collector.run(1, Tally()).blobs == 0
    assert shop.is_here(blob) == [True]
    assert shop.collect().digests == [blob.sha256]
