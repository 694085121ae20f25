"""A front that stands between a client and a server and spoils single answers.

One request a connection: what is behind it is told to close. Bytes that are no HTTP, such as a TLS
hello, go through as they are. It keeps the head of every request, header lines in their order.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_HEAD_BYTES_MAX = 64 * 1024
_TLS_HANDSHAKE = 0x16


@dataclass(frozen=True)
class Request:
    """The head of a request."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """Return the values of a header, one a line."""
        return [value for key, value in self.headers if key.lower() == name]


@dataclass(frozen=True)
class Fault:
    """What happens to a request that fits.

    ``status`` is answered in place of the server; ``resets`` breaks the connection before any
    answer; ``cut_after`` lets so many bytes of the body through; ``corrupts`` changes its bytes.
    """

    method: str
    target: re.Pattern[str]
    status: int = 0
    resets: bool = False
    cut_after: int | None = None
    corrupts: bool = False


@dataclass
class FaultyFront:
    """A listening front."""

    port: int
    asked: list[Request] = field(default_factory=list)
    hellos: int = 0
    _faults: list[Fault] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self) -> str:
        """Return ``HOST:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Return the address."""
        return f"http://{self.host}"

    def spoil(
        self,
        target: str,
        *,
        method: str = "GET",
        status: int = 0,
        resets: bool = False,
        cut_after: int | None = None,
        corrupts: bool = False,
        times: int = 1,
    ) -> None:
        """Spoil the next ``times`` requests whose target the expression is found in."""
        fault = Fault(method, re.compile(target), status, resets, cut_after, corrupts)
        with self._lock:
            self._faults += [fault] * times

    @property
    def is_all_spoiled(self) -> bool:
        """Return whether every fault met its request."""
        with self._lock:
            return not self._faults

    def forgive(self) -> None:
        """Forget the faults that nobody met."""
        with self._lock:
            self._faults.clear()

    def take(self, request: Request) -> Fault | None:
        """Return the fault that this request meets, once."""
        with self._lock:
            self.asked.append(request)
            for fault in self._faults:
                if fault.method == request.method and fault.target.search(request.target):
                    self._faults.remove(fault)
                    return fault
        return None


@contextmanager
def faulty_front(behind: str) -> Iterator[FaultyFront]:
    """Run a front before ``behind``, an ``http://HOST:PORT``."""
    host, _, port = behind.removeprefix("http://").rpartition(":")
    server = socket.create_server(("127.0.0.1", 0))
    front = FaultyFront(server.getsockname()[1])
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            thread = threading.Thread(target=_serve, args=(front, client, (host, int(port))))
            threads.append(thread)
            thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield front
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        accepting.join()
        for thread in threads:
            thread.join(30)


def _serve(front: FaultyFront, client: socket.socket, behind: tuple[str, int]) -> None:
    with client, contextlib.suppress(OSError):
        client.settimeout(60)
        first = client.recv(1, socket.MSG_PEEK)
        if not first:
            return
        if first[0] == _TLS_HANDSHAKE:
            front.hellos += 1
            _forward(client, behind, b"", None)
            return
        head, rest = _read_head(client)
        request = _parse(head)
        fault = front.take(request)
        if fault is not None and fault.status:
            client.sendall(b"HTTP/1.1 %d Spoiled\r\nContent-Length: 0\r\n" % fault.status)
            if fault.status == 401:
                client.sendall(b'WWW-Authenticate: Basic realm="nobody"\r\n')
            client.sendall(b"Connection: close\r\n\r\n")
            return
        if fault is not None and fault.resets:
            # With no time to linger, closing sends a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        _forward(client, behind, _closing(head) + rest, fault)


def _forward(
    client: socket.socket, behind: tuple[str, int], begin: bytes, fault: Fault | None
) -> None:
    with socket.create_connection(behind, timeout=60) as server:
        server.sendall(begin)
        up = threading.Thread(target=_pump, args=(client, server, lambda data: data))
        up.start()
        try:
            _pump(server, client, _spoiler(fault))
        finally:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            up.join()


def _pump(
    source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes | None]
) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(256 * 1024):
            changed = change(data)
            if changed is None:
                return
            sink.sendall(changed)
        sink.shutdown(socket.SHUT_WR)


def _spoiler(fault: Fault | None) -> Callable[[bytes], bytes | None]:
    """Return what is done to the bytes of an answer; None ends the connection."""
    seen = b""
    sent = 0
    is_in_body = False

    def spoil(data: bytes) -> bytes | None:
        nonlocal seen, sent, is_in_body
        if fault is None or (fault.cut_after is None and not fault.corrupts):
            return data
        head = b""
        if not is_in_body:
            seen += data
            end = seen.find(b"\r\n\r\n")
            if end < 0:
                return b""
            is_in_body = True
            head, data = seen[: end + 4], seen[end + 4 :]
        if fault.corrupts:
            data = bytes(byte ^ 0xFF for byte in data)
        if fault.cut_after is not None:
            data = data[: max(0, fault.cut_after - sent)]
            sent += len(data)
            if sent >= fault.cut_after and not head and not data:
                return None
        return head + data

    return spoil


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = client.recv(64 * 1024)
        if not more or len(data) > _HEAD_BYTES_MAX:
            raise OSError("no head of a request")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    return Request(method, target, tuple((key.strip(), value.strip()) for key, _, value in pairs))


def _closing(head: bytes) -> bytes:
    lines = head.split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*kept, b"Connection: close"]) + b"\r\n\r\n"
