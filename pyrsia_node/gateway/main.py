"""The gateway process: ``python -m pyrsia_node.gateway --data DIR``. Wires everything.

Order of the start: data directory (refuse what is missing), keys for TLS, stores, the two
listeners, then ``run/gateway.sock``, whose answer means "ready". It serves what it has whether the
core is there or not. Order of the stop: no new connections, answers under way end, downloads stop
and stay for a later resume, sockets go.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import resource
import signal
import sys
from contextlib import AsyncExitStack
from importlib import metadata
from pathlib import Path

import uvloop

from pyrsia_node.gateway.wiring import Gateway, open_gateway
from pyrsia_node.model.errors import NotFoundError, PyrsiaError
from pyrsia_node.schema import exit_codes
from pyrsia_node.schema.config import Config, parse_config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.parent import watch_parent

_LOG = logging.getLogger("pyrsia.gateway")


def main() -> int:
    """Run the gateway until SIGTERM; return the exit code."""
    if not __debug__:
        sys.stderr.write("gateway: refuses to run under python -O: assertions are part of it\n")
        return exit_codes.INVALID
    parser = argparse.ArgumentParser(prog="pyrsia_node.gateway")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR")
    arguments = parser.parse_args()
    watch_parent()
    try:
        layout = Layout(arguments.data)
        config = parse_config(_read(layout.config), source=str(layout.config))
        logging.basicConfig(
            level=config.log.level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        _raise_file_limit()
        uvloop.run(_run(layout, config))
    except PyrsiaError as error:
        sys.stderr.write(f"gateway: {error}\n")
        return exit_codes.exit_code_of(error)
    return exit_codes.OK


async def _run(layout: Layout, config: Config) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        gateway = await open_gateway(stack, layout, config, version=metadata.version("pyrsia"))
        _LOG.info("clients at %s, nodes at %s", gateway.http_url, gateway.data_url)
        await _until_stopped(gateway, stop)


async def _until_stopped(gateway: Gateway, stop: asyncio.Event) -> None:
    """Serve the socket until a signal comes; what is wrong with our state ends it, too."""
    serving = asyncio.create_task(gateway.serve_socket())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        _LOG.info("stopping")
    finally:
        for task in (serving, stopping):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise NotFoundError(
            f"{path} cannot be read ({error.strerror}); `pyrsia-node init` makes it"
        ) from error


def _raise_file_limit() -> None:
    """Take as many file descriptors as the system lets us: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
