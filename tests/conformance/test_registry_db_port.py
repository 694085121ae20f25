"""What every ``ports.registry.RegistryDb`` must do, on the fake and on SQLite."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pyrsia_node.model.errors import InvalidInputError, NotFoundError, UnavailableError
from pyrsia_node.ports.registry import (
    Grant,
    ImmutableTagError,
    InUseError,
    Namespace,
    Proxied,
    QuotaExceededError,
    Reason,
    RegistryDb,
    RepositoryBlob,
    StoredManifest,
    TagChange,
    Upload,
    UpstreamTag,
    User,
)
from pyrsia_node.store.registry_db import SqliteRegistryDb
from tests.fakes.memory_registry import MemoryRegistryDb

MEDIA = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(params=["memory", "sqlite"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RegistryDb]:
    if request.param == "memory":
        yield MemoryRegistryDb()
        return
    opened = SqliteRegistryDb(tmp_path / "registry.sqlite", create=True)
    yield opened
    opened.close()


def blob(text: str, size: int = 10) -> RepositoryBlob:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return RepositoryBlob(f"sha256:{sha256}", sha256, size)


def manifest(text: str, *needs: RepositoryBlob | StoredManifest, size: int = 5) -> StoredManifest:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    digests = tuple(need.digest for need in needs)
    return StoredManifest(f"sha256:{sha256}", sha256, size, MEDIA, digests)


LAYER, CONFIG = blob("layer", 100), blob("config", 20)
IMAGE = manifest("image", CONFIG, LAYER)


def push(
    db: RegistryDb,
    repository: str,
    *tags: str,
    what: StoredManifest = IMAGE,
    actor: str = "ann",
    now_ms: int = 1000,
) -> None:
    for each in (LAYER, CONFIG):
        db.add_blob(repository, each, now_ms=now_ms)
    db.put_manifest(repository, what, tags, actor=actor, now_ms=now_ms)


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
    found = db.referrers("a", IMAGE.digest)
    assert found == sorted(signatures, key=lambda each: each.digest)
    db.remove_manifest("a", found[0].digest, actor="ann", now_ms=2)
    assert db.referrers("a", IMAGE.digest) == found[1:]
    assert db.referrers("c", IMAGE.digest) == []


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


def test_proxied_blobs_are_listed_by_their_last_use(db: RegistryDb) -> None:
    first, second = _proxied(LAYER, 10), _proxied(CONFIG, 20)
    db.note_proxied([first, second])
    assert db.proxied(limit=9) == [first, second]
    db.note_proxied([replace(first, used_ms=30)])
    db.note_proxied([replace(first, used_ms=5)])
    assert db.proxied(limit=9) == [second, replace(first, used_ms=30)]
    assert db.proxied(limit=1) == [second]


def _proxied(what: RepositoryBlob, used_ms: int) -> Proxied:
    return Proxied(what.sha256, what.size, "registry.example/x", used_ms)


def test_proxied_blob_that_a_repository_holds_is_not_listed(db: RegistryDb) -> None:
    db.note_proxied([_proxied(LAYER, 1), _proxied(CONFIG, 2), Proxied(IMAGE.sha256, 5, "x", 3)])
    push(db, "a")
    assert db.proxied(limit=9) == []
    db.remove_manifest("a", IMAGE.digest, actor="ann", now_ms=2)
    assert [each.sha256 for each in db.proxied(limit=9)] == [IMAGE.sha256]


def test_proxied_blob_is_evicted_unless_it_was_used_since(db: RegistryDb) -> None:
    db.note_proxied([_proxied(LAYER, 10)])
    assert db.removable(before_ms=10**13, limit=9) == []
    assert db.begin_removal(LAYER.sha256, before_ms=10**13) is False
    assert db.evict_proxied(LAYER.sha256, used_ms=9) is False
    assert db.evict_proxied(LAYER.sha256, used_ms=10) is True
    assert db.evict_proxied(LAYER.sha256, used_ms=10) is False
    assert db.removable(before_ms=1, limit=9) == [LAYER]


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
        lambda: db.note_proxied([_proxied(LAYER, 9)]),
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
    db.note_proxied([_proxied(blob("proxied"), 1)])
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
    db.note_proxied([_proxied(LAYER, 9)])
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
    yield _proxied(blob("proxied"), 1)
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
