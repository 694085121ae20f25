"""What every ``ports.registry.RegistryDb`` must do with content, on the fake and on SQLite."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.ports.registry import (
    ImmutableTagError,
    InUseError,
    Namespace,
    QuotaExceededError,
    RegistryDb,
    RepositoryBlob,
    StoredManifest,
    TagChange,
    Upload,
    referrer_bytes,
)
from tests.fakes.registry_rows import CONFIG, IMAGE, LAYER, MEDIA, manifest, push

# ---------------------------------------------------------------- blobs


def test_blob_is_part_of_the_repository_that_it_was_added_to(db: RegistryDb) -> None:
    db.add_blob("a/b", LAYER, now_ms=1)
    assert db.blob("a/b", LAYER.digest) == LAYER
    assert db.blob("a", LAYER.digest) is None
    assert db.blob("a/b", CONFIG.digest) is None
    assert db.has_repository("a/b")
    assert not db.has_repository("a")


def test_blob_keeps_the_name_that_it_was_pushed_under(db: RegistryDb) -> None:
    long_name = replace(LAYER, digest="sha512:" + "5" * 128)
    db.add_blob("a", long_name, now_ms=1)
    assert db.blob("a", long_name.digest) == long_name
    assert db.blob("a", LAYER.digest) is None
    assert db.find_blob(long_name.digest) == [("a", long_name)]


def test_blob_tells_whether_a_manifest_needs_it(db: RegistryDb) -> None:
    db.add_blob("a", LAYER, now_ms=1)
    assert _is_needed(db, "a", LAYER) is False
    push(db, "a")
    assert _is_needed(db, "a", LAYER) is True
    assert [found.is_needed for _, found in db.find_blob(LAYER.digest)] == [True]
    db.remove_manifest("a", IMAGE.digest, actor="ann", now_ms=2)
    assert _is_needed(db, "a", LAYER) is False


def _is_needed(db: RegistryDb, repository: str, what: RepositoryBlob) -> bool:
    found = db.blob(repository, what.digest)
    assert found is not None
    return found.is_needed


def test_blobs_are_found_in_every_repository_that_has_them(db: RegistryDb) -> None:
    for repository in ("b", "a/x", "c"):
        db.add_blob(repository, LAYER, now_ms=1)
    db.remove_blob("c", LAYER.digest)
    assert db.find_blob(LAYER.digest) == [("a/x", LAYER), ("b", LAYER)]
    assert db.find_blob(CONFIG.digest) == []


def test_mount_takes_a_blob_only_from_where_it_is(db: RegistryDb) -> None:
    db.add_blob("from", LAYER, now_ms=1)
    assert db.mount_blob("from", "to", LAYER.digest, now_ms=2) == LAYER
    assert db.blob("to", LAYER.digest) == LAYER
    assert db.mount_blob("elsewhere", "third", LAYER.digest, now_ms=2) is None
    assert db.mount_blob("from", "third", CONFIG.digest, now_ms=2) is None
    assert not db.has_repository("third")


def test_removed_blob_is_gone_from_its_repository_alone(db: RegistryDb) -> None:
    db.add_blob("a", LAYER, now_ms=1)
    db.add_blob("b", LAYER, now_ms=1)
    assert db.remove_blob("a", LAYER.digest) is True
    assert db.remove_blob("a", LAYER.digest) is False
    assert db.remove_blob("nowhere", LAYER.digest) is False
    assert not db.has_repository("a")
    assert db.blob("b", LAYER.digest) == LAYER


def test_what_a_manifest_needs_is_not_deleted_before_it(db: RegistryDb) -> None:
    push(db, "a", "latest")
    index = manifest("index", IMAGE)
    db.put_manifest("a", index, [], actor="ann", now_ms=2)
    with pytest.raises(InUseError, match=IMAGE.digest):
        db.remove_blob("a", LAYER.digest)
    with pytest.raises(InUseError, match=index.digest):
        db.remove_manifest("a", IMAGE.digest, actor="ann", now_ms=3)
    assert db.manifest("a", "latest") == IMAGE
    assert db.remove_manifest("a", index.digest, actor="ann", now_ms=3)
    assert db.remove_manifest("a", IMAGE.digest, actor="ann", now_ms=3)
    assert db.remove_blob("a", LAYER.digest)
    assert db.remove_blob("a", CONFIG.digest)
    assert not db.has_repository("a")


def test_added_blob_ends_its_upload_in_the_same_step(db: RegistryDb) -> None:
    db.put_namespace(Namespace("small", quota_bytes=50))
    for repository, is_there in (("large", False), ("small", True)):
        db.begin_upload(Upload("u", repository, 0, 1, 1))
        if is_there:
            with pytest.raises(QuotaExceededError):
                db.add_blob(repository, LAYER, now_ms=2, upload_id="u")
        else:
            db.add_blob(repository, LAYER, now_ms=2, upload_id="u")
        assert (db.upload("u") is not None) is is_there


# ---------------------------------------------------------------- manifests and tags


def test_manifest_is_found_by_tag_and_digest(db: RegistryDb) -> None:
    push(db, "a", "1", "latest")
    for reference in ("1", "latest", IMAGE.digest):
        assert db.manifest("a", reference) == IMAGE
    assert db.manifest("a", "2") is None
    assert db.manifest("b", "1") is None
    assert db.manifest("a", LAYER.digest) is None


def test_every_field_of_a_manifest_is_kept(db: RegistryDb) -> None:
    full = replace(
        manifest("full", LAYER, CONFIG),
        subject="sha256:" + "9" * 64,
        artifact_type="application/x",
        annotations='{"a":"ü"}',
        digest="sha512:" + "a" * 128,
    )
    push(db, "a", "t", what=full)
    assert db.manifest("a", "t") == full
    assert db.manifest("a", full.digest) == full


def test_manifest_without_what_it_needs_is_refused_and_all_of_it_named(db: RegistryDb) -> None:
    db.add_blob("a", CONFIG, now_ms=1)
    db.add_blob("elsewhere", LAYER, now_ms=1)
    child = manifest("child")
    with pytest.raises(NotFoundError) as caught:
        db.put_manifest("a", manifest("m", CONFIG, LAYER, child), ["t"], actor="ann", now_ms=1)
    assert str(caught.value).splitlines()[1:] == sorted([LAYER.digest, child.digest])
    assert db.manifest("a", "t") is None
    assert db.tag_history("a", "t", before=None, limit=9) == []


def test_refused_manifest_makes_no_repository(db: RegistryDb) -> None:
    with pytest.raises(NotFoundError):
        db.put_manifest("new", IMAGE, ["t"], actor="ann", now_ms=1)
    assert not db.has_repository("new")
    assert db.known([IMAGE.sha256]) == set()


def test_index_needs_its_manifests_in_the_same_repository(db: RegistryDb) -> None:
    push(db, "a")
    db.put_manifest("a", manifest("index", IMAGE), ["multi"], actor="ann", now_ms=2)
    with pytest.raises(NotFoundError):
        db.put_manifest("b", manifest("index", IMAGE), ["multi"], actor="ann", now_ms=2)


def test_pushing_a_manifest_again_changes_nothing(db: RegistryDb) -> None:
    for _ in range(2):
        push(db, "a", "latest")
    assert len(db.tag_history("a", "latest", before=None, limit=9)) == 1
    db.remove_manifest("a", IMAGE.digest, actor="ann", now_ms=9)
    assert _is_needed(db, "a", LAYER) is False


def test_manifest_pushed_again_as_another_media_type_is_read_anew(db: RegistryDb) -> None:
    push(db, "a", "latest")
    db.put_manifest("a", manifest("index", IMAGE), ["multi"], actor="ann", now_ms=2)
    other = replace(IMAGE, media="application/x", needs=(CONFIG.digest,))
    db.put_manifest("a", other, [], actor="ann", now_ms=3)
    assert db.manifest("a", "latest") == other
    assert _is_needed(db, "a", LAYER) is False
    assert _is_needed(db, "a", CONFIG) is True


def test_tag_moves_and_its_history_is_kept_newest_first(db: RegistryDb) -> None:
    second = manifest("second", LAYER, size=7)
    push(db, "a", "latest", now_ms=10)
    push(db, "a", "latest", what=second, actor="bob", now_ms=20)
    push(db, "a", "other", what=second, now_ms=30)
    db.remove_tag("a", "latest", actor="cid", now_ms=40)
    steps = db.tag_history("a", "latest", before=None, limit=9)
    assert [replace(step, number=0) for step in steps] == [
        TagChange(0, "latest", "", "", 0, "cid", 40),
        TagChange(0, "latest", second.digest, MEDIA, 7, "bob", 20),
        TagChange(0, "latest", IMAGE.digest, MEDIA, 5, "ann", 10),
    ]
    numbers = [step.number for step in steps]
    assert numbers == sorted(numbers, reverse=True)
    assert db.tag_history("a", "latest", before=None, limit=2) == steps[:2]
    assert db.tag_history("a", "latest", before=numbers[0], limit=9) == steps[1:]
    assert db.manifest("a", "latest") is None
    assert db.manifest("a", second.digest) == second


def test_history_stays_when_everything_else_is_deleted(db: RegistryDb) -> None:
    push(db, "a", "1", "2")
    assert db.remove_manifest("a", IMAGE.digest, actor="bob", now_ms=50) is True
    assert db.remove_manifest("a", IMAGE.digest, actor="bob", now_ms=50) is False
    assert db.manifest("a", "1") is None
    assert db.tags("a", after="", limit=9) == []
    db.remove_blob("a", LAYER.digest)
    db.remove_blob("a", CONFIG.digest)
    assert not db.has_repository("a")
    for tag in ("1", "2"):
        steps = db.tag_history("a", tag, before=None, limit=9)
        assert [(step.digest, step.actor) for step in steps] == [("", "bob"), (IMAGE.digest, "ann")]
    push(db, "a", "1")
    assert len(db.tag_history("a", "1", before=None, limit=9)) == 3


def test_removing_a_tag_tells_whether_it_was_there(db: RegistryDb) -> None:
    push(db, "a", "t")
    assert db.remove_tag("a", "t", actor="ann", now_ms=2) is True
    assert db.remove_tag("a", "t", actor="ann", now_ms=2) is False
    assert db.remove_tag("nowhere", "t", actor="ann", now_ms=2) is False


def test_immutable_tags_neither_move_nor_go(db: RegistryDb) -> None:
    db.put_namespace(Namespace("", immutable_tags=False))
    db.put_namespace(Namespace("prod", immutable_tags=True))
    other = manifest("other", LAYER)
    push(db, "prod/app", "1")
    push(db, "prod/app", "1")
    with pytest.raises(ImmutableTagError, match=IMAGE.digest):
        push(db, "prod/app", "2", "1", what=other)
    assert db.manifest("prod/app", "2") is None
    assert db.manifest("prod/app", other.digest) is None
    with pytest.raises(ImmutableTagError):
        db.remove_tag("prod/app", "1", actor="ann", now_ms=2)
    with pytest.raises(ImmutableTagError):
        db.remove_manifest("prod/app", IMAGE.digest, actor="ann", now_ms=2)
    push(db, "prod/app", "2", what=other)
    assert db.manifest("prod/app", "1") == IMAGE
    push(db, "production", "1")
    push(db, "production", "1", what=other)
    assert db.manifest("production", "1") == other
    db.remove_namespace("prod")
    assert db.remove_manifest("prod/app", IMAGE.digest, actor="ann", now_ms=2)


# ---------------------------------------------------------------- lists


def test_repositories_are_sorted_bytewise_and_hold_a_manifest(db: RegistryDb) -> None:
    names = ["a", "a-b", "a/b", "a.b", "a0", "b", "a_b", "a/b/c"]
    for name in names:
        push(db, name, "t")
    db.add_blob("no-manifest", LAYER, now_ms=1)
    ordered = sorted(names, key=str.encode)
    assert db.repositories(after="", limit=99) == ordered
    assert db.repositories(after="a-b", limit=3) == ordered[2:5]
    assert db.repositories(after="a-a", limit=2) == ordered[1:3]
    assert db.repositories(after="b", limit=9) == []
    assert db.repositories(after="", limit=0) == []


def test_tags_are_sorted_bytewise(db: RegistryDb) -> None:
    tags = ["1.0", "1", "10", "A", "a", "_", "Z-1", "a.b", "a-b"]
    push(db, "a", *tags)
    push(db, "b", "other")
    ordered = sorted(tags, key=str.encode)
    assert db.tags("a", after="", limit=99) == ordered
    assert db.tags("a", after="10", limit=2) == ordered[3:5]
    assert db.tags("a", after="9", limit=1) == ordered[3:4]
    assert db.tags("nowhere", after="", limit=9) == []


def test_referrers_are_the_manifests_with_that_subject(db: RegistryDb) -> None:
    signatures = [replace(manifest(f"s{n}"), subject=IMAGE.digest) for n in range(3)]
    for signature in signatures:
        db.put_manifest("a", signature, [], actor="ann", now_ms=1)
    db.put_manifest("a", replace(manifest("x"), subject=LAYER.digest), [], actor="ann", now_ms=1)
    db.put_manifest("b", replace(manifest("y"), subject=IMAGE.digest), [], actor="ann", now_ms=1)
    found = db.referrers("a", IMAGE.digest, bytes_max=10_000)
    assert found == sorted(signatures, key=lambda each: each.digest)
    db.remove_manifest("a", found[0].digest, actor="ann", now_ms=2)
    assert db.referrers("a", IMAGE.digest, bytes_max=10_000) == found[1:]
    assert db.referrers("c", IMAGE.digest, bytes_max=10_000) == []


def test_referrers_come_in_pages_and_by_type(db: RegistryDb) -> None:
    notes = json.dumps({"long": "x" * 1000})
    all_of_them = [
        replace(
            manifest(f"s{n}"),
            subject=IMAGE.digest,
            artifact_type="even" if n % 2 == 0 else "odd",
            annotations=notes,
        )
        for n in range(7)
    ]
    for each in all_of_them:
        db.put_manifest("a", each, [], actor="ann", now_ms=1)
    all_of_them.sort(key=lambda each: each.digest)
    pages, after = list[list[StoredManifest]](), ""
    while page := db.referrers("a", IMAGE.digest, after=after, bytes_max=2000):
        assert sum(map(referrer_bytes, page[:-1])) <= 2000
        pages.append(page)
        after = page[-1].digest
    assert [each for page in pages for each in page] == all_of_them
    assert len(pages) == 4
    even = db.referrers("a", IMAGE.digest, artifact_type="even", bytes_max=10_000)
    assert even == [each for each in all_of_them if each.artifact_type == "even"]
    assert db.referrers("a", IMAGE.digest, artifact_type="", bytes_max=10_000) == []
