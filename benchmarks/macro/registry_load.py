"""Clients that load a container registry from one thread, and cost little beside it.

Reads go over sockets that are kept open: the first answer is read with care and its digest checked,
the others must have its length and status, so that a request costs this process some ten
microseconds. What is pushed is different each time, and is hashed by what differs alone.
"""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json,application/vnd.oci.image.manifest.v1+json,"
    "application/vnd.docker.distribution.manifest.v2+json,"
    "application/vnd.docker.distribution.manifest.list.v2+json"
)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_SILENCE_SECONDS_MAX = 60
_BUFFER_BYTES = 1024 * 1024
_tails = itertools.count()


@dataclass(frozen=True)
class Load:
    """What clients got done: operations, bytes of bodies, and how long it took them."""

    operations: int
    body_bytes: int
    seconds: float
    client_s: float
    """Processor time of the clients."""


@dataclass(frozen=True)
class Address:
    """Where a registry listens."""

    host: str
    port: int

    def connect(self) -> socket.socket:
        """Open a connection."""
        opened = socket.create_connection((self.host, self.port), _SILENCE_SECONDS_MAX)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def request(self, method: str, path: str, *, closes: bool = False) -> bytes:
        """Return the bytes of a request for a manifest or blob."""
        accept = MANIFEST_TYPES if "/manifests/" in path else "*/*"
        last = "Connection: close\r\n" if closes else ""
        return (
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAccept: {accept}\r\n"
            f"User-Agent: benchmark\r\n{last}\r\n"
        ).encode()


@dataclass(frozen=True)
class Answer:
    """What every answer to one request must look like."""

    status: bytes
    length: int
    body: int


def ask_with_care(address: Address, request: bytes, digest: str = "") -> Answer:
    """Send a request once, check what comes, and return its form."""
    with address.connect() as opened:
        opened.sendall(request)
        with opened.makefile("rb") as stream:
            status = stream.readline()
            head = [status]
            length = 0
            while (line := stream.readline()) not in {b"\r\n", b""}:
                head.append(line)
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            assert status.startswith(b"HTTP/1.1 200 "), b"".join(head).decode()
            is_head = request.startswith(b"HEAD ")
            hasher = hashlib.sha256()
            left = 0 if is_head else length
            while left:
                data = stream.read(min(left, _BUFFER_BYTES))
                assert data, "the answer ended too soon"
                hasher.update(data)
                left -= len(data)
            if digest and not is_head:
                assert f"sha256:{hasher.hexdigest()}" == digest
    body = 0 if is_head else length
    return Answer(status, sum(map(len, head)) + 2 + body, body)


def read(address: Address, request: bytes, answer: Answer, *, clients: int, seconds: float) -> Load:
    """Ask again and again over ``clients`` connections; no request begins after ``seconds``."""
    opened = [address.connect() for _ in range(clients)]
    try:
        started, cpu = time.perf_counter(), time.process_time()
        if clients == 1:
            done = _read_alone(opened[0], request, answer, started + seconds)
        else:
            done = _read_together(opened, request, answer, started + seconds)
        ended, cpu_ended = time.perf_counter(), time.process_time()
    finally:
        for each in opened:
            each.close()
    return Load(done, done * answer.body, ended - started, cpu_ended - cpu)


def read_anew(address: Address, request: bytes, answer: Answer, *, seconds: float) -> Load:
    """Ask again and again, each time over a new connection, as dockerd does."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    started, cpu = time.perf_counter(), time.process_time()
    done = 0
    while time.perf_counter() < started + seconds:
        with address.connect() as opened:
            opened.sendall(request)
            _receive(opened, buffer, answer)
        done += 1
    ended, cpu_ended = time.perf_counter(), time.process_time()
    return Load(done, done * answer.body, ended - started, cpu_ended - cpu)


def _read_alone(opened: socket.socket, request: bytes, answer: Answer, ends_at: float) -> int:
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    done = 0
    while time.perf_counter() < ends_at or not done:
        opened.sendall(request)
        _receive(opened, buffer, answer)
        done += 1
    return done


def _receive(opened: socket.socket, buffer: memoryview, answer: Answer) -> None:
    got = opened.recv_into(buffer)
    assert bytes(buffer[: len(answer.status)]) == answer.status, bytes(buffer[:got])
    while got < answer.length:
        more = opened.recv_into(buffer)
        assert more, "the connection ended in an answer"
        got += more
    assert got == answer.length, "another length than the first answer's"


def _read_together(
    opened: list[socket.socket], request: bytes, answer: Answer, ends_at: float
) -> int:
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    sockets = {each.fileno(): each for each in opened}
    missing = dict.fromkeys(sockets, 0)
    poll = select.epoll()
    for number, each in sockets.items():
        each.settimeout(0)
        poll.register(number, select.EPOLLIN)
        each.sendall(request)
        missing[number] = answer.length
    busy, done = len(opened), 0
    while busy:
        ready = poll.poll(_SILENCE_SECONDS_MAX)
        assert ready, "the registry is silent"
        for number, _ in ready:
            got = sockets[number].recv_into(buffer)
            assert got, "the connection ended in an answer"
            if missing[number] == answer.length:
                assert bytes(buffer[: len(answer.status)]) == answer.status, bytes(buffer[:got])
            missing[number] -= got
            if missing[number]:
                assert missing[number] > 0, "another length than the first answer's"
                continue
            done += 1
            if time.perf_counter() < ends_at:
                sockets[number].sendall(request)
                missing[number] = answer.length
            else:
                busy -= 1
    poll.close()
    return done


class Fresh:
    """Blobs of one size, each different in its last bytes, so that hashing them costs nothing."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._common = memoryview(os.urandom(size - 16))
        self._hasher = hashlib.sha256(self._common)

    def next(self) -> tuple[str, list[memoryview]]:
        """Return a digest and the parts of the bytes that have it."""
        tail = next(_tails).to_bytes(8, "big") + os.urandom(8)
        hasher = self._hasher.copy()
        hasher.update(tail)
        return f"sha256:{hasher.hexdigest()}", [self._common, memoryview(tail)]


