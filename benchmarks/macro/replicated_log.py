"""The peer of the consensus benchmark: the least that four processes can do to agree.

A leader appends a record, sends it to three followers over TCP, everybody syncs it to disk, and it
is committed when three of four have it: one round trip and one sync, no signatures, no faults but
crashes, no elections, no state. What a signed, Byzantine log costs is the ratio to this.

Run as a module it is one follower: it prints its port and answers until standard input closes.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

FOLLOWERS = 3
NEEDED = 2
"""Followers that must have a record, beside the leader."""

_HEAD = struct.Struct(">I")


class AppendFile:
    """A file that is synced after every record."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def append(self, record: bytes) -> None:
        os.write(self._descriptor, record)
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise EOFError
        data += more
    return bytes(data)


def follow(path: Path) -> None:
    """Store what the leader sends, and say so after each sync."""
    log = AppendFile(path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        sys.stdout.write(f"{server.getsockname()[1]}\n")
        sys.stdout.flush()
        connection, _ = server.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while True:
                (length,) = _HEAD.unpack(_exactly(connection, _HEAD.size))
                log.append(_exactly(connection, length))
                connection.sendall(b"\x01")
        except (EOFError, ConnectionError):
            log.close()


class Leader:
    """Starts the followers and commits records."""

    def __init__(self, folder: Path) -> None:
        self._log = AppendFile(folder / "leader")
        self._processes: list[subprocess.Popen[str]] = []
        self._connections: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._behind: dict[socket.socket, int] = {}
        for number in range(FOLLOWERS):
            words = [sys.executable, "-m", __name__, str(folder / f"follower-{number}")]
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            port = int(process.stdout.readline())
            connection = socket.create_connection(("127.0.0.1", port))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(connection, selectors.EVENT_READ)
            self._processes.append(process)
            self._connections.append(connection)
            self._behind[connection] = 0

    def commit(self, record: bytes) -> float:
        """Commit one record; return the seconds until three of four had it on disk."""
        started_s = time.perf_counter()
        frame = _HEAD.pack(len(record)) + record
        for connection in self._connections:
            connection.sendall(frame)
            self._behind[connection] += 1
        self._log.append(record)
        while sum(behind == 0 for behind in self._behind.values()) < NEEDED:
            for key, _ in self._selector.select():
                answering = key.fileobj
                assert isinstance(answering, socket.socket)
                self._behind[answering] -= len(answering.recv(4096))
        return time.perf_counter() - started_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._selector.close()
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()
        self._log.close()


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
