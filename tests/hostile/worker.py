"""A real build worker in a child process, and a client of its link, for tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from buildpipelines.spec import framing
from buildpipelines.spec.messages import JobStatus, parse_status

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Worker:
    """A running worker."""

    process: subprocess.Popen[bytes]
    link: Path
    work: Path
    _next_id: int = 0

    def connect(self) -> socket.socket:
        """Return a connection."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        client.connect(str(self.link))
        return client

    def call(self, method: str, params: Mapping[str, object]) -> dict[str, object]:
        """Return a result; raises LinkError for an error answer."""
        with self.connect() as client:
            return call(client, method, params)

    def follow(self, job: str, *, seconds: float = 50) -> JobStatus:
        """Wait until a job has ended."""
        deadline = time.monotonic() + seconds
        with self.connect() as client:
            while True:
                status = parse_status(call(client, "job", {"job": job}))
                if status.state in ("done", "failed"):
                    return status
                assert time.monotonic() < deadline, f"job {job} has not ended: {status}"
                time.sleep(0.02)

    def trial(self, name: str, version: str = "1.0", *, seconds: int = 40) -> JobStatus:
        """Run a trial to its end."""
        job = f"trial-{name}-{version.replace('.', '-')}"
        params = {"job": job, "ecosystem": "pypi", "name": name, "version": version}
        self.call("trial", {**params, "seconds_max": seconds})
        return self.follow(job)


class LinkError(Exception):
    """The worker answered with an error."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


def call(client: socket.socket, method: str, params: Mapping[str, object]) -> dict[str, object]:
    """Make one call on an open connection."""
    client.sendall(framing.encode_request(framing.Request(1, method, params)))
    answer = framing.parse_answer(receive(client))
    if isinstance(answer, framing.Failure):
        raise LinkError(answer.kind, answer.message)
    return dict(answer.result)


def receive(client: socket.socket) -> bytes:
    """Return the payload of the next frame."""
    decoder = framing.FrameDecoder()
    while data := client.recv(65536):
        if payloads := decoder.feed(data):
            return payloads[0]
    raise EOFError("the worker closed the connection")


def as_user(uid: int, folder: Path) -> list[str]:
    """Return what root puts before a command to run it as another user, who owns ``folder``.

    That user may not be able to enter the folders above the checkout and its Python, so both are
    bound into ``folder``, as ``program`` and ``venv``, for this command alone.
    """
    os.chown(folder, uid, uid)
    program, venv = folder / "program", folder / "venv"
    program.mkdir()
    venv.mkdir()
    bind = 'mount --bind "$1" "$2"; mount --bind "$3" "$4"; shift 4; exec "$@"'
    return [
        *("/usr/bin/unshare", "--mount", "/bin/sh", "-ec", bind, "sh"),
        *(str(ROOT), str(program), sys.prefix, str(venv)),
        *("/usr/bin/setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"),
    ]


@contextlib.contextmanager
def running_worker(
    folder: Path,
    index_url: str,
    *options: str,
    uid: int | None = None,
    has_ids: bool = False,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Worker]:
    """Start a worker as a child process, as user ``uid`` if that is given; wait for it.

    With ``has_ids`` that user gets a range of user ids from root, as a supervisor gives it.
    ``variables`` are added to its environment.
    """
    path, work = folder / "build.sock", folder / "work"
    path.unlink(missing_ok=True)  # of a killed worker: waiting for it would end too early
    read_end, write_end = os.pipe()
    prefix, python, root = [], sys.executable, ROOT
    if uid is not None:
        prefix = as_user(uid, folder)
        if has_ids:
            program = str(ROOT / "buildpipelines/sandbox/ids.py")
            prefix = [sys.executable, "-I", "-S", program, "--uid", str(uid), "--", *prefix]
        python, root = str(folder / "venv/bin/python"), folder / "program"
    command = [*prefix, python, "-m", "buildpipelines.worker", "--socket", str(path)]
    command += ["--work", str(work), "--index-url", index_url, *options]
    environment = {"PATH": "/usr/bin:/bin", "PYRSIA_PARENT_FD": str(read_end)}
    environment |= variables or {}
    process = subprocess.Popen(
        command, cwd=folder, env=environment | {"PYTHONPATH": str(root)}, pass_fds=[read_end]
    )
    os.close(read_end)
    try:
        deadline = time.monotonic() + 20
        while not path.exists():
            assert process.poll() is None, "the worker ended"
            assert time.monotonic() < deadline, "the worker does not listen"
            time.sleep(0.02)
        yield Worker(process, path, work)
    finally:
        os.close(write_end)  # the parent is gone: the worker must end by itself
        assert process.wait(20) in (0, -signal.SIGKILL)  # the latter only where a test sent it
