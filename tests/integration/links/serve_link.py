"""A process that serves one link for the tests: `serve_link.py trio|asyncio|uvloop PATH`.

Prints "ready" when clients can connect; ends with the name of the error that stopped it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import trio
import uvloop

from buildpipelines.spec.framing import FRAME_BYTES_MAX, JsonObject
from pyrsia_node.core.link_server import LinkServer as TrioServer
from pyrsia_node.gateway.link import LinkServer as AsyncioServer
from pyrsia_node.model.errors import CorruptStateError
from pyrsia_node.schema.link_terms import Handler, error_of

STALL_TIMEOUT_S = 0.5
TIMEOUTS_S = {"sleep": 0.3}


def methods(sleep: Callable[[float], Awaitable[object]]) -> dict[str, Handler]:
    open_calls = 0
    open_calls_max = 0

    async def echo(params: JsonObject) -> Mapping[str, object]:
        return params

    async def nap(params: JsonObject) -> Mapping[str, object]:
        await sleep(float(str(params["seconds"])))
        return {}

    async def fail(params: JsonObject) -> Mapping[str, object]:
        raise error_of(str(params["kind"]), str(params["message"]))

    async def defect(params: JsonObject) -> Mapping[str, object]:
        raise KeyError(json.dumps(params))

    async def corrupt(params: JsonObject) -> Mapping[str, object]:
        raise CorruptStateError("height 7 is missing")

    async def too_long(params: JsonObject) -> Mapping[str, object]:
        return {"text": "x" * FRAME_BYTES_MAX}

    async def crowd(params: JsonObject) -> Mapping[str, object]:
        nonlocal open_calls, open_calls_max
        open_calls += 1
        open_calls_max = max(open_calls_max, open_calls)
        await sleep(0.02)
        open_calls -= 1
        return {"open_calls_max": open_calls_max}

    return {
        "echo": echo,
        "sleep": nap,
        "nap": nap,
        "fail": fail,
        "defect": defect,
        "corrupt": corrupt,
        "too_long": too_long,
        "crowd": crowd,
    }


async def serve_trio(path: Path) -> None:
    server = TrioServer(
        path, methods(trio.sleep), timeouts_s=TIMEOUTS_S, stall_timeout_s=STALL_TIMEOUT_S
    )
    async with trio.open_nursery() as nursery:
        started = trio.Event()
        nursery.start_soon(server.serve, started)
        await started.wait()
        print("ready", flush=True)  # noqa: T201 - the parent waits for this line


async def serve_asyncio(path: Path) -> None:
    server = AsyncioServer(
        path, methods(asyncio.sleep), timeouts_s=TIMEOUTS_S, stall_timeout_s=STALL_TIMEOUT_S
    )
    started = asyncio.Event()
    serving = asyncio.create_task(server.serve(started))
    await started.wait()
    print("ready", flush=True)  # noqa: T201 - the parent waits for this line
    await serving


def main(kind: str, path: Path) -> None:
    try:
        if kind == "trio":
            trio.run(serve_trio, path)
        elif kind == "asyncio":
            asyncio.run(serve_asyncio(path))
        else:
            uvloop.run(serve_asyncio(path))
    except* CorruptStateError as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
