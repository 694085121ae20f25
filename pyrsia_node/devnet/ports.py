"""Ports for the nodes of a development network: free now, and still free at a restart."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pyrsia_node.model.errors import UnavailableError

LOOPBACK: Final = "127.0.0.1"

_FIRST: Final = 20_000
_EPHEMERAL_FILE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_EPHEMERAL_FIRST_DEFAULT: Final = 32_768


def free_ports(count: int, *, base: int | None = None) -> list[int]:
    """Return ``count`` ports on which nobody listens on loopback.

    Without ``base`` they lie below the range from which the system gives ports to outgoing
    connections: a port from that range could be taken while a node restarts.

    Args:
        count: how many.
        base: the first port; the others follow it. None looks for free ones.

    Raises:
        UnavailableError: not enough are free, or one from ``base`` on is taken.
    """
    if base is not None:
        wanted = [*range(base, base + count)]
        taken = [port for port in wanted if not is_free(port)]
        if taken:
            raise UnavailableError(f"port {taken[0]} is taken; choose another --base-port")
        return wanted
    found = [port for _, port in zip(range(count), _candidates(), strict=False)]
    if len(found) < count:
        raise UnavailableError(f"only {len(found)} of {count} ports are free")
    return found


def is_free(port: int) -> bool:
    """Tell whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _candidates() -> Iterator[int]:
    """Yield free ports; networks that start at the same time begin at different places."""
    end = _ephemeral_first()
    span = end - _FIRST
    start = (os.getpid() * 131) % span
    for step in range(span):
        port = _FIRST + (start + step) % span
        if is_free(port):
            yield port


def _ephemeral_first() -> int:
    try:
        first = int(_EPHEMERAL_FILE.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return _EPHEMERAL_FIRST_DEFAULT
    return first if first > _FIRST + 1000 else _EPHEMERAL_FIRST_DEFAULT
