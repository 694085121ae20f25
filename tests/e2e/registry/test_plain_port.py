"""What clients find at the plain port before they ask for anything."""

from __future__ import annotations

import socket
import ssl

import pytest

from tests.fakes.image_node import ImageNode

pytestmark = pytest.mark.xdist_group("registry")


def test_a_tls_hello_on_the_plain_port_is_answered_in_http(node: ImageNode) -> None:
    """Engines try TLS first and take such an answer for the sign that there is none."""
    host, _, port = node.host.rpartition(":")
    hello = ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    with socket.create_connection((host, int(port)), 10) as opened:
        opened.sendall(hello.read())
        answer = b""
        while data := opened.recv(4096):
            answer += data
    assert answer.startswith(b"HTTP/1.1 400 ")
