"""File bytes from the page cache to a client's socket without passing through Python.

Offered to applications as the ASGI extension ``pyrsia.sendfile`` on connections without TLS. A
thread calls sendfile(2), so a large pull costs the event loop next to nothing. It never waits for
a slow client for long: what the socket does not take within a moment is left to the ordinary way
of sending, with its flow control and its limits, so no number of slow clients can use up the
threads.
"""

from __future__ import annotations

import asyncio
import os
import select
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from uvicorn.protocols.http.flow_control import FlowControl

WAIT_MS: Final = 20
"""How long a thread waits for a socket that is full."""

THREADS: Final = 4
_pool: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="sendfile")


async def send_file(
    transport: asyncio.Transport, flow: FlowControl, source: int, position: int, count: int
) -> int:
    """Send up to ``count`` bytes of an open file; return how many were sent, perhaps none.

    Args:
        transport: A TCP connection's transport; nobody else writes to it meanwhile.
        flow: Its flow control.
        source: Descriptor of a regular file, kept open by the caller.
        position: Where in the file to begin.
        count: Bytes wanted.

    Raises:
        OSError: The connection is gone.
    """
    await _flushed(transport, flow)
    if transport.is_closing():
        raise ConnectionResetError("the client has left")
    # A descriptor of our own: the transport may close its own at any moment, and the number could
    # then be another connection's.
    target = os.dup(transport.get_extra_info("socket").fileno())
    running = asyncio.get_running_loop().run_in_executor(
        _pool, _send, target, source, position, count
    )
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
    finally:
        os.close(target)


async def _flushed(transport: asyncio.Transport, flow: FlowControl) -> None:
    """Wait until everything that was written before has gone to the kernel."""
    if transport.get_write_buffer_size() == 0:
        return
    low, high = transport.get_write_buffer_limits()
    transport.set_write_buffer_limits(high=0)
    try:
        await flow.drain()
    finally:
        transport.set_write_buffer_limits(high=high, low=low)


def _send(target: int, source: int, position: int, count: int) -> int:
    sent = 0
    while sent < count:
        try:
            done = os.sendfile(target, source, position + sent, count - sent)
        except BlockingIOError:
            poll = select.poll()
            poll.register(target, select.POLLOUT)
            if not poll.poll(WAIT_MS):
                break
            continue
        if done == 0:
            break
        sent += done
    return sent
