"""Pieces from other nodes' data listeners: HTTPS ranges with the certificate pinned.

Implements ``ports.PieceSource``. Keeps a few connections per peer for reuse. Verifies nothing:
whoever asks checks each piece against the log's root.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    UnavailableError,
)
from pyrsia_node.ports import Holder
from pyrsia_node.store.pieces import PIECE_HASH_BYTES
from pyrsia_node.transfer.address import DataAddress, parse_data_url
from pyrsia_node.transfer.connection import PeerConnection, connect, pinned_context
from pyrsia_node.transfer.response import ResponseHead

IDLE_PER_PEER_MAX: Final = 4
PEERS_MAX: Final = 64


class HttpsPieceSource:
    """Reads from peers that have a reachable data listener."""

    def __init__(self, *, allow_plain: bool = False) -> None:
        """Make a source; ``allow_plain`` is for trusted networks that switched TLS off."""
        self._allow_plain = allow_plain
        self._context = pinned_context()
        self._idle: dict[DataAddress, list[PeerConnection]] = {}
        self._connections: set[PeerConnection] = set()

    async def read_into(self, holder: Holder, sha256: str, start: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``start``; see ``ports.PieceSource``."""
        await self._request(holder, "GET", f"/blobs/{sha256}", buffer, start=start)

    async def piece_hashes(self, holder: Holder, sha256: str, *, count: int) -> bytes:
        """Return the holder's piece list, unchecked."""
        buffer = bytearray(count * PIECE_HASH_BYTES)
        target = f"/blobs/{sha256}/pieces"
        head = await self._request(holder, "GET", target, memoryview(buffer))
        return bytes(buffer[: head.length])

    async def have(self, holder: Holder, sha256: str) -> bytes | None:
        """Return the bitmap that the holder shows for a blob; None means it has all."""
        head = await self._request(holder, "HEAD", f"/blobs/{sha256}", memoryview(b""))
        shown = head.fields.get("x-pyrsia-have")
        if shown is None:
            return None
        try:
            return base64.b64decode(shown, validate=True)
        except binascii.Error as error:
            raise PeerMisbehaviorError(holder.peer, f"bitmap is not base64: {error}") from error

    async def close(self) -> None:
        """Close every connection."""
        self._idle.clear()
        for connection in list(self._connections):
            await connection.close()
        self._connections.clear()

    async def _request(
        self,
        holder: Holder,
        method: str,
        target: str,
        buffer: memoryview,
        *,
        start: int | None = None,
    ) -> ResponseHead:
        address = self._address(holder)
        head = await self._exchange(
            holder, address, method=method, target=target, buffer=buffer, start=start
        )
        match head.status:
            case 200 | 206:
                return head
            case 404 | 416:
                raise NotFoundError(f"peer {holder.peer} does not have {target} now")
            case status:
                raise UnavailableError(f"peer {holder.peer} answered {status}")

    async def _exchange(
        self,
        holder: Holder,
        address: DataAddress,
        *,
        method: str,
        target: str,
        buffer: memoryview,
        start: int | None,
    ) -> ResponseHead:
        connection = self._borrow(address)
        if connection is not None:
            try:
                head = await connection.request(method, target, buffer, start=start)
            except UnavailableError:
                # The peer may have closed an idle connection just now: a fresh one decides.
                if not connection.was_closed_unanswered:
                    raise
            else:
                self._give_back(address, connection)
                return head
        self._connections = {known for known in self._connections if known.is_open}
        connection = await connect(holder.peer, address, self._context)
        self._connections.add(connection)
        head = await connection.request(method, target, buffer, start=start)
        self._give_back(address, connection)
        return head

    def _address(self, holder: Holder) -> DataAddress:
        if holder.data_url is None:
            raise UnavailableError(f"peer {holder.peer} has no data listener")
        try:
            return parse_data_url(
                holder.data_url, holder.fingerprint, allow_plain=self._allow_plain
            )
        except InvalidInputError as error:
            raise PeerMisbehaviorError(holder.peer, str(error)) from error

    def _borrow(self, address: DataAddress) -> PeerConnection | None:
        idle = self._idle.get(address, [])
        while idle:
            connection = idle.pop()
            if connection.is_open:
                return connection
        return None

    def _give_back(self, address: DataAddress, connection: PeerConnection) -> None:
        if not connection.is_open:
            return
        idle = self._idle.setdefault(address, [])
        if len(idle) >= IDLE_PER_PEER_MAX or len(self._idle) > PEERS_MAX:
            connection.abort()
            return
        idle.append(connection)
