"""Linux namespaces without names: each exists as long as somebody is in it or holds it open.

So there is nothing to clean: when the harness ends, even by SIGKILL, the kernel closes its files,
the nodes see their pipe close and end, and namespaces, interfaces and mounts are gone with them.
Only root may make them. Nothing here sends a packet; see ``hub``.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

MTU_BYTES: Final = 16_000
"""Large, so that the hub has few packets to carry."""

_CLONE_NEWNS: Final = 0x0002_0000
_CLONE_NEWNET: Final = 0x4000_0000
_TUNSETIFF: Final = 0x4004_54CA
_IFF_TUN_NO_PI: Final = 0x1001
_DEVICE: Final = "eth0"

_T = TypeVar("_T")
_LIBC = ctypes.CDLL(None, use_errno=True)


class NotPossibleError(Exception):
    """This machine, or this user, cannot run the harness; the text says what is missing."""


def check_possible() -> None:
    """Refuse, in words, where namespaces cannot be made.

    Raises:
        NotPossibleError: not root, or no TUN device.
    """
    if os.geteuid() != 0:
        raise NotPossibleError(
            "network namespaces, mounts and TUN devices need root: run the chaos harness as root"
        )
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise NotPossibleError("/dev/net/tun is missing: the nodes' network is made of it")


def enter_private_mounts() -> None:
    """Make what this process mounts from now on visible to it and its children alone.

    To be called before the first thread is started.
    """
    _check(_LIBC.unshare(_CLONE_NEWNS), "unshare of mounts")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


def mount_small_disk(folder: Path, size_bytes: int) -> None:
    """Mount an empty file system of a limited size."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={size_bytes},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)


class Place:
    """A machine's view of the network: loopback, and one interface that ends in ``packets``."""

    def __init__(self, address: str) -> None:
        """Make a namespace whose interface has ``address`` in a /24 of its own."""
        self.address = address
        self.network, self.packets = _in_thread(_make)
        self._configure("addr", "add", f"{address}/24", "dev", _DEVICE)
        self._configure("link", "set", _DEVICE, "mtu", str(MTU_BYTES), "up")
        self._configure("link", "set", "lo", "up")

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command that starts another one in here, as the same process."""
        return ("nsenter", f"--net=/proc/self/fd/{self.network}", "--")

    def enter(self) -> None:
        """Move the calling thread in here for good; sockets that it makes belong here."""
        _check(_LIBC.setns(self.network, _CLONE_NEWNET), f"setns to {self.address}")

    def close(self) -> None:
        """Forget the namespace; it ends with the last process in it."""
        os.close(self.packets)
        os.close(self.network)

    def _configure(self, *words: str) -> None:
        command = [*self.prefix, "ip", *words]
        subprocess.run(command, pass_fds=(self.network,), check=True)


def _make() -> tuple[int, int]:
    """Leave the machine's network; return descriptors of the new one and of its interface."""
    _check(_LIBC.unshare(_CLONE_NEWNET), "unshare of the network")
    network = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    packets = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(packets, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _IFF_TUN_NO_PI))
    return network, packets


def _in_thread(work: Callable[[], _T]) -> _T:
    """Run ``work`` in a thread that ends with it, so that this one stays where it is."""
    found: list[_T] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    if not found:
        raise NotPossibleError("a network namespace could not be made; see the error above")
    return found[0]


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
