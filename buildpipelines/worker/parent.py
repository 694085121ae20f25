"""End with the parent: a worker whose supervisor is gone must not live on.

The supervisor passes the reading end of a pipe, whose number stands in ``PYRSIA_PARENT_FD``, and
never writes to it. When the supervisor ends, however it ends, the kernel closes the writing end
and the pipe becomes readable.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "PYRSIA_PARENT_FD"


async def parent_gone(environ: Mapping[str, str] | None = None) -> None:
    """Return when the parent has ended; never, where no pipe was given.

    Raises:
        ValueError: the variable is no number.
    """
    text = (os.environ if environ is None else environ).get(VARIABLE, "")
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    if not text:
        await gone
    descriptor = int(text)
    loop.add_reader(descriptor, _settle, gone)
    try:
        await gone
    finally:
        loop.remove_reader(descriptor)


def _settle(gone: asyncio.Future[None]) -> None:
    if not gone.done():
        gone.set_result(None)
