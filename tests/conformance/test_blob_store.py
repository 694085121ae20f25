"""What every BlobStore promises, asked of the fake and of the files on disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import PIECE_SIZE_BYTES, BlobStore
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.pieces import piece_hash, piece_root
from tests.fakes.memory_blobs import MemoryBlobStore

Factory = Callable[[Path], BlobStore]


def _memory(folder: Path) -> BlobStore:
    (folder / "memory").mkdir()
    return MemoryBlobStore(folder / "memory")


def _files(folder: Path) -> BlobStore:
    return FileBlobStore(folder / "blobs", cached_bytes_max=1 << 30)


@pytest.fixture(params=[_memory, _files], ids=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    factory: Factory = request.param
    return factory(tmp_path)


def _outside(folder: Path, data: bytes) -> tuple[str, str]:
    path = folder / "outside"
    path.write_bytes(data)
    return str(path), hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "data", [b"", b"one piece", bytes(PIECE_SIZE_BYTES), bytes(PIECE_SIZE_BYTES + 1)]
)
def test_adopted_bytes_come_back_whole_with_their_piece_root(
    store: BlobStore, tmp_path: Path, data: bytes
) -> None:
    path, sha256 = _outside(tmp_path, data)
    info = store.adopt(path, sha256)
    hashes = [
        piece_hash(data[start : start + PIECE_SIZE_BYTES])
        for start in range(0, len(data), PIECE_SIZE_BYTES)
    ]
    assert info == store.stat(sha256)
    assert (info.sha256, info.size, info.pieces) == (sha256, len(data), piece_root(hashes))
    assert store.piece_hashes(sha256) == b"".join(hashes)
    assert Path(store.path(sha256)).read_bytes() == data


def test_adoption_moves_the_file(store: BlobStore, tmp_path: Path) -> None:
    path, sha256 = _outside(tmp_path, b"moved")
    store.adopt(path, sha256)
    assert not Path(path).exists()


def test_adoption_is_repeatable(store: BlobStore, tmp_path: Path) -> None:
    for _ in range(2):
        path, sha256 = _outside(tmp_path, b"twice")
        assert store.adopt(path, sha256).size == 5


def test_adoption_refuses_another_digest_and_names_both(store: BlobStore, tmp_path: Path) -> None:
    path, sha256 = _outside(tmp_path, b"right")
    claimed = hashlib.sha256(b"claimed").hexdigest()
    with pytest.raises(VerificationError, match=f"{sha256}.*{claimed}"):
        store.adopt(path, claimed)
    assert store.stat(claimed) is None
    assert store.stat(sha256) is None
    assert Path(path).read_bytes() == b"right"


def test_adoption_never_follows_a_link(store: BlobStore, tmp_path: Path) -> None:
    path, sha256 = _outside(tmp_path, b"secret")
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(InvalidInputError):
        store.adopt(str(link), sha256)
    assert Path(path).exists()


def test_adoption_never_waits_for_a_pipe(store: BlobStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidInputError):
        store.adopt(str(tmp_path / "pipe"), "0" * 64)


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "/"])
def test_nothing_but_a_digest_becomes_a_path(store: BlobStore, tmp_path: Path, digest: str) -> None:
    path, _ = _outside(tmp_path, b"x")
    with pytest.raises(InvalidInputError):
        store.adopt(path, digest)
    assert store.stat(digest) is None


def test_checked_pieces_are_adopted_without_another_hash(store: BlobStore, tmp_path: Path) -> None:
    path, sha256 = _outside(tmp_path, b"checked")
    info = store.adopt_pieces(path, sha256, piece_hash(b"checked"))
    assert info == store.stat(sha256)
    assert Path(store.path(sha256)).read_bytes() == b"checked"


def test_checked_piece_is_a_shared_blob_with_its_root(store: BlobStore, tmp_path: Path) -> None:
    path, sha256 = _outside(tmp_path, b"single")
    info = store.adopt_single(memoryview(b"single"), sha256, piece_root(piece_hash(b"single")))
    assert info == store.stat(sha256) == store.adopt(path, sha256)
    assert store.is_shared(sha256)
    assert Path(store.path(sha256)).read_bytes() == b"single"


def test_checked_piece_may_be_there_as_a_local_blob(store: BlobStore, tmp_path: Path) -> None:
    path, sha256 = _outside(tmp_path, b"single")
    store.adopt(path, sha256, local=True)
    store.adopt_single(memoryview(b"single"), sha256, piece_root(piece_hash(b"single")))
    assert store.is_shared(sha256)
    store.drop_local(sha256)
    assert Path(store.path(sha256)).read_bytes() == b"single"


def test_leased_blob_is_not_removed(store: BlobStore, tmp_path: Path) -> None:
    path, sha256 = _outside(tmp_path, b"leased")
    store.adopt(path, sha256)
    with store.lease(sha256) as leased:
        assert Path(leased).read_bytes() == b"leased"
        with pytest.raises(UnavailableError):
            store.remove(sha256)
    store.remove(sha256)
    store.remove(sha256)
    assert store.stat(sha256) is None


@pytest.mark.parametrize("local", [False, True])
def test_blob_is_shared_unless_it_was_adopted_as_local(
    store: BlobStore,
    tmp_path: Path,
    local: bool,  # noqa: FBT001 - pytest gives parameters by name
) -> None:
    path, sha256 = _outside(tmp_path, b"mine or everybody's")
    store.adopt(path, sha256, local=local)
    assert store.is_shared(sha256) is not local
    assert Path(store.path(sha256)).read_bytes() == b"mine or everybody's"


def test_local_pieces_are_adopted_without_hashes_that_nobody_needs_yet(
    store: BlobStore, tmp_path: Path
) -> None:
    path, sha256 = _outside(tmp_path, b"pushed")
    info = store.adopt_pieces(path, sha256, b"", local=True)
    assert (info.sha256, info.size, info.pieces) == (sha256, 6, None)
    assert store.stat(sha256) == info
    store.share(sha256)
    shared = store.stat(sha256)
    assert shared is not None
    assert shared.pieces == piece_root(piece_hash(b"pushed"))
    assert store.piece_hashes(sha256) == piece_hash(b"pushed")


def test_blob_of_both_classes_stays_until_the_last_one_ends(
    store: BlobStore, tmp_path: Path
) -> None:
    for first_local in (False, True):
        path, sha256 = _outside(tmp_path, b"both %d" % first_local)
        store.adopt(path, sha256, local=first_local)
        (store.share if first_local else store.keep_local)(sha256)
        assert store.is_shared(sha256)
        (store.remove if first_local else store.drop_local)(sha256)
        assert store.is_shared(sha256) is not first_local
        assert Path(store.path(sha256)).read_bytes() == b"both %d" % first_local
        (store.drop_local if first_local else store.remove)(sha256)
        assert store.stat(sha256) is None
        assert not store.is_shared(sha256)


def test_adopting_again_in_the_other_class_makes_it_both(store: BlobStore, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"again").hexdigest()
    for local in (True, False, True):
        path, _ = _outside(tmp_path, b"again")
        store.adopt(path, sha256, local=local)
    store.drop_local(sha256)
    assert store.is_shared(sha256)
    assert Path(store.path(sha256)).read_bytes() == b"again"


def test_ending_one_class_never_ends_the_other(store: BlobStore, tmp_path: Path) -> None:
    path, sha256 = _outside(tmp_path, b"local alone")
    store.adopt(path, sha256, local=True)
    store.remove(sha256)
    assert store.stat(sha256) is not None
    path, sha256 = _outside(tmp_path, b"shared alone")
    store.adopt(path, sha256)
    store.drop_local(sha256)
    assert store.is_shared(sha256)


def test_leased_local_blob_does_not_go(store: BlobStore, tmp_path: Path) -> None:
    path, sha256 = _outside(tmp_path, b"being pulled")
    store.adopt(path, sha256, local=True)
    with store.lease(sha256), pytest.raises(UnavailableError):
        store.drop_local(sha256)
    store.drop_local(sha256)
    store.drop_local(sha256)
    assert store.stat(sha256) is None


def test_absent_blob_is_not_found(store: BlobStore) -> None:
    absent = "0" * 64
    assert store.stat(absent) is None
    for ask in (store.path, store.piece_hashes, store.pin, store.share, store.keep_local):
        with pytest.raises(NotFoundError):
            ask(absent)
    with pytest.raises(NotFoundError), store.lease(absent):
        pass