class Client:
    """One client that pulls and pushes over one connection."""

    def __init__(self, address: Address, repository: str) -> None:
        self._address = address
        self._repository = repository
        self._connection = http.client.HTTPConnection(
            address.host, address.port, timeout=_SILENCE_SECONDS_MAX
        )

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def get(self, path: str) -> bytes:
        """Return what is at a path of the repository."""
        return self._ask("GET", f"/v2/{self._repository}/{path}", 200, [], {})[1]

    def push(self, digest: str, parts: list[memoryview], *, chunks: int) -> None:
        """Push a blob whole, or in so many chunks."""
        place, _ = self._ask("POST", f"/v2/{self._repository}/blobs/uploads/", 202, [], {})
        size = sum(map(len, parts))
        if chunks > 1:
            for begin, piece in _chunks(parts, size, chunks):
                length = sum(map(len, piece))
                span = {"Content-Range": f"{begin}-{begin + length - 1}"}
                place, _ = self._ask("PATCH", place, 202, piece, span)
            parts = []
        mark = "&" if "?" in place else "?"
        self._ask("PUT", f"{place}{mark}digest={digest}", 201, parts, {})

    def mount(self, digest: str, source: str) -> None:
        """Have a blob of another repository in this one, too."""
        path = f"/v2/{self._repository}/blobs/uploads/?mount={digest}&from={source}"
        self._ask("POST", path, 201, [], {})

    def delete(self, path: str) -> None:
        """Delete what is at a path of the repository."""
        self._ask("DELETE", f"/v2/{self._repository}/{path}", 202, [], {})

    def put_manifest(self, reference: str, manifest: bytes) -> None:
        """Push a manifest."""
        path = f"/v2/{self._repository}/manifests/{reference}"
        self._ask("PUT", path, 201, [memoryview(manifest)], {"Content-Type": MANIFEST})

    def _ask(
        self, method: str, path: str, status: int, parts: list[memoryview], headers: dict[str, str]
    ) -> tuple[str, bytes]:
        if method == "GET":
            headers["Accept"] = MANIFEST_TYPES
        else:
            headers["Content-Length"] = str(sum(map(len, parts)))
            headers.setdefault("Content-Type", "application/octet-stream")
        self._connection.request(method, path, iter(parts) if parts else None, headers)
        answer = self._connection.getresponse()
        body = answer.read()
        assert answer.status == status, f"{method} {path}: {answer.status} {body[:500]!r}"
        place = urlsplit(answer.headers.get("Location", ""))
        return place.path + (f"?{place.query}" if place.query else ""), body


def _chunks(
    parts: list[memoryview], size: int, count: int
) -> Iterator[tuple[int, list[memoryview]]]:
    """Yield the beginnings and bytes of equal chunks; the second part goes with the last one."""
    common, tail = parts
    step = -(-size // count)
    for begin in range(0, size, step):
        end = min(begin + step, size)
        yield begin, [common[begin:end]] if end < size else [common[begin:], tail]


def seed(address: Address, repository: str, tag: str, blob_sizes: tuple[int, ...]) -> list[str]:
    """Push blobs of these sizes and a manifest of them; returns digests, the manifest's last."""
    client = Client(address, repository)
    fresh = [Fresh(size) for size in blob_sizes]
    digests = []
    for each in fresh:
        digest, parts = each.next()
        client.push(digest, parts, chunks=1)
        digests.append(digest)
    manifest = manifest_of(digests, blob_sizes)
    client.put_manifest(tag, manifest)
    client.close()
    return [*digests, f"sha256:{hashlib.sha256(manifest).hexdigest()}"]


def manifest_of(digests: list[str], sizes: tuple[int, ...]) -> bytes:
    """Return a manifest whose config is the first of the blobs."""
    config = "application/vnd.oci.image.config.v1+json"
    layer = "application/vnd.oci.image.layer.v1.tar"
    described = [
        {"mediaType": layer if number else config, "digest": digest, "size": size}
        for number, (digest, size) in enumerate(zip(digests, sizes, strict=True))
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described[0],
        "layers": described[1:],
    }
    return json.dumps(document).encode()


def work(
    address: Address,
    repository: str,
    *,
    clients: int,
    seconds: float,
    step: Callable[[Client, int], int],
) -> Load:
    """Run ``step`` again and again in ``clients`` threads; it returns the bytes that it moved."""
    counts = [(0, 0)] * clients
    errors: list[BaseException] = []
    connections = [Client(address, repository) for _ in range(clients)]
    started, cpu = time.perf_counter(), time.process_time()

    def one(number: int) -> None:
        done = moved = 0
        try:
            while time.perf_counter() < started + seconds or not done:
                moved += step(connections[number], number + done * clients)
                done += 1
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            errors.append(error)
        counts[number] = (done, moved)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended, cpu_ended = time.perf_counter(), time.process_time()
    for connection in connections:
        connection.close()
    if errors:
        raise errors[0]
    done, moved = (sum(column) for column in zip(*counts, strict=True))
    return Load(done, moved, ended - started, cpu_ended - cpu)
