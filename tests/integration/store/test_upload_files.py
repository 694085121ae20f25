"""What uploads in files promise beyond the port: restarts, full disks, kill -9."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.uploads import FileBlobUploads


def _open(folder: Path) -> FileBlobUploads:
    store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 30)
    return FileBlobUploads(folder / "blobs" / "uploads", store)


def test_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    before = _open(tmp_path)
    name = before.begin()
    with before.open(name) as writer:
        writer.append(b"x" * 3_000_000)
        writer.sync()
        writer.append(b"lost")
    after = _open(tmp_path)
    with after.open(name, offset=3_000_000) as writer:
        writer.append(b"y")
    whole = b"x" * 3_000_000 + b"y"
    assert after.commit(name, f"sha256:{hashlib.sha256(whole).hexdigest()}").size == len(whole)


def test_finished_upload_is_committed_after_a_restart(tmp_path: Path) -> None:
    before = _open(tmp_path)
    name = before.begin()
    with before.open(name) as writer:
        writer.append(b"whole")
        writer.sync()
    info = _open(tmp_path).commit(name, f"sha256:{hashlib.sha256(b'whole').hexdigest()}")
    assert Path(tmp_path, "blobs", "local", info.sha256[:2], info.sha256).read_bytes() == b"whole"


def test_committed_bytes_are_not_copied(tmp_path: Path) -> None:
    uploads = _open(tmp_path)
    name = uploads.begin()
    with uploads.open(name) as writer:
        writer.append(b"moved")
    inode = (tmp_path / "blobs" / "uploads" / name).stat().st_ino
    info = uploads.commit(name, f"sha256:{hashlib.sha256(b'moved').hexdigest()}")
    blob = tmp_path / "blobs" / "local" / info.sha256[:2] / info.sha256
    assert blob.stat().st_ino == inode
    assert list((tmp_path / "blobs" / "uploads").iterdir()) == []


def test_link_in_place_of_an_upload_is_not_followed(tmp_path: Path) -> None:
    uploads = _open(tmp_path)
    name = uploads.begin()
    path = tmp_path / "blobs" / "uploads" / name
    path.unlink()
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    path.symlink_to(secret)
    with pytest.raises(Exception, match="there is no upload"), uploads.open(name):
        pass
    assert secret.read_bytes() == b"secret"


def test_commit_is_refused_while_somebody_has_just_opened_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else a rename would make a blob of a file that another request can still write to.
    uploads = _open(tmp_path)
    name = _written(uploads, b"told")
    opened, go_on = threading.Event(), threading.Event()
    real_open = os.open

    def open_slowly(path: Any, flags: int, mode: int = 0o777) -> int:
        handle = real_open(path, flags, mode)
        if threading.current_thread().name == "late":
            opened.set()
            go_on.wait(5)
        return handle

    def write_late() -> None:
        with uploads.open(name, offset=0) as writer:
            writer.append(b"evil")

    monkeypatch.setattr(os, "open", open_slowly)
    late = threading.Thread(target=write_late, name="late")
    late.start()
    opened.wait(5)
    with pytest.raises(UnavailableError):
        uploads.commit(name, _digest(b"told"))
    go_on.set()
    late.join()
    assert list((tmp_path / "blobs" / "local").iterdir()) == []
    info = uploads.commit(name, _digest(b"evil"))
    assert Path(tmp_path, "blobs", "local", info.sha256[:2], info.sha256).read_bytes() == b"evil"


def test_nobody_opens_a_file_that_becomes_a_blob(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = _open(tmp_path)
    name = _written(uploads, b"told")
    refused: list[str] = []
    real_rename = Path.rename

    def write() -> None:
        try:
            with uploads.open(name, offset=0) as second:
                second.append(b"evil")
        except (NotFoundError, UnavailableError) as error:
            refused.append(type(error).__name__)

    def rename_beside_a_rival(self: Path, target: Path) -> Path:
        write()
        moved = real_rename(self, target)
        write()
        return moved

    monkeypatch.setattr(Path, "rename", rename_beside_a_rival)
    info = uploads.commit(name, _digest(b"told"))
    write()
    assert refused == ["UnavailableError", "UnavailableError", "NotFoundError"]
    blob = tmp_path / "blobs" / "local" / info.sha256[:2] / info.sha256
    assert blob.read_bytes() == b"told"
    assert blob.stat().st_mode & 0o222 == 0


def _written(uploads: FileBlobUploads, data: bytes) -> str:
    name = uploads.begin()
    with uploads.open(name) as writer:
        writer.append(data)
    return name


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_upload_that_the_store_could_not_take_is_still_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = _open(tmp_path)
    name = _written(uploads, b"told")

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", refuse)
        with pytest.raises(UnavailableError):
            uploads.commit(name, _digest(b"told"))
    assert (tmp_path / "blobs" / "uploads" / name).stat().st_mode & 0o200
    assert uploads.commit(name, _digest(b"told")).size == 4


_WRITE_AND_DIE = """
import os, sys
from pathlib import Path
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.uploads import FileBlobUploads
blobs = Path(sys.argv[1]) / "blobs"
uploads = FileBlobUploads(blobs / "uploads", FileBlobStore(blobs, cached_bytes_max=1 << 30))
name = uploads.begin()
with uploads.open(name) as writer:
    for _ in range(4):
        writer.append(os.urandom(100_000))
        writer.sync()
        print(name, writer.offset, flush=True)
    writer.append(b"never told")
    sys.stdin.read()
