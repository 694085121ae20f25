"""What every ``ports.registry.RegistryDb`` must do with uploads, settings and upstreams."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.ports.registry import (
    Grant,
    Namespace,
    Proxied,
    QuotaExceededError,
    RegistryDb,
    Upload,
    UpstreamTag,
    User,
)
from tests.fakes.registry_rows import CONFIG, IMAGE, LAYER, MEDIA, blob, manifest, proxied, push

# ---------------------------------------------------------------- uploads


def test_upload_is_remembered_until_it_ends(db: RegistryDb) -> None:
    upload = Upload("u" * 22, "a", 0, 5, 5)
    db.begin_upload(upload)
    assert db.upload(upload.id) == upload
    db.advance_upload(upload.id, offset=100, now_ms=9)
    assert db.upload(upload.id) == replace(upload, offset=100, touched_ms=9)
    assert db.end_upload(upload.id) is True
    assert db.end_upload(upload.id) is False
    assert db.upload(upload.id) is None
    with pytest.raises(NotFoundError):
        db.advance_upload(upload.id, offset=1, now_ms=10)


def test_uploads_that_were_only_begun_become_stale_too(db: RegistryDb) -> None:
    # A registry once compared a time written as a date with one written as a number, as texts.
    day_ms = 86_400_000
    now_ms = 1_790_000_000_000
    only_begun = Upload("begun", "a", 0, now_ms - 2 * day_ms, now_ms - 2 * day_ms)
    written = Upload("written", "a", 0, now_ms - 3 * day_ms, now_ms - 3 * day_ms)
    for upload in (only_begun, written):
        db.begin_upload(upload)
    db.advance_upload("written", offset=1, now_ms=now_ms)
    assert db.stale_uploads(before_ms=now_ms - day_ms, limit=9) == [only_begun]
    assert db.stale_uploads(before_ms=only_begun.touched_ms, limit=9) == []
    found = db.stale_uploads(before_ms=now_ms + 1, limit=9)
    assert [each.id for each in found] == ["begun", "written"]
    assert db.stale_uploads(before_ms=now_ms + 1, limit=1) == [only_begun]


# ---------------------------------------------------------------- settings


def test_users_are_kept_with_their_grants_in_order(db: RegistryDb) -> None:
    bob = User("bob", "$argon2id$…", (Grant("team/b", may_push=True), Grant("", may_push=False)))
    ann = User("ann", "$argon2id$a", ())
    for user in (bob, ann):
        db.put_user(user)
    assert db.user("bob") == bob
    assert db.users() == [ann, bob]
    changed = replace(bob, password="$argon2id$2", grants=(Grant("x", may_push=True),))
    db.put_user(changed)
    assert db.user("bob") == changed
    assert db.remove_user("bob") is True
    assert db.remove_user("bob") is False
    assert db.user("bob") is None
    assert db.users() == [ann]


def test_namespaces_are_kept_by_prefix(db: RegistryDb) -> None:
    whole = Namespace("", is_private=True)
    team = Namespace("team", immutable_tags=True, quota_bytes=0)
    for namespace in (team, whole):
        db.put_namespace(namespace)
    assert db.namespaces() == [whole, team]
    db.put_namespace(Namespace("team"))
    assert db.namespaces() == [whole, Namespace("team")]
    assert db.remove_namespace("team") is True
    assert db.remove_namespace("team") is False


def test_usage_counts_distinct_bytes_under_a_prefix(db: RegistryDb) -> None:
    push(db, "team/a", "t")
    push(db, "team/b", "t")
    db.add_blob("team/b", replace(LAYER, digest="sha512:" + "1" * 128), now_ms=1)
    db.add_blob("team", blob("more", 1000), now_ms=1)
    db.add_blob("teams", blob("other", 7000), now_ms=1)
    assert db.usage("team") == 1000 + 100 + 20 + 5
    assert db.usage("team/a") == 125
    assert db.usage("teams") == 7000
    assert db.usage("") == 8125
    assert db.usage("nowhere") == 0


def test_quota_bounds_the_distinct_blobs_of_a_namespace(db: RegistryDb) -> None:
    db.put_namespace(Namespace("team", quota_bytes=126))
    db.put_namespace(Namespace("team/vip"))
    push(db, "team/a", "t")
    push(db, "team/b", "t")
    db.add_blob("team/b", blob("fits", 1), now_ms=1)
    with pytest.raises(QuotaExceededError, match=r"127.*126"):
        db.add_blob("team/a", blob("one more", 1), now_ms=1)
    with pytest.raises(QuotaExceededError):
        db.put_manifest("team/c", manifest("empty", size=1), ["t"], actor="ann", now_ms=1)
    db.add_blob("elsewhere", blob("big", 50), now_ms=1)
    with pytest.raises(QuotaExceededError):
        db.mount_blob("elsewhere", "team/a", blob("big", 50).digest, now_ms=1)
    assert db.usage("team") == 126
    assert not db.has_repository("team/c")
    assert db.manifest("team/c", "t") is None
    db.add_blob("team/vip/x", blob("one more", 1), now_ms=1)


# ---------------------------------------------------------------- upstreams


def test_upstream_tag_is_what_was_seen_last(db: RegistryDb) -> None:
    seen = UpstreamTag("registry.example", "library/x", "1", "sha256:1", MEDIA, 7, 100)
    db.note_upstream_tag(seen)
    db.note_upstream_tag(replace(seen, tag="2"))
    moved = replace(seen, digest="sha256:2", checked_ms=200)
    db.note_upstream_tag(moved)
    assert db.upstream_tag("registry.example", "library/x", "1") == moved
    assert db.upstream_tag("registry.example", "library/x", "3") is None


def test_upstream_tags_are_forgotten_by_age_and_number(db: RegistryDb) -> None:
    for number in range(6):
        tag = str(number)
        db.note_upstream_tag(UpstreamTag("h", "r", tag, "sha256:1", MEDIA, 7, number * 10))
    db.forget_upstream_tags(before_ms=20, keep=3)
    known = [db.upstream_tag("h", "r", str(number)) is not None for number in range(6)]
    assert known == [False, False, False, True, True, True]
    db.forget_upstream_tags(before_ms=50, keep=9)
    assert db.upstream_tag("h", "r", "4") is None
    assert db.upstream_tag("h", "r", "5") is not None


def test_proxied_blobs_are_listed_by_their_last_use(db: RegistryDb) -> None:
    first, second = proxied(LAYER, 10), proxied(CONFIG, 20)
    db.note_proxied([first, second])
    assert db.proxied(limit=9) == [first, second]
    db.note_proxied([replace(first, used_ms=30)])
    db.note_proxied([replace(first, used_ms=5)])
    assert db.proxied(limit=9) == [second, replace(first, used_ms=30)]
    assert db.proxied(limit=1) == [second]


def test_proxied_blob_that_a_repository_holds_is_not_listed(db: RegistryDb) -> None:
    db.note_proxied([proxied(LAYER, 1), proxied(CONFIG, 2), Proxied(IMAGE.sha256, 5, "x", 3)])
    push(db, "a")
    assert db.proxied(limit=9) == []
    db.remove_manifest("a", IMAGE.digest, actor="ann", now_ms=2)
    assert [each.sha256 for each in db.proxied(limit=9)] == [IMAGE.sha256]


def test_proxied_blob_is_evicted_unless_it_was_used_since(db: RegistryDb) -> None:
    db.note_proxied([proxied(LAYER, 10)])
    assert db.removable(before_ms=10**13, limit=9) == []
    assert db.begin_removal(LAYER.sha256, before_ms=10**13) is False
    assert db.evict_proxied(LAYER.sha256, used_ms=9) is False
    assert db.evict_proxied(LAYER.sha256, used_ms=10) is True
    assert db.evict_proxied(LAYER.sha256, used_ms=10) is False
    assert db.removable(before_ms=1, limit=9) == [LAYER]
