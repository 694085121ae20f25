"""The first process of a sandbox: unpacks the source, installs the back end, calls it.

This file is copied into the sandbox as text and run by the toolchain's own Python, so it uses the
standard library alone. It starts before anything hostile, sets the limits that all later
processes inherit, and forwards 127.0.0.1 to the one socket that leads outside. It decides
nothing about trust: whatever it reports could be forged by the build it runs, and the host treats
it so. Its digest is part of the pipeline's digest. Hooks: PEP 517.

stdin: u32 length, job as JSON, then the source as a tar. stdout: frames of u32 length and JSON
(``{"event": "ready" | "stage" | "failed" | "done", …}``), after "done" the files' bytes.
stderr: the log.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

BUILD = Path("/build")
SOURCE = BUILD / "src"
ENV = BUILD / "env"
OUT = BUILD / "out"
ANSWER = BUILD / "answer.json"
PROXY_SOCKET = "/run/pyrsia/proxy.sock"
PROXY_PORT = 8080
FREE_BYTES_MIN = 1024 * 1024
CHUNK_BYTES = 256 * 1024


class StepError(Exception):
    """A step of the build ended badly; the log says why."""

    def __init__(self, step: str, status: int) -> None:
        """Remember which step, and its exit status."""
        super().__init__(f"{step}: exit status {status}")
        self.step = step
        self.status = status


def send(**event: Any) -> None:
    """Write one event to the host."""
    data = json.dumps(event).encode()
    sys.stdout.buffer.write(len(data).to_bytes(4, "big") + data)
    sys.stdout.buffer.flush()


def main() -> None:
    """Make a wheel."""
    run_job(build, lambda: sorted(OUT.glob("*.whl")))


def run_job(
    build_it: Callable[[dict[str, Any], BinaryIO], None], outputs: Callable[[], list[Path]]
) -> None:
    """Run one job from stdin to stdout; every kind of build lives this life."""
    send(event="ready")
    stdin = sys.stdin.buffer
    job = json.loads(stdin.read(int.from_bytes(stdin.read(4), "big")))
    # A little earlier: file times come from a coarser clock.
    job["started"] = time.time() - 2  # noqa: TID251 - the sandbox's process has no ports
    set_limits(job["limits"])
    os.umask(job["umask"])
    threading.Thread(target=serve_forwarder, daemon=True).start()
    try:
        build_it(job, stdin)
    except StepError as error:
        send(event="failed", step=error.step, status=error.status, disk_full=is_disk_full())
        return
    except OSError as error:
        sys.stderr.write(f"guest: {error}\n")
        send(event="failed", step="guest", status=1, disk_full=is_disk_full())
        return
    send_files(outputs())


def set_limits(limits: dict[str, int]) -> None:
    """Set hard limits on this process and so on every later one; 0 means none."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name, value in limits.items():
        if value:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def build(job: dict[str, Any], stdin: BinaryIO) -> None:
    """Unpack, install what the back end needs, and make the wheel."""
    send(event="stage", stage="unpack")
    unpack(stdin, job["umask"])
    OUT.mkdir()
    (BUILD / "home").mkdir()
    (BUILD / "constraints.txt").write_text("".join(f"{line}\n" for line in job["constraints"]))
    source = SOURCE / job["top"]
    environment = child_environment(job)
    run("venv", [sys.executable, "-I", "-m", "venv", "--without-pip", str(ENV)], environment)
    send(event="stage", stage="back end")
    install(job, job["requires"], environment)
    more = call_hook("get_requires_for_build_wheel", job, source, environment)
    install(job, [line for line in more or () if line not in job["requires"]], environment)
    send(event="stage", stage="wheel")
    call_hook("build_wheel", job, source, environment)


