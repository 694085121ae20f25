"""Ports of a development network are free now and stay free for a restart."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pyrsia_node.devnet.ports import free_ports, is_free
from pyrsia_node.model.errors import UnavailableError


def test_ports_are_different_free_and_never_given_to_outgoing_connections() -> None:
    ports = free_ports(12)
    assert len(set(ports)) == 12
    assert all(is_free(port) for port in ports)
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert first < 21_000 or max(ports) < first


def test_base_port_is_taken_as_given_or_refused_by_number() -> None:
    base = free_ports(1)[0]
    assert free_ports(1, base=base) == [base]
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", base))
        listening.listen()
        with pytest.raises(UnavailableError, match=f"port {base} is taken"):
            free_ports(1, base=base)
