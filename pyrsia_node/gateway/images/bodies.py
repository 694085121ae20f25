"""Request bodies of pushes: in pieces large enough to be worth a thread, never more than asked for.

uvicorn gives a body in parts of some 64 kB; here they become pieces of half a megabyte. A client
that leaves in the middle is an error of its own, so that nobody takes what came for the whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from pyrsia_node.registry.errors import InterruptedBodyError, TooLargeError
from pyrsia_node.transfer.asgi import Receive

PIECE_BYTES: Final = 512 * 1024


async def pieces(receive: Receive) -> AsyncIterator[bytes | bytearray]:
    """Yield a body in pieces, none of them empty.

    Raises:
        InterruptedBodyError: The client left; what came last is in the pieces before.
    """
    gathered: bytes | bytearray = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            if gathered:
                yield gathered
            raise InterruptedBodyError("the client left before its body was whole")
        part = message.get("body", b"")
        more = message.get("more_body", False)
        if not gathered:
            gathered = part
        elif part:
            if isinstance(gathered, bytes):
                gathered = bytearray(gathered)
            gathered += part
        if gathered and (not more or len(gathered) >= PIECE_BYTES):
            yield gathered
            gathered = b""


async def whole(receive: Receive, *, bytes_max: int) -> bytes:
    """Return a body.

    Raises:
        TooLargeError: It is longer than ``bytes_max``; the rest was not read.
        InterruptedBodyError: The client left.
    """
    parts: list[bytes | bytearray] = []
    count = 0
    async for piece in pieces(receive):
        count += len(piece)
        if count > bytes_max:
            raise TooLargeError(f"the body exceeds {bytes_max} bytes")
        parts.append(piece)
    return b"".join(parts)
