"""What the blob store promises beyond the port: eviction, restarts, scrubbing, full disks."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.store.blob_files import reserve
from pyrsia_node.store.blobs import LISTLESS_BYTES_MAX, FileBlobStore
from pyrsia_node.store.pieces import piece_hash, piece_root

LARGE = b"good".ljust(LISTLESS_BYTES_MAX + 1)
"""As many bytes as a blob has that lies beside a list of its pieces."""


def _put(store: FileBlobStore, folder: Path, data: bytes, *, local: bool = False) -> str:
    path = folder / "outside"
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()
    store.adopt(str(path), sha256, local=local)
    return sha256


def _names(folder: Path, sha256: str) -> list[str]:
    return sorted(path.parts[-3] for path in (folder / "blobs").glob(f"*/??/{sha256}"))


def test_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=25)
    first, second = _put(store, tmp_path, b"1" * 10), _put(store, tmp_path, b"2" * 10)
    with store.lease(first):
        pass
    third = _put(store, tmp_path, b"3" * 10)
    assert store.digests() == [first, third]
    assert store.stat(second) is None
    assert store.usage().cached_bytes == 20


def test_pin_is_durable_before_anybody_relies_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=15)
    sha256 = _put(store, tmp_path, b"p" * 10)
    synced: list[tuple[str, bool]] = []
    sync, pin = os.fsync, tmp_path / "blobs" / "pins" / sha256

    def noted(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").resolve().name, pin.exists()))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    store.pin(sha256)
    assert synced[-1] == ("pins", True)


def test_pinned_blob_is_never_evicted_and_not_counted(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=15)
    pinned = _put(store, tmp_path, b"p" * 10)
    store.pin(pinned)
    _put(store, tmp_path, b"1" * 10)
    last = _put(store, tmp_path, b"2" * 10)
    assert store.digests() == [pinned, last]
    assert store.usage().pinned == 1


def test_leased_blob_is_not_evicted(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=15)
    leased = _put(store, tmp_path, b"l" * 10)
    with store.lease(leased):
        _put(store, tmp_path, b"1" * 10)
        assert store.has(leased)
    store.evict()
    assert not store.has(leased)


def test_artifact_larger_than_the_cache_stays_until_the_next(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=5)
    large = _put(store, tmp_path, b"x" * 10)
    assert store.has(large)
    _put(store, tmp_path, b"y")
    assert not store.has(large)


def test_cache_shrinks_to_its_low_mark(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=50, low_percent=60)
    digests = [_put(store, tmp_path, bytes([number]) * 10) for number in range(5)]
    assert store.digests() == digests
    digests.append(_put(store, tmp_path, b"6" * 10))
    assert store.digests() == digests[3:]
    assert store.usage().cached_bytes == 30


def test_local_blobs_are_never_evicted_and_not_counted(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=15)
    local = _put(store, tmp_path, b"l" * 100, local=True)
    both = _put(store, tmp_path, b"b" * 100)
    store.keep_local(both)
    _put(store, tmp_path, b"1" * 10)
    last = _put(store, tmp_path, b"2" * 10)
    assert store.digests() == [local, both, last]
    assert (store.usage().cached_bytes, store.usage().local_bytes) == (10, 200)
    store.drop_local(both)
    assert store.digests() == [local, last]


def test_newest_cached_blob_stays_though_a_push_came_after_it(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=5)
    large = _put(store, tmp_path, b"x" * 10)
    _put(store, tmp_path, b"pushed", local=True)
    assert store.has(large)


def test_bytes_of_both_classes_are_one_file_and_count_once(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    sha256 = _put(store, tmp_path, LARGE)
    store.keep_local(sha256)
    names = list((tmp_path / "blobs").glob(f"*/??/{sha256}"))
    assert _names(tmp_path, sha256) == ["local", "pieces", "sha256"]
    assert len({path.stat().st_ino for path in names if path.parts[-3] != "pieces"}) == 1
    assert store.usage().bytes == len(LARGE)
    _put(store, tmp_path, LARGE, local=True)
    inodes = {path.stat().st_ino for path in names if path.parts[-3] != "pieces"}
    assert len(inodes) == 1
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []


def test_restart_knows_which_blobs_are_local(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    local = _put(store, tmp_path, b"local", local=True)
    shared = _put(store, tmp_path, b"shared")
    both = _put(store, tmp_path, b"both", local=True)
    store.share(both)
    again = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    known = {
        sha256: (again.is_shared(sha256), again.is_local(sha256)) for sha256 in again.digests()
    }
    assert known == {local: (False, True), shared: (True, False), both: (True, True)}
    assert again.usage() == store.usage()


def test_restart_makes_two_files_of_one_blob_one_again(tmp_path: Path) -> None:
    # What a crash leaves in the middle of adopting a blob of both classes once more.
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    sha256 = _put(store, tmp_path, b"both")
    store.keep_local(sha256)
    local = tmp_path / "blobs" / "local" / sha256[:2] / sha256
    local.unlink()
    local.write_bytes(b"both")
    FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    assert local.samefile(store.path(sha256))


def test_scrub_looks_at_local_blobs_too(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    bad = _put(store, tmp_path, b"fine", local=True)
    both = _put(store, tmp_path, b"also fine", local=True)
    store.share(both)
    good = _put(store, tmp_path, b"good", local=True)
    for sha256 in (bad, both):
        Path(store.path(sha256)).write_bytes(b"evil")
    assert {sha256 for sha256, _ in store.scrub()} == {bad, both}
    assert store.digests() == [good]
    assert _names(tmp_path, both) == _names(tmp_path, bad) == []


def test_class_comes_into_being_with_the_rename_that_makes_the_blob_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    seen: list[list[str]] = []
    rename, sha256 = os.rename, hashlib.sha256(LARGE).hexdigest()

    def noted(path: str, target: str) -> None:
        seen.append(_names(tmp_path, sha256))
        rename(path, target)
        seen.append(_names(tmp_path, sha256))

    monkeypatch.setattr(os, "rename", noted)
    _put(store, tmp_path, LARGE, local=True)
    assert not any("sha256" in names for names in seen)
    assert seen[-1] == ["local", "pieces"]


def test_standing_says_how_the_cache_sees_a_blob(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    first, second = _put(store, tmp_path, b"first"), _put(store, tmp_path, b"second")
    pinned, local = _put(store, tmp_path, b"pinned"), _put(store, tmp_path, b"local", local=True)
    store.pin(pinned)
    os.utime(store.path(first), (7, 7))
    assert [each.sha256 for each in store.evictable()] == [first, second]
    assert store.evictable()[0].used_ms == 7000
    with store.lease(local):
        standing = store.standing(local)
    assert standing is not None
    assert (standing.is_leased, standing.is_local, standing.is_evictable) == (True, True, False)
    assert store.standing("0" * 64) is None


def test_restart_keeps_blobs_pins_and_the_order_of_use(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    digests = [_put(store, tmp_path, bytes([number]) * 10) for number in range(3)]
    store.pin(digests[2])
    for age, sha256 in enumerate([digests[0], digests[1]]):
        os.utime(store.path(sha256), (1000 - age, 1000 - age))
    (tmp_path / "blobs" / "incoming" / "leftover").write_bytes(b"half")
    again = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    assert again.digests() == [digests[1], digests[0], digests[2]]
    assert again.usage().pinned == 1
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []


def test_scrub_deletes_what_no_longer_matches_its_name(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    good, bad = _put(store, tmp_path, b"good"), _put(store, tmp_path, b"fine")
    Path(store.path(bad)).write_bytes(b"evil")
    findings = list(store.scrub())
    assert [sha256 for sha256, _ in findings] == [bad]
    assert hashlib.sha256(b"evil").hexdigest() in findings[0][1]
    assert store.digests() == [good]


def test_scrub_writes_a_damaged_piece_list_anew(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    sha256 = _put(store, tmp_path, LARGE)
    hashes = store.piece_hashes(sha256)
    listed = tmp_path / "blobs" / "pieces" / sha256[:2] / sha256
    listed.write_bytes(bytes(32))
    orphan = listed.with_name("0" * 64)
    orphan.write_bytes(b"")
    assert [name for name, _ in store.scrub()] == [sha256]
    assert store.piece_hashes(sha256) == hashes
    assert not orphan.exists()
    assert list(store.scrub()) == []


def test_lost_piece_list_is_computed_again(tmp_path: Path) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    sha256 = _put(store, tmp_path, LARGE)
    hashes = store.piece_hashes(sha256)
    (tmp_path / "blobs" / "pieces" / sha256[:2] / sha256).unlink()
    assert store.piece_hashes(sha256) == hashes
    assert _names(tmp_path, sha256) == ["pieces", "sha256"]


def test_small_blob_has_no_piece_list_and_answers_for_its_one_hash(tmp_path: Path) -> None:
    small, data = LARGE[:LISTLESS_BYTES_MAX], memoryview(LARGE)
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=1 << 30)
    adopted = [_put(store, tmp_path, small), hashlib.sha256(b"single").hexdigest()]
    store.adopt_single(memoryview(b"single"), adopted[1], piece_root(piece_hash(b"single")))
    large = hashlib.sha256(LARGE).hexdigest()
    store.adopt_single(data, large, piece_root(piece_hash(data)))
    again = FileBlobStore(tmp_path / "blobs", cached_bytes_max=1 << 30)
    assert again.piece_hashes(adopted[0]) == piece_hash(small)
    assert again.piece_hashes(adopted[1]) == piece_hash(b"single")
    assert [_names(tmp_path, sha256) for sha256 in adopted] == [["sha256"], ["sha256"]]
    assert _names(tmp_path, large) == ["pieces", "sha256"]


def test_blob_that_is_evicted_while_it_is_asked_about_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = _put(FileBlobStore(tmp_path / "blobs", cached_bytes_max=100), tmp_path, b"small")
    read = Path.read_bytes

    def evicting(path: Path) -> bytes:
        store.remove(sha256)
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", evicting)
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    assert store.stat(sha256) is None
    assert not store.has(sha256)


def test_single_piece_is_synced_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)
    sha256 = hashlib.sha256(b"single").hexdigest()
    steps: list[tuple[str, bool]] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        what = Path(f"/proc/self/fd/{descriptor}").resolve()
        steps.append((what.parent.name, bool(_names(tmp_path, sha256))))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    store.adopt_single(memoryview(b"single"), sha256, piece_root(piece_hash(b"single")))
    assert steps == [("incoming", False)]
    # Its name is made sure of only when somebody relies on it.
    store.pin(sha256)
    assert steps[1:] == [("sha256", True), ("incoming", True), ("blobs", True)]


def test_single_piece_that_finds_no_room_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileBlobStore(tmp_path / "blobs", cached_bytes_max=100)

    def full(_descriptor: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(UnavailableError, match=r"blobs/incoming.*No space left"):
        store.adopt_single(memoryview(b"x"), hashlib.sha256(b"x").hexdigest(), "0" * 64)
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


def test_reserving_more_than_the_disk_has_names_the_path(tmp_path: Path) -> None:
    path = tmp_path / "big"
    handle = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        with pytest.raises(UnavailableError, match=str(path)):
            reserve(handle, 1 << 50, str(path))
    finally:
        os.close(handle)


_ADOPT_WITH_LITTLE_ROOM = """
import hashlib, resource, signal, sys
from pathlib import Path
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.store.blobs import FileBlobStore
folder = Path(sys.argv[1])
store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 30)
source = folder / "outside"
source.write_bytes(bytes(100_000))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    store.adopt(str(source), hashlib.sha256(bytes(100_000)).hexdigest())
except UnavailableError as error:
    print(error)
"""


def test_adoption_without_room_leaves_nothing_behind(tmp_path: Path) -> None:
    # A file size limit stands for the full disk: the same calls fail, with EFBIG for ENOSPC.
    done = subprocess.run(
        [sys.executable, "-c", _ADOPT_WITH_LITTLE_ROOM, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path / "blobs" / "incoming") in done.stdout
    assert list((tmp_path / "blobs" / "incoming").iterdir()) == []
    assert (tmp_path / "outside").exists()
