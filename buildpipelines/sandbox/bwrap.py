"""The bubblewrap command line: what a build can see of the machine. Pure.

Only ``/usr`` is visible, read-only, without the machine's own additions; everything writable is a
sized tmpfs; there is no network but one socket; the user inside owns nothing outside. Why each
option stands here: docs/design/builds.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from buildpipelines.sandbox.limits import MIB, SandboxLimits

INNER_UID: Final = 1000
GUEST_PATH: Final = "/run/pyrsia/guest.py"
PROXY_SOCKET_PATH: Final = "/run/pyrsia/proxy.sock"
PYTHON: Final = "/usr/bin/python3"
PACKAGE_PATH: Final = "/run/pyrsia/buildpipelines"
IMAGE_START: Final = (
    "import sys; sys.path.insert(0, '/run/pyrsia');"
    " from buildpipelines.sandbox.image_guest import main; main()"
)
"""How the guest of image builds starts: it is two modules of this package, copied in as text."""

ETC_FILES: Final[Mapping[str, bytes]] = {
    "/etc/passwd": b"build:x:1000:1000:build:/build/home:/bin/sh\n",
    "/etc/group": b"build:x:1000:\n",
    "/etc/hosts": b"127.0.0.1 localhost\n",
}
"""What libraries look up at a start; the machine's own /etc is not visible."""

IMAGE_ETC_FILES: Final[Mapping[str, bytes]] = {
    "/etc/passwd": b"root:x:0:0:root:/build/home:/bin/sh\n",
    "/etc/group": b"root:x:0:\n",
    "/etc/hosts": b"127.0.0.1 localhost\n",
}
"""The same for image builds, which run as root of their namespace."""

MASKED: Final = ("/usr/local", "/usr/lib/python3/dist-packages")
"""Folders of /usr that differ from machine to machine and are no part of a toolchain."""

MAVEN_START: Final = (
    "import sys; sys.path.insert(0, '/run/pyrsia');"
    " from buildpipelines.sandbox.maven_guest import main; main()"
)
"""How the guest of Maven builds starts, likewise."""

MAVEN_EMPTIED: Final = (
    "/usr/bin",
    "/usr/lib/gcc",
    "/usr/lib/jvm",
    "/usr/libexec",
    "/usr/share/java",
    "/usr/share/maven",
    "/usr/share/maven-repo",
)
"""Folders of /usr that a Maven build sees nothing of but what is bound into them one by one."""


@dataclass(frozen=True, slots=True)
class Mounts:
    """Where the sandbox's parts come from. ``data`` maps paths inside to open descriptors."""

    proxy_socket: str
    data: Mapping[str, int]
    masked: Sequence[str]
    has_alternatives: bool
    seccomp_fd: int | None
    emptied: Sequence[str] = ()
    """For Maven builds: those of :data:`MAVEN_EMPTIED` that this machine has."""


def command(mounts: Mounts, limits: SandboxLimits, *, uid: int | None) -> list[str]:
    """Return the argument list that starts the guest of a package build.

    Args:
        mounts: What to bind.
        limits: Sizes of the writable file systems.
        uid: The unprivileged user to become first; None where the caller already is one.
    """
    arguments = become(uid)
    arguments += ["/usr/bin/bwrap", "--unshare-all", "--unshare-user", "--disable-userns"]
    arguments += ["--cap-drop", "ALL"]
    arguments += ["--uid", str(INNER_UID), "--gid", str(INNER_UID)]
    arguments += _file_systems(mounts, limits, more=())
    return [*arguments, "--chdir", "/build", "--", PYTHON, "-I", "-S", "-B", GUEST_PATH]


