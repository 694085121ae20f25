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

ETC_FILES: Final[Mapping[str, bytes]] = {
    "/etc/passwd": b"build:x:1000:1000:build:/build/home:/bin/sh\n",
    "/etc/group": b"build:x:1000:\n",
    "/etc/hosts": b"127.0.0.1 localhost\n",
}
"""What libraries look up at a start; the machine's own /etc is not visible."""

MASKED: Final = ("/usr/local", "/usr/lib/python3/dist-packages")
"""Folders of /usr that differ from machine to machine and are no part of a toolchain."""


@dataclass(frozen=True, slots=True)
class Mounts:
    """Where the sandbox's parts come from. ``data`` maps paths inside to open descriptors."""

    proxy_socket: str
    data: Mapping[str, int]
    masked: Sequence[str]
    has_alternatives: bool
    seccomp_fd: int | None


def command(mounts: Mounts, limits: SandboxLimits, *, uid: int | None) -> list[str]:
    """Return the argument list that starts the guest.

    Args:
        mounts: What to bind.
        limits: Sizes of the writable file systems.
        uid: The unprivileged user to become first; None where the caller already is one.
    """
    arguments: list[str] = []
    if uid is not None:
        # Before bwrap: as root it would keep root's eyes on every bound file.
        arguments += ["/usr/bin/setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
        arguments += ["--inh-caps=-all", "--no-new-privs", "--"]
    arguments += ["/usr/bin/bwrap", "--unshare-all", "--unshare-user", "--disable-userns"]
    arguments += ["--cap-drop", "ALL", "--clearenv", "--new-session", "--die-with-parent"]
    # The guest is the first process of its pid namespace: nothing in there can signal it.
    arguments += ["--as-pid-1"]
    arguments += ["--hostname", "build", "--uid", str(INNER_UID), "--gid", str(INNER_UID)]
    arguments += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib64"):
        arguments += ["--symlink", f"usr/{name}", f"/{name}"]
    for folder in mounts.masked:
        arguments += ["--size", "4096", "--tmpfs", folder, "--remount-ro", folder]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    arguments += ["--size", str(64 * MIB), "--tmpfs", "/dev/shm"]  # noqa: S108 - inside
    arguments += ["--size", str(limits.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108 - inside
    arguments += ["--size", str(limits.build_bytes), "--tmpfs", "/build"]
    if mounts.has_alternatives:
        arguments += ["--ro-bind", "/etc/alternatives", "/etc/alternatives"]
    for path, descriptor in mounts.data.items():
        arguments += ["--ro-bind-data", str(descriptor), path]
    arguments += ["--ro-bind", mounts.proxy_socket, PROXY_SOCKET_PATH]
    # Last, so that mount points could still be made: the root and /dev are unsized tmpfs.
    arguments += ["--remount-ro", "/dev", "--remount-ro", "/"]
    if mounts.seccomp_fd is not None:
        arguments += ["--seccomp", str(mounts.seccomp_fd)]
    return [*arguments, "--chdir", "/build", "--", PYTHON, "-I", "-S", "-B", GUEST_PATH]