"""


def test_killed_process_loses_nothing_that_was_told(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_AND_DIE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().split() for _ in range(4)]
        process.send_signal(signal.SIGKILL)
    name, offset = told[-1]
    data = (tmp_path / "blobs" / "uploads" / name).read_bytes()[: int(offset)]
    assert len(data) == 400_000
    uploads = _open(tmp_path)
    with uploads.open(name, offset=int(offset)) as writer:
        writer.append(b"!")
    uploads.commit(name, f"sha256:{hashlib.sha256(data + b'!').hexdigest()}")


_WRITE_WITH_LITTLE_ROOM = """
import hashlib, resource, sys
from pathlib import Path
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.store.uploads import FileBlobUploads
blobs = Path(sys.argv[1]) / "blobs"
uploads = FileBlobUploads(blobs / "uploads", FileBlobStore(blobs, cached_bytes_max=1 << 30))
name = uploads.begin()
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
with uploads.open(name) as writer:
    writer.append(bytes(40_000))
    for _ in range(2):
        try:
            writer.append(bytes(20_000))
        except UnavailableError as error:
            print(writer.offset, error)
digest = hashlib.sha256(bytes(40_000)).hexdigest()
print(uploads.commit(name, f"sha256:{digest}").size)
"""


def test_full_disk_is_told_with_the_path_and_what_came_before_stays(tmp_path: Path) -> None:
    # A file size limit stands for the full disk: the same calls fail, with EFBIG for ENOSPC.
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_WITH_LITTLE_ROOM, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, size = done.stdout.splitlines()
    assert first == second
    assert first.startswith(f"40000 cannot write {tmp_path}/blobs/uploads/")
    assert size == "40000"


def test_bytes_are_durable_before_a_client_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = _open(tmp_path)
    name = uploads.begin()
    synced: list[str] = []
    data_sync, sync = os.fdatasync, os.fsync

    def noted(call: str, descriptor: int) -> None:
        synced.append(f"{call} {Path(f'/proc/self/fd/{descriptor}').resolve().name}")
        (data_sync if call == "fdatasync" else sync)(descriptor)

    monkeypatch.setattr(os, "fdatasync", lambda descriptor: noted("fdatasync", descriptor))
    monkeypatch.setattr(os, "fsync", lambda descriptor: noted("fsync", descriptor))
    for expected in ([f"fdatasync {name}", "fsync uploads"], [f"fdatasync {name}"]):
        with uploads.open(name) as writer:
            writer.append(b"bytes")
            writer.sync()
        assert synced == expected
        synced.clear()
    sha256 = hashlib.sha256(b"bytesbytes").hexdigest()
    uploads.commit(name, f"sha256:{sha256}")
    assert synced == [f"fsync {name}", f"fsync {sha256[:2]}"]
