"""What every ``ports.registry.BlobUploads`` must do, on the fake and on files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import BlobStore
from pyrsia_node.ports.registry_blobs import BlobUploads
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.uploads import FileBlobUploads
from tests.fakes.memory_blobs import MemoryBlobStore
from tests.fakes.memory_uploads import MemoryBlobUploads

Opened = tuple[BlobUploads, BlobStore]


def _memory(folder: Path) -> Opened:
    store = MemoryBlobStore(folder)
    return MemoryBlobUploads(folder, store), store


def _files(folder: Path) -> Opened:
    store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 30)
    return FileBlobUploads(folder / "blobs" / "uploads", store), store


@pytest.fixture(params=[_memory, _files], ids=["memory", "files"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Opened:
    factory: Callable[[Path], Opened] = request.param
    return factory(tmp_path)


@pytest.fixture
def uploads(opened: Opened) -> BlobUploads:
    return opened[0]


def _name(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def _write(uploads: BlobUploads, *parts: bytes) -> str:
    name = uploads.begin()
    with uploads.open(name) as writer:
        for part in parts:
            writer.append(part)
        writer.sync()
    return name


def test_names_are_new_and_unguessable(uploads: BlobUploads) -> None:
    names = {uploads.begin() for _ in range(50)}
    assert len(names) == 50
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", name) for name in names)


@pytest.mark.parametrize("parts", [[], [b""], [b"one"], [b"one", b"", b"two" * 1000]])
def test_committed_upload_is_a_local_blob(opened: Opened, parts: list[bytes]) -> None:
    uploads, store = opened
    data = b"".join(parts)
    info = uploads.commit(_write(uploads, *parts), _name(data))
    assert (info.sha256, info.size) == (hashlib.sha256(data).hexdigest(), len(data))
    assert Path(store.path(info.sha256)).read_bytes() == data
    assert not store.is_shared(info.sha256)


def test_upload_is_committed_once(uploads: BlobUploads) -> None:
    name = _write(uploads, b"data")
    uploads.commit(name, _name(b"data"))
    with pytest.raises(NotFoundError):
        uploads.commit(name, _name(b"data"))
    with pytest.raises(NotFoundError), uploads.open(name):
        pass
    assert uploads.names(before_ms=1 << 60) == []


def test_upload_goes_on_where_it_stood(opened: Opened) -> None:
    uploads, store = opened
    name = _write(uploads, b"one ")
    with uploads.open(name, offset=4) as writer:
        assert writer.offset == 4
        writer.append(memoryview(b"two "))
        writer.append(bytearray(b"three"))
        assert writer.offset == 13
    info = uploads.commit(name, _name(b"one two three"))
    assert Path(store.path(info.sha256)).read_bytes() == b"one two three"


def test_bytes_that_were_never_told_are_dropped(opened: Opened) -> None:
    uploads, store = opened
    name = _write(uploads, b"told, ", b"not told")
    with uploads.open(name, offset=6) as writer:
        writer.append(b"sent again")
    info = uploads.commit(name, _name(b"told, sent again"))
    assert Path(store.path(info.sha256)).read_bytes() == b"told, sent again"


def test_upload_that_lost_bytes_is_not_found(uploads: BlobUploads) -> None:
    name = _write(uploads, b"four")
    with pytest.raises(NotFoundError), uploads.open(name, offset=5):
        pass


def test_wrong_digest_is_refused_and_the_upload_stays(opened: Opened) -> None:
    uploads, store = opened
    name = _write(uploads, b"right")
    for digest in (_name(b"wrong"), _name(b"wrong", "sha512")):
        for step in (uploads.check, uploads.commit):
            with pytest.raises(VerificationError, match=digest):
                step(name, digest)
    assert store.stat(hashlib.sha256(b"wrong").hexdigest()) is None
    uploads.commit(name, _name(b"right"))


def test_digest_of_another_kind_is_refused(uploads: BlobUploads) -> None:
    name = _write(uploads, b"data")
    for digest in ("", "md5:" + "0" * 32, "sha256:" + "A" * 64, "0" * 64):
        with pytest.raises(InvalidInputError):
            uploads.commit(name, digest)


def test_sha512_name_leads_to_a_blob_under_its_sha256(opened: Opened) -> None:
    uploads, store = opened
    name = _write(uploads, b"long ", b"name")
    sha256 = hashlib.sha256(b"long name").hexdigest()
    assert uploads.check(name, _name(b"long name", "sha512")) == sha256
    assert uploads.commit(name, _name(b"long name", "sha512")).sha256 == sha256
    assert Path(store.path(sha256)).read_bytes() == b"long name"


def test_checked_upload_is_not_consumed_and_can_grow(uploads: BlobUploads) -> None:
    name = _write(uploads, b"one")
    assert uploads.check(name, _name(b"one")) == hashlib.sha256(b"one").hexdigest()
    with uploads.open(name) as writer:
        assert writer.offset == 3
        writer.append(b" two")
    with pytest.raises(VerificationError):
        uploads.commit(name, _name(b"one"))
    assert uploads.commit(name, _name(b"one two")).size == 7


def test_one_request_writes_at_a_time(uploads: BlobUploads) -> None:
    name = uploads.begin()
    with uploads.open(name) as writer:
        writer.append(b"mine")
        for other in (uploads.check, uploads.commit):
            with pytest.raises(UnavailableError):
                other(name, _name(b"mine"))
        with pytest.raises(UnavailableError), uploads.open(name):
            pass
    uploads.commit(name, _name(b"mine"))


def test_upload_is_free_again_after_an_error(uploads: BlobUploads) -> None:
    name = uploads.begin()

    def fail_half_way() -> None:
        with uploads.open(name) as writer:
            writer.append(b"part")
            raise LookupError

    with pytest.raises(LookupError):
        fail_half_way()
    with uploads.open(name) as writer:
        assert writer.offset == 4


def test_cancelled_upload_is_gone(opened: Opened) -> None:
    uploads, store = opened
    name = _write(uploads, b"data")
    uploads.cancel(name)
    uploads.cancel(name)
    with pytest.raises(NotFoundError):
        uploads.commit(name, _name(b"data"))
    assert uploads.names(before_ms=1 << 60) == []
    assert store.stat(hashlib.sha256(b"data").hexdigest()) is None


def test_cancelling_while_somebody_writes_leaves_no_blob(opened: Opened) -> None:
    uploads, store = opened
    name = uploads.begin()
    with uploads.open(name) as writer:
        writer.append(b"half")
        uploads.cancel(name)
        writer.append(b" more")
    with pytest.raises(NotFoundError):
        uploads.commit(name, _name(b"half more"))
    assert store.stat(hashlib.sha256(b"half more").hexdigest()) is None


@pytest.mark.parametrize("name", ["", "x", "../../../etc/passwd", "a" * 21 + "/", "." * 22])
def test_nothing_but_an_uploads_name_becomes_a_path(uploads: BlobUploads, name: str) -> None:
    with pytest.raises(NotFoundError), uploads.open(name):
        pass
    for step in (uploads.check, uploads.commit):
        with pytest.raises(NotFoundError):
            step(name, _name(b""))
    uploads.cancel(name)


def test_names_are_those_not_written_to_since(uploads: BlobUploads) -> None:
    names = [uploads.begin(), _write(uploads, b"data")]
    assert uploads.names(before_ms=1_000_000) == []
    assert uploads.names(before_ms=1 << 60) == sorted(names)
    with uploads.open(names[0]):
        assert uploads.names(before_ms=1 << 60) == [names[1]]