def unpack(stdin: BinaryIO, umask: int) -> None:
    """Unpack the host's tar, which it wrote itself: plain entries below one folder."""

    def entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for info in tar:
            info.mode = (0o777 if info.mode & 0o100 else 0o666) & ~umask
            yield info

    with tarfile.open(fileobj=stdin, mode="r|") as tar:
        # Newer Pythons want to be told; ours has been checked entry by entry on the outside.
        trusted = {"filter": "fully_trusted"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(SOURCE, members=entries(tar), **trusted)  # type: ignore[arg-type]  # noqa: S202


def child_environment(job: dict[str, Any]) -> dict[str, str]:
    """Return the whole environment of the build; nothing of the host's is in it."""
    proxy = f"http://127.0.0.1:{PROXY_PORT}"
    environment = {
        "PATH": f"{ENV}/bin:/usr/bin:/bin",
        "HOME": f"{BUILD}/home",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": f"{proxy}/simple/",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_NO_CACHE_DIR": "1",
        # What goes elsewhere than our index reaches the host's proxy, which refuses and notes it.
        "HTTP_PROXY": proxy,
        "HTTPS_PROXY": proxy,
        "http_proxy": proxy,
        "https_proxy": proxy,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
    if job["epoch"] is not None:
        environment["SOURCE_DATE_EPOCH"] = str(job["epoch"])
    return environment


def run(step: str, command: list[str], environment: dict[str, str], cwd: Path = BUILD) -> None:
    """Run one step with its output in the log; raises StepError."""
    status = subprocess.run(
        command,
        env=environment,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
        check=False,
    ).returncode
    if status:
        raise StepError(step, status)


def install(job: dict[str, Any], requires: list[str], environment: dict[str, str]) -> None:
    """Install build requirements into the build's own environment with the toolchain's pip."""
    if not requires:
        return
    options = ["--no-compile", "--no-warn-script-location", "--prefer-binary", "--quiet"]
    constraint = ["--constraint", str(BUILD / "constraints.txt")]
    # pip runs from an archive, as the documentation of zipped Python programs describes.
    pip = [str(ENV / "bin/python"), "-B", f"{job['pip']}/pip", "install"]
    run("requires", [*pip, *options, *constraint, "--", *requires], environment)


def call_hook(name: str, job: dict[str, Any], source: Path, environment: dict[str, str]) -> Any:
    """Call one PEP 517 hook in a process of its own and return its answer."""
    ANSWER.unlink(missing_ok=True)
    call = {key: job[key] for key in ("backend", "backend_path", "clock", "started")}
    call["hook"] = name
    python = str(ENV / "bin/python")
    run(name, [python, "-B", __file__, "hook", json.dumps(call)], environment, source)
    return json.loads(ANSWER.read_text())


def hook_main(call: dict[str, Any]) -> None:
    """Import the back end and call the hook (PEP 517: the working directory is the source)."""
    set_archive_clock(now=call["clock"], since=call["started"])
    source = Path.cwd()
    sys.path[0:1] = [str(source / step) for step in call["backend_path"]]
    module, _, attributes = call["backend"].partition(":")
    backend: Any = importlib.import_module(module)
    for attribute in filter(None, attributes.split(".")):
        backend = getattr(backend, attribute)
    if call["hook"] == "build_wheel":
        answer = backend.build_wheel(str(OUT), {})
    else:
        hook = getattr(backend, call["hook"], None)
        answer = hook({}) if hook else []
    ANSWER.write_text(json.dumps(answer))


def set_archive_clock(*, now: int, since: float) -> None:
    """Make zip entries that would carry a time after ``since`` carry ``now``.

    What the build writes has the time of the build, which no two builds share. Sources keep
    theirs: they are older than the build.
    """
    began, told = time.gmtime(since)[:6], time.gmtime(now)[:6]
    original = zipfile.ZipInfo.__init__

    def init(self: Any, filename: str = "NoName", date_time: Any = (1980, 1, 1, 0, 0, 0)) -> None:
        original(self, filename, told if tuple(date_time) >= began else date_time)

    zipfile.ZipInfo.__init__ = init  # type: ignore[method-assign]  # the point of it


def is_disk_full() -> bool:
    """Tell whether one of the sandbox's own file systems has run out of space."""
    return any(
        (found := os.statvfs(path)).f_bavail * found.f_frsize < FREE_BYTES_MIN
        for path in ("/build", "/tmp")  # noqa: S108 - the sandbox's own
    )


def send_files(paths: list[Path]) -> None:
    """Send what was built: names and sizes, then the bytes."""
    # Only plain files, opened without following links: the build may have left anything there.
    files = [os.open(path, os.O_RDONLY | os.O_NOFOLLOW) for path in paths]
    sizes = [os.fstat(fd).st_size for fd in files]
    listed = [{"name": p.name, "size": n} for p, n in zip(paths, sizes, strict=True)]
    send(event="done", files=listed)
    for fd, size in zip(files, sizes, strict=True):
        left = size
        while left and (data := os.read(fd, min(left, CHUNK_BYTES))):
            sys.stdout.buffer.write(data)
            left -= len(data)
    sys.stdout.buffer.flush()


def serve_forwarder() -> None:
    """Forward every connection on the loopback port to the host's proxy socket."""
    listener = socket.create_server(("127.0.0.1", PROXY_PORT), backlog=64)
    while True:
        client, _ = listener.accept()
        try:
            outside = socket.socket(socket.AF_UNIX)
            outside.connect(PROXY_SOCKET)
        except OSError:
            client.close()
            continue
        for pair in ((client, outside), (outside, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy one direction until it ends, then tell the other side so."""
    try:
        while data := source.recv(CHUNK_BYTES):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        source.close()
        target.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["hook"]:
        hook_main(json.loads(sys.argv[2]))
    else:
        main()
