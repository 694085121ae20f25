"""What every ``ports.registry.RegistryDb`` must do for garbage collection, and in transactions."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.ports.registry import Namespace, Proxied, Reason, RegistryDb
from tests.fakes.registry_rows import CONFIG, IMAGE, LAYER, blob, manifest, proxied, push

# ---------------------------------------------------------------- garbage collection


def _removable(db: RegistryDb, before_ms: int) -> set[str]:
    return {each.sha256 for each in db.removable(before_ms=before_ms, limit=99)}


def test_what_a_manifest_needs_is_never_removable(db: RegistryDb) -> None:
    push(db, "a", now_ms=1)
    db.put_manifest("a", manifest("index", IMAGE), ["t"], actor="ann", now_ms=1)
    assert _removable(db, 10**13) == set()
    for each in (LAYER.sha256, CONFIG.sha256, IMAGE.sha256):
        assert db.begin_removal(each, before_ms=10**13) is False


def test_unneeded_blob_is_removable_after_its_last_use(db: RegistryDb) -> None:
    db.add_blob("a", LAYER, now_ms=100)
    assert _removable(db, 100) == set()
    assert _removable(db, 101) == {LAYER.sha256}
    db.add_blob("b", LAYER, now_ms=200)
    assert _removable(db, 200) == set()
    db.claim(LAYER.sha256, now_ms=300)
    assert _removable(db, 300) == set()
    db.mount_blob("a", "c", LAYER.digest, now_ms=400)
    assert _removable(db, 400) == set()
    assert _removable(db, 401) == {LAYER.sha256}


def test_grace_begins_when_the_last_need_ends(db: RegistryDb) -> None:
    push(db, "a", now_ms=1)
    db.remove_manifest("a", IMAGE.digest, actor="ann", now_ms=500)
    assert _removable(db, 500) == set()
    assert _removable(db, 501) == {LAYER.sha256, CONFIG.sha256, IMAGE.sha256}


def test_need_in_one_repository_keeps_the_bytes_alone(db: RegistryDb) -> None:
    push(db, "a", now_ms=1)
    db.add_blob("b", LAYER, now_ms=1)
    assert _removable(db, 10**13) == set()
    assert db.unlink_unneeded(before_ms=1, limit=9) == 0
    assert db.unlink_unneeded(before_ms=2, limit=9) == 1
    assert not db.has_repository("b")
    assert db.blob("a", LAYER.digest) == LAYER


def test_unlinking_stops_at_its_limit(db: RegistryDb) -> None:
    for number in range(5):
        db.add_blob("a", blob(str(number)), now_ms=1)
    assert (db.count_unneeded(before_ms=1), db.count_unneeded(before_ms=2)) == (0, 5)
    assert [db.unlink_unneeded(before_ms=2, limit=2) for _ in range(4)] == [2, 2, 1, 0]


def test_removable_lists_the_least_recently_used_first(db: RegistryDb) -> None:
    blobs = [blob(str(number)) for number in range(4)]
    for now_ms, each in enumerate(blobs):
        db.add_blob("a", each, now_ms=10 - now_ms)
    assert db.removable(before_ms=99, limit=3) == blobs[:0:-1]


def test_closed_blob_is_named_nowhere_and_cannot_be_used(db: RegistryDb) -> None:
    db.add_blob("a", LAYER, now_ms=1)
    assert db.begin_removal(LAYER.sha256, before_ms=1) is False
    assert db.begin_removal(LAYER.sha256, before_ms=2) is True
    assert db.blob("a", LAYER.digest) is None
    assert db.find_blob(LAYER.digest) == []
    assert not db.has_repository("a")
    whole = replace(IMAGE, needs=(), sha256=LAYER.sha256)
    uses: list[Callable[[], object]] = [
        lambda: db.add_blob("b", LAYER, now_ms=9),
        lambda: db.claim(LAYER.sha256, now_ms=9),
        lambda: db.note_proxied([proxied(LAYER, 9)]),
        lambda: db.put_manifest("b", whole, ["t"], actor="ann", now_ms=9),
    ]
    for use in uses:
        with pytest.raises(UnavailableError):
            use()
    assert not db.has_repository("b")
    assert db.proxied(limit=9) == []
    db.end_removal(LAYER.sha256)
    db.add_blob("b", LAYER, now_ms=9)
    assert db.blob("b", LAYER.digest) == LAYER


def test_half_removed_blob_is_given_again(db: RegistryDb) -> None:
    db.add_blob("a", LAYER, now_ms=1)
    db.begin_removal(LAYER.sha256, before_ms=2)
    assert db.removable(before_ms=0, limit=9) == [LAYER]
    assert db.begin_removal(LAYER.sha256, before_ms=0) is True
    db.end_removal(LAYER.sha256)
    db.end_removal(LAYER.sha256)
    assert db.removable(before_ms=10**13, limit=9) == []
    assert db.known([LAYER.sha256]) == set()


def test_cancelled_removal_opens_the_blob_again(db: RegistryDb) -> None:
    db.add_blob("a", LAYER, now_ms=1)
    db.begin_removal(LAYER.sha256, before_ms=2)
    db.cancel_removal(LAYER.sha256)
    db.end_removal(LAYER.sha256)
    assert db.known([LAYER.sha256]) == {LAYER.sha256}
    assert _removable(db, 2) == {LAYER.sha256}
    db.add_blob("b", LAYER, now_ms=9)
    assert _removable(db, 9) == set()
    db.cancel_removal("0" * 64)


def test_claim_of_what_a_repository_names_renews_its_name_as_well(db: RegistryDb) -> None:
    db.add_blob("a", LAYER, now_ms=100)
    db.claim(LAYER.sha256, now_ms=200)
    assert db.unlink_unneeded(before_ms=200, limit=9) == 0
    assert db.blob("a", LAYER.digest) == LAYER
    assert db.unlink_unneeded(before_ms=201, limit=9) == 1


def test_claim_keeps_bytes_that_nothing_names_yet(db: RegistryDb) -> None:
    db.claim(LAYER.sha256, now_ms=100)
    assert db.known([LAYER.sha256, CONFIG.sha256]) == {LAYER.sha256}
    assert _removable(db, 100) == set()
    assert db.begin_removal(LAYER.sha256, before_ms=100) is False
    db.add_blob("a", LAYER, now_ms=100)
    assert db.usage("a") == LAYER.size


def test_orphans_become_removable_and_known_bytes_stay(db: RegistryDb) -> None:
    push(db, "a", now_ms=50)
    db.claim(blob("claimed").sha256, now_ms=50)
    db.note_orphans([(LAYER.sha256, 100), (blob("claimed").sha256, 3), (blob("orphan").sha256, 33)])
    assert db.removable(before_ms=50, limit=9) == [blob("orphan", 33)]


def test_rows_are_all_bytes_that_have_a_name(db: RegistryDb) -> None:
    push(db, "a")
    db.note_proxied([proxied(blob("proxied"), 1)])
    db.claim(blob("claimed").sha256, now_ms=1)
    db.note_orphans([(blob("orphan").sha256, 3)])
    sizes = {LAYER.sha256: 100, CONFIG.sha256: 20, IMAGE.sha256: 5, blob("proxied").sha256: 10}
    everything = db.rows(after="", limit=99)
    assert {each.sha256: each.size for each in everything} == sizes
    assert everything == sorted(everything, key=lambda each: each.sha256)
    assert db.rows(after=everything[1].sha256, limit=1) == everything[2:3]


def test_reasons_name_everything_that_keeps_a_blob(db: RegistryDb) -> None:
    push(db, "a", "1", "latest", now_ms=7)
    index = manifest("index", IMAGE)
    db.put_manifest("a", index, ["multi"], actor="ann", now_ms=7)
    db.add_blob("b", LAYER, now_ms=8)
    db.note_proxied([proxied(LAYER, 9)])
    assert db.reasons(LAYER.digest) == [
        Reason("manifest", "a", IMAGE.digest),
        Reason("blob", "b", LAYER.digest, 8),
        Reason("proxied", "", "registry.example/x", 9),
    ]
    assert db.reasons(IMAGE.digest) == [
        Reason("tag", "a", "1"),
        Reason("tag", "a", "latest"),
        Reason("manifest", "a", index.digest),
    ]
    assert db.reasons("sha256:" + "0" * 64) == []
    assert db.reasons("sha512:" + "0" * 128) == []


def test_reasons_of_manifests_without_a_tag(db: RegistryDb) -> None:
    plain = manifest("plain")
    signature = replace(manifest("signature"), subject=plain.digest)
    for each in (plain, signature):
        db.put_manifest("a", each, [], actor="ann", now_ms=1)
    assert db.reasons(plain.digest) == [Reason("stored", "a", plain.digest)]
    assert db.reasons(signature.digest) == [Reason("subject", "a", plain.digest)]


def test_reasons_find_bytes_under_their_other_names(db: RegistryDb) -> None:
    long_name = replace(LAYER, digest="sha512:" + "5" * 128)
    db.add_blob("a", long_name, now_ms=3)
    for name in (LAYER.digest, long_name.digest):
        assert db.reasons(name) == [Reason("blob", "a", long_name.digest, 3)]


def test_reasons_of_bytes_that_only_a_grace_or_a_collection_knows(db: RegistryDb) -> None:
    db.claim(LAYER.sha256, now_ms=4)
    assert db.reasons(LAYER.digest) == [Reason("used", "", LAYER.sha256, 4)]
    db.begin_removal(LAYER.sha256, before_ms=5)
    assert db.reasons(LAYER.digest) == [Reason("closing", "", LAYER.sha256, 4)]


# ---------------------------------------------------------------- transactions


def test_two_writers_at_once_lose_nothing(db: RegistryDb) -> None:
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(20):
                what = blob(f"{name}{number}", 1)
                db.add_blob("shared", what, now_ms=number)
                whole = manifest(f"m{name}{number}", what)
                db.put_manifest("shared", whole, ["latest"], actor=name, now_ms=number)
                assert db.manifest("shared", whole.digest) == whole
        except BaseException as error:  # noqa: BLE001 - the test's own thread reports it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("ann", "bob")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert db.usage("shared") == 20 * 2 * 6
    steps = db.tag_history("shared", "latest", before=None, limit=99)
    assert len(steps) == len({step.number for step in steps}) == 40
    found = db.manifest("shared", "latest")
    assert found is not None
    assert found.digest == steps[0].digest


def test_error_in_the_middle_leaves_nothing_of_a_change(db: RegistryDb) -> None:
    push(db, "a", "t", now_ms=1)
    db.put_namespace(Namespace("a", quota_bytes=125))
    before = _everything(db)
    calls: list[Callable[[], object]] = [
        lambda: db.add_blob("a", blob("new", 1), now_ms=9, upload_id="none"),
        lambda: db.put_manifest("a", manifest("new", LAYER), ["t", "u"], actor="x", now_ms=9),
        lambda: db.put_manifest("a", manifest("new", blob("gone")), ["t"], actor="x", now_ms=9),
        lambda: db.mount_blob("a", "a/b", "sha256:none", now_ms=9),
        lambda: db.remove_blob("a", LAYER.digest),
        lambda: db.note_proxied(_failing_half_way()),
        lambda: db.note_orphans(_failing_orphans()),
    ]
    for call in calls:
        with contextlib.suppress(InvalidInputError, NotFoundError, LookupError):
            call()
        assert _everything(db) == before


def _failing_half_way() -> Iterator[Proxied]:
    yield proxied(blob("proxied"), 1)
    raise LookupError


def _failing_orphans() -> Iterator[tuple[str, int]]:
    yield blob("orphan").sha256, 1
    raise LookupError


def _everything(db: RegistryDb) -> object:
    names = db.repositories(after="", limit=99)
    return (
        names,
        db.rows(after="", limit=99),
        db.proxied(limit=99),
        db.removable(before_ms=10**13, limit=99),
        [db.tags(name, after="", limit=99) for name in names],
        db.tag_history("a", "t", before=None, limit=99),
        db.reasons(LAYER.digest),
        db.usage(""),
    )
