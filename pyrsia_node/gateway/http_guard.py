"""Limits on what a connection may do to the server, enforced below any application code.

A client that sends its request head slowly, trickles a body, stops reading the answer, opens too
many connections or sends an endless head is cut. The checks sit in uvicorn's httptools protocol,
because nothing above it sees a client that never finishes its first line.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from typing import Final, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from pyrsia_node.gateway.sendfile import send_file
from pyrsia_node.transfer.asgi import WHOLE, Headers
from pyrsia_node.transfer.body import SENDFILE

_log = logging.getLogger("pyrsia.http")

_REFUSALS: Final = {
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What one listener allows; seconds and bytes."""

    header_seconds: float = 10.0
    header_bytes_max: int = 32 * 1024
    url_bytes_max: int = 8 * 1024
    body_rate_min_bytes_per_s: int = 1024
    body_check_seconds: float = 5.0
    write_stall_seconds: float = 60.0
    """A client that takes nothing for this long, while bytes wait for it, is cut."""
    keep_alive_seconds: float = 75.0
    connections_per_address: int = 256
    connections_max: int = 1024
    write_buffer_bytes: int = 512 * 1024
    """How much may wait in memory for one client."""


class Gatekeeper:
    """Counts connections of one listener."""

    def __init__(self, limits: HttpLimits, headers: Headers) -> None:
        """Start with nobody connected; ``headers`` go with every answer."""
        self.limits = limits
        self.headers = headers
        self.date_second = -1
        self.cut = Counter[str]()
        self.is_empty = asyncio.Event()
        self.is_empty.set()
        self._open = 0
        self._by_address = Counter[str]()

    def opened(self) -> None:
        """Count a connection that was made, admitted or not."""
        self._open += 1
        self.is_empty.clear()

    def closed(self) -> None:
        """Count a connection that is gone."""
        self._open -= 1
        if not self._open:
            self.is_empty.set()

    def admit(self, address: str) -> bool:
        """Count a connection, or refuse it."""
        full = self._by_address.total() >= self.limits.connections_max
        if full or self._by_address[address] >= self.limits.connections_per_address:
            return False
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """Count a connection that ended."""
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, with a clock on everything the client owes us."""

    def __init__(self, config: Config, state: ServerState, gatekeeper: Gatekeeper) -> None:
        """Make the protocol of a connection that is about to be made."""
        loop = asyncio.get_running_loop()
        super().__init__(config=config, server_state=state, app_state={}, _loop=loop)
        self._gatekeeper = gatekeeper
        self._limits = gatekeeper.limits
        self._address: str | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._body_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._body_bytes = 0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admit the connection and start the clock for its first request."""
        peer = transport.get_extra_info("peername")
        address = peer[0] if peer else "local"
        self._gatekeeper.opened()
        super().connection_made(transport)
        if not self._gatekeeper.admit(address):
            self._refuse(503, "too many connections")
            return
        self._address = address
        transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._gatekeeper.closed()
        if self._address is not None:
            self._gatekeeper.leave(self._address)
            self._address = None
        for timer in (self._head_timer, self._body_timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the connection is being closed for a reason."""
        if not self._refused and self.parser is not None:
            super().data_received(data)

    # ------------------------------------------------------------ the parser calls these

    def on_message_begin(self) -> None:
        """Start the clock for a request head, on a connection kept alive from its first byte."""
        self._refresh_date()
        self._head_bytes = 0
        if self._head_timer is None:
            self._await_head()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Bound the target."""
        super().on_url(url)
        if len(self.url) > self._limits.url_bytes_max:
            self._refuse(414, "URI too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Bound the head."""
        self._head_bytes += len(name) + len(value)
        if self._head_bytes > self._limits.header_bytes_max:
            self._refuse(431, "request head too large")
            return
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop the clock of the head; a body has its own."""
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        if self._refused:
            return
        super().on_headers_complete()
        self._offer(self.cycle)
        self._body_bytes = 0
        self._watch_body()

    def on_body(self, body: bytes) -> None:
        """Count what came."""
        self._body_bytes += len(body)
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the clock of the body."""
        if self._body_timer is not None:
            self._body_timer.cancel()
            self._body_timer = None
        if not self._refused:
            super().on_message_complete()

    # ------------------------------------------------------------ the transport calls these

    def pause_writing(self) -> None:
        """Start the clock of a client that does not read."""
        super().pause_writing()
        self._write_timer = self.loop.call_later(
            self._limits.write_stall_seconds, self._cut, "does not read"
        )

    def resume_writing(self) -> None:
        """Stop the clock."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
        super().resume_writing()

    # ------------------------------------------------------------ inside

    def _offer(self, cycle: RequestResponseCycle) -> None:
        """Offer a request's application what ASGI has not; ours are calls, not dictionaries.

        They belong to this request's cycle: a client may send the next request before this one is
        answered, and ``self.cycle`` is then that one's.
        """
        offered: dict[str, object] = {WHOLE: partial(self._answer_whole, cycle)}
        if self.scheme == "http":
            offered[SENDFILE] = partial(self._send_file, cycle)
        cycle.scope["extensions"] = cast("dict[str, dict[object, object]]", offered)

    async def _send_file(
        self, cycle: RequestResponseCycle, source: int, position: int, count: int
    ) -> int:
        """Send file bytes as the next part of the answer under way; see gateway/sendfile.py."""
        assert cycle.response_started
        assert not cycle.response_complete
        assert count <= cycle.expected_content_length
        try:
            sent = await send_file(self.transport, self.flow, source, position, count)
        except OSError:
            self.transport.abort()
            return 0
        cycle.expected_content_length -= sent
        return sent

    def _answer_whole(
        self, cycle: RequestResponseCycle, status: int, lines: bytes, body: bytes | bytearray
    ) -> bool:
        """Send an answer at once, as uvicorn does in two steps; False if it has to wait."""
        assert not cycle.response_started
        if self.flow.write_paused or cycle.disconnected:
            return False
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        parts = [STATUS_LINE[status]]
        parts += [b"%b: %b\r\n" % field for field in cycle.default_headers]
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(b"".join([*parts, lines, end, body]))
        cycle.response_complete = True
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()
        return True

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(
            self._limits.header_seconds, self._cut, "request head too slow"
        )

    def _watch_body(self) -> None:
        before = self._body_bytes
        self._body_timer = self.loop.call_later(
            self._limits.body_check_seconds, self._check_body, before
        )

    def _check_body(self, before: int) -> None:
        wanted = self._limits.body_rate_min_bytes_per_s * self._limits.body_check_seconds
        # While we ourselves hold back reading, the client owes nothing.
        if self.flow.read_paused or self._body_bytes - before >= wanted:
            self._watch_body()
        else:
            self._cut("body too slow")

    def _cut(self, reason: str) -> None:
        self._gatekeeper.cut[reason] += 1
        _log.info("cut %s: %s", self._address, reason)
        self.transport.abort()

    def _refuse(self, status: int, reason: str) -> None:
        if self._refused:
            return
        self._refused = True
        self._gatekeeper.cut[reason] += 1
        head = b"HTTP/1.1 %d %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, _REFUSALS[status]))
        self.transport.close()

    def _refresh_date(self) -> None:
        """Keep the Date header right without a timer that wakes an idle node."""
        second = int(self.loop.time())
        if self._gatekeeper.date_second != second:
            self._gatekeeper.date_second = second
            date = formatdate(usegmt=True).encode("ascii")
            self.server_state.default_headers = [*self._gatekeeper.headers, (b"date", date)]
