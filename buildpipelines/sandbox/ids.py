"""A user namespace with 65,536 user ids, for builds of images: their files belong to many users.

A namespace that nobody privileged helped to make has a single id, and a layer whose files have
owners cannot be unpacked in it. So somebody who may (root: the node's supervisor, or a worker
started as root) makes one before, over ids that belong to no account. It is owned by the build
user, who can enter it and is root *inside*, over nothing but those ids; outside it gives no right
at all. It lives as long as a descriptor of it is open.

``python -m buildpipelines.sandbox.ids --uid N [--first M] -- COMMAND …`` runs a command, as it is,
with such a descriptor and its number in ``PYRSIA_BUILD_IDS``. Reference: user_namespaces(7).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

VARIABLE: Final = "PYRSIA_BUILD_IDS"
FIRST_ID: Final = 0x7000_0000
"""The first id outside; far above those of accounts and of what ``/etc/subuid`` gives to them."""

COUNT: Final = 65_536
_PYTHON: Final = "/usr/bin/python3"
_SETPRIV: Final = "/usr/bin/setpriv"
_START_SECONDS: Final = 10

_HOLDER: Final = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000):
    raise OSError(ctypes.get_errno(), "unshare")
os.write(1, b"u")
os.read(0, 1)
"""
"""What makes the namespace and lives until it is held by a descriptor: CLONE_NEWUSER."""

ENTER: Final = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
descriptor = int(sys.argv[1])
os.read(0, 1)
if libc.setns(descriptor, 0x10000000):
    raise OSError(ctypes.get_errno(), "setns")
os.close(descriptor)
os.setgroups([])
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""What enters it and becomes its root, once it is told to go: until then it is the build user's
own process, which he may put under bounds. Ids first: the sandbox's tmpfs must belong to one."""

GO: Final = b"\n"
"""What it waits for on its standard input."""


def enter_command(descriptor: int) -> list[str]:
    """Return how a command line begins whose rest runs as root of the namespace."""
    return [_PYTHON, "-I", "-S", "-c", ENTER, str(descriptor)]


@contextlib.contextmanager
def opened(uid: int, *, first: int = FIRST_ID) -> Iterator[int]:
    """Yield a descriptor of a new namespace that is owned by ``uid``. Only root can do this.

    Args:
        uid: The build user, not 0.
        first: The first of :data:`COUNT` ids outside.

    Raises:
        OSError: the kernel does not let us.
    """
    command = [_SETPRIV, f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all"]
    holder = subprocess.Popen(
        [*command, "--no-new-privs", "--", _PYTHON, "-I", "-S", "-c", _HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        try:
            if holder.stdout.read(1) != b"u":
                raise PermissionError("no user namespace can be made here")
            for name in ("gid_map", "uid_map"):
                Path(f"/proc/{holder.pid}/{name}").write_text(f"0 {first} {COUNT}\n")
            descriptor = os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            holder.kill()
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def inherited() -> int | None:
    """Return the descriptor that whoever started this process opened for it, or None."""
    text = os.environ.get(VARIABLE, "")
    if not text.isdecimal():
        return None
    descriptor = int(text)
    try:
        # Ours alone from here on: each sandbox is handed it by name.
        fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        is_namespace = str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("user:[")
    except OSError:
        return None
    return descriptor if is_namespace else None


def main() -> None:
    """Open a namespace and become the command."""
    parser = argparse.ArgumentParser(prog="python -m buildpipelines.sandbox.ids")
    parser.add_argument("--uid", type=int, required=True, help="the build user")
    parser.add_argument("--first", type=int, default=FIRST_ID, help="the first id outside")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    environment = dict(os.environ)
    with contextlib.ExitStack() as stack:
        # Without the ids the command runs all the same: it builds what needs none.
        with contextlib.suppress(OSError):
            descriptor = stack.enter_context(opened(arguments.uid, first=arguments.first))
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - the standard library's way
            environment[VARIABLE] = str(descriptor)
        os.execvpe(arguments.command[0], arguments.command, environment)  # noqa: S606 - no shell
    sys.exit(127)


if __name__ == "__main__":
    main()
