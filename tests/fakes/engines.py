"""Private container engines and clients: Docker, containerd, Podman, Buildah, Skopeo.

Each has its own folders, sockets and configuration, so that nothing of the machine's is read or
changed, and is ended by its process id. They need root, as builds and the chaos tests do. Sockets
lie below a short temporary path, because a unix socket's address has 107 characters.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_START_SECONDS_MAX = 30
_SEARCH_PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
"""No /usr/local/bin: what is tested is Debian's clients, not what lies in front of them."""


@dataclass(frozen=True)
class Finished:
    """What a client's command came to."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    def ok(self) -> Finished:
        """Return it, or fail with what the client said."""
        assert self.code == 0, f"{' '.join(self.words)}\n{self.out}\n{self.err}"
        return self


def run(
    words: tuple[str | Path, ...], environment: Mapping[str, str], timeout_s: float = 60
) -> Finished:
    """Run a client's command with this environment and nothing of ours."""
    text = tuple(map(str, words))
    done = subprocess.run(
        text,
        env={"PATH": _SEARCH_PATH, **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return Finished(text, done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class DockerEngine:
    """A running ``dockerd``; ``run`` is the ``docker`` command at it."""

    folder: Path
    pid: int

    def run(self, *words: str | Path, timeout_s: float = 60) -> Finished:
        """Run ``docker WORDS``."""
        environment = {
            "DOCKER_HOST": f"unix://{self.folder}/docker.sock",
            "DOCKER_CONFIG": str(self.folder / "client"),
            "HOME": str(self.folder),
            "DOCKER_BUILDKIT": "0",
        }
        return run(("docker", *words), environment, timeout_s)

    def reload(self) -> None:
        """Have it read its configuration file again, as ``systemctl reload docker`` does."""
        os.kill(self.pid, signal.SIGHUP)

    @property
    def log(self) -> str:
        """Return what it wrote so far."""
        return (self.folder / "log").read_text()


def docker_settings(folder: Path) -> dict[str, object]:
    """Return the settings of an engine that keeps to a folder and leaves the network alone."""
    return {
        "data-root": f"{folder}/data",
        "exec-root": f"{folder}/exec",
        "pidfile": f"{folder}/docker.pid",
        "hosts": [f"unix://{folder}/docker.sock"],
        "storage-driver": "overlay2",
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
        "ip-masq": False,
        "debug": True,
    }


@contextmanager
def docker_engine(
    *,
    mirrors: tuple[str, ...] = (),
    configure: Callable[[Path], None] = lambda _: None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[DockerEngine]:
    """Run a Docker engine.

    Args:
        mirrors: ``registry-mirrors`` of its configuration.
        configure: Called with the path of ``daemon.json`` before the engine starts.
        environment: Of the engine, such as that of ``outside``.
    """
    with _short_folder() as folder:
        settings = docker_settings(folder)
        if mirrors:
            settings["registry-mirrors"] = list(mirrors)
        path = folder / "daemon.json"
        path.write_text(json.dumps(settings, indent=2))
        configure(path)
        words = ("dockerd", "--config-file", path)
        with _daemon(words, folder, folder / "docker.sock", environment) as pid:
            yield DockerEngine(folder, pid)


@dataclass(frozen=True)
class Containerd:
    """A running ``containerd``; ``ctr`` is its command, ``hosts`` its ``certs.d``."""

    folder: Path
    hosts: Path
    environment: Mapping[str, str]

    def ctr(self, *words: str | Path, timeout_s: float = 60) -> Finished:
        """Run ``ctr WORDS``."""
        address = self.folder / "containerd.sock"
        environment = {"HOME": str(self.folder), **self.environment}
        return run(("ctr", "--address", address, *words), environment, timeout_s)

    def pull(self, reference: str, *words: str | Path) -> Finished:
        """Pull an image for this platform by what ``hosts`` says."""
        return self.ctr("images", "pull", "--hosts-dir", self.hosts, *words, reference)


@contextmanager
def containerd(environment: Mapping[str, str] | None = None) -> Iterator[Containerd]:
    """Run a containerd. ``environment`` is that of ``ctr``, which is who asks registries."""
    with _short_folder() as folder:
        path = folder / "config.toml"
        path.write_text(
            f'version = 2\nroot = "{folder}/data"\nstate = "{folder}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{folder}/containerd.sock"\n'
        )
        hosts = folder / "certs.d"
        hosts.mkdir()
        with _daemon(("containerd", "--config", path), folder, folder / "containerd.sock"):
            yield Containerd(folder, hosts, environment or {})


@dataclass(frozen=True)
class Containers:
    """Podman, Buildah and Skopeo with a home, a storage and configuration of their own."""

    folder: Path
    _environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def drop_in(self) -> Path:
        """Return the folder whose files add to ``registries.conf``."""
        return self.folder / ".config" / "containers" / "registries.conf.d"

    def podman(self, *words: str | Path, timeout_s: float = 60) -> Finished:
        """Run ``podman WORDS``."""
        options = ("--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc")
        return self._run("podman", *self._storage, *options, *words, timeout_s=timeout_s)

    def buildah(self, *words: str | Path, timeout_s: float = 60) -> Finished:
        """Run ``buildah WORDS``."""
        return self._run("buildah", *self._storage, *words, timeout_s=timeout_s)

    def skopeo(self, *words: str | Path, timeout_s: float = 60) -> Finished:
        """Run ``skopeo WORDS``."""
        return self._run("skopeo", *words, timeout_s=timeout_s)

    @property
    def _storage(self) -> tuple[str, ...]:
        places = ("--root", f"{self.folder}/storage", "--runroot", f"{self.folder}/run")
        return (*places, "--storage-driver", "overlay")

    def _run(self, *words: str | Path, timeout_s: float) -> Finished:
        return run(words, self._environment, timeout_s)


@contextmanager
def container_tools(environment: Mapping[str, str] | None = None) -> Iterator[Containers]:
    """Give Podman, Buildah and Skopeo a home; nothing runs until a command is run."""
    with _short_folder() as folder:
        configuration = folder / ".config" / "containers"
        (configuration / "registries.conf.d").mkdir(parents=True)
        (configuration / "registries.conf").write_text("")
        (configuration / "policy.json").write_text(
            json.dumps({"default": [{"type": "insecureAcceptAnything"}]})
        )
        # Limits below the hard ones: podman may not raise them everywhere.
        limits = '["nofile=1024:1024", "nproc=1024:1024"]'
        (configuration / "containers.conf").write_text(f"[containers]\ndefault_ulimits={limits}\n")
        own = {
            "HOME": str(folder),
            "CONTAINERS_CONF": str(configuration / "containers.conf"),
            "XDG_RUNTIME_DIR": str(folder / "runtime"),
            "TMPDIR": str(folder / "tmp"),
        }
        for each in ("runtime", "tmp"):
            (folder / each).mkdir(mode=0o700)
        tools = Containers(folder, {**own, **(environment or {})})
        try:
            yield tools
        finally:
            _unmount_below(folder)


@contextmanager
def _short_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pyr"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def _daemon(
    words: tuple[str | Path, ...],
    folder: Path,
    address: Path,
    more: Mapping[str, str] | None = None,
) -> Iterator[int]:
    assert os.geteuid() == 0, "container engines run as root only; so do the tests that need them"
    environment = {"PATH": _SEARCH_PATH, "HOME": str(folder), "TMPDIR": str(folder)} | dict(
        more or {}
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            list(map(str, words)), env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_it_listens(process, address, folder / "log")
        yield process.pid
    finally:
        process.terminate()
        process.wait(30)
        _unmount_below(folder)


def _wait_until_it_listens(process: subprocess.Popen[bytes], address: Path, log: Path) -> None:
    ends_at = time.monotonic() + _START_SECONDS_MAX
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < ends_at, log.read_text()
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(address))
            return
        time.sleep(0.01)


def _unmount_below(folder: Path) -> None:
    """Take away what a killed container left mounted: its folder could not be removed."""
    mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted(mounts, reverse=True):
        if mount.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", mount], check=True)