def image_command(
    mounts: Mounts, limits: SandboxLimits, *, uid: int | None, ids: Sequence[str]
) -> list[str]:
    """Return the argument list that starts the guest of an image build.

    Buildah inside is root of a user namespace over ids of nobody, with the capabilities that
    unpacking layers takes; steps of a Dockerfile run without any (``image_guest``).

    Args:
        mounts: What to bind.
        limits: Sizes of the writable file systems.
        uid: The unprivileged user to become first; None where the caller already is one.
        ids: How a command line begins that runs as root of the namespace (``ids``).
    """
    arguments = [*become(uid), *ids, "/usr/bin/bwrap"]
    for namespace in ("pid", "net", "ipc", "uts", "cgroup"):
        arguments += [f"--unshare-{namespace}"]
    arguments += ["--cap-add", "ALL"]
    # Buildah binds /sys into what it runs, and asks for a folder of temporary files.
    arguments += _file_systems(mounts, limits, more=("--dir", "/sys", "--dir", "/var/tmp"))  # noqa: S108 - inside
    return [*arguments, "--chdir", "/build", "--", PYTHON, "-I", "-S", "-B", "-c", IMAGE_START]


def maven_command(
    mounts: Mounts, limits: SandboxLimits, *, uid: int | None, binds: Mapping[str, str]
) -> list[str]:
    """Return the argument list that starts the guest of a Maven build.

    It sees one JDK, one Maven and a fixed list of programs: what else a machine has installed
    cannot change a build, so it need not be the same on all machines either.

    Args:
        mounts: What to bind.
        limits: Sizes of the writable file systems.
        uid: The unprivileged user to become first; None where the caller already is one.
        binds: Paths inside, below :data:`MAVEN_EMPTIED` or /etc, with the host's (no links).
    """
    arguments = [*become(uid), "/usr/bin/bwrap"]
    arguments += ["--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    arguments += ["--uid", str(INNER_UID), "--gid", str(INNER_UID)]
    more: list[str] = []
    for folder in mounts.emptied:
        more += ["--size", "65536", "--tmpfs", folder]
    for inside, path in binds.items():
        more += ["--ro-bind", path, inside]
    for folder in mounts.emptied:
        more += ["--remount-ro", folder]
    arguments += _file_systems(mounts, limits, more=more)
    return [*arguments, "--chdir", "/build", "--", PYTHON, "-I", "-S", "-B", "-c", MAVEN_START]


def become(uid: int | None) -> list[str]:
    """Return how a command line begins that runs as ``uid``; nothing of it where that is None."""
    if uid is None:
        return []
    # Before bwrap: as root it would keep root's eyes on every bound file.
    change = ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    return [*change, "--inh-caps=-all", "--no-new-privs", "--"]


def _file_systems(mounts: Mounts, limits: SandboxLimits, *, more: Sequence[str]) -> list[str]:
    """Return what every sandbox shares: what it sees, and that it is alone."""
    # The guest is the first process of its pid namespace: nothing in there can signal it.
    arguments = ["--clearenv", "--new-session", "--die-with-parent", "--as-pid-1"]
    arguments += ["--hostname", "build", "--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib64"):
        arguments += ["--symlink", f"usr/{name}", f"/{name}"]
    for folder in mounts.masked:
        arguments += ["--size", "4096", "--tmpfs", folder, "--remount-ro", folder]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    arguments += ["--size", str(64 * MIB), "--tmpfs", "/dev/shm"]  # noqa: S108 - inside
    arguments += ["--size", str(limits.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108 - inside
    arguments += ["--size", str(limits.build_bytes), "--tmpfs", "/build", *more]
    if mounts.has_alternatives:
        arguments += ["--ro-bind", "/etc/alternatives", "/etc/alternatives"]
    for path, descriptor in mounts.data.items():
        arguments += ["--ro-bind-data", str(descriptor), path]
    arguments += ["--ro-bind", mounts.proxy_socket, PROXY_SOCKET_PATH]
    # Last, so that mount points could still be made: the root and /dev are unsized tmpfs.
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/"]
    if mounts.seccomp_fd is not None:
        arguments += ["--seccomp", str(mounts.seccomp_fd)]
    return arguments
