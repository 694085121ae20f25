"""The way out of the machine, closed and watched: a proxy that lets nobody through.

Clients that are given it as their proxy reach loopback directly, and everything else here.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

_LINE_BYTES_MAX = 16 * 1024


@dataclass
class Outside:
    """``asked`` are the hosts that somebody wanted to reach."""

    port: int
    asked: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Return what leads a client here."""
        url = f"http://127.0.0.1:{self.port}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        return dict.fromkeys(names, url) | {"NO_PROXY": "127.0.0.1,localhost"}

    def forget(self) -> None:
        """Forget who was asked for."""
        self.asked.clear()


@contextmanager
def outside() -> Iterator[Outside]:
    """Watch the way out."""
    server = socket.create_server(("127.0.0.1", 0))
    watched = Outside(server.getsockname()[1])
    thread = threading.Thread(target=_serve, args=(server, watched))
    thread.start()
    try:
        yield watched
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


def _serve(server: socket.socket, watched: Outside) -> None:
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client, suppress(OSError):
            client.settimeout(5)
            data = b""
            while b"\r\n\r\n" not in data and len(data) < _LINE_BYTES_MAX:
                more = client.recv(4096)
                if not more:
                    break
                data += more
            words = data.split(b" ", 2)
            if len(words) > 1:
                watched.asked.append(words[1].decode("latin-1"))
            client.sendall(b"HTTP/1.1 403 Closed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
