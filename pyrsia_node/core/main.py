"""The core process: ``python -m pyrsia_node.core --data DIR``. Wires everything; decides nothing.

Order of the start: data directory (refuse what is missing) -> chain -> derived files catch up ->
network -> replica or follower -> builds -> links. The gateway serves from what is there meanwhile.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from typing import Final

import trio

from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.node import run_core
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.schema import exit_codes
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.config_file import read_config
from pyrsia_node.store.parent import watch_parent

_LOG = logging.getLogger("pyrsia.core")

SWITCH_S: Final = 0.0005
"""For how long a thread that derives files may keep the interpreter from the one that votes.

The interpreter's own 5 ms would be added to every frame that arrives meanwhile.
"""


def main() -> int:
    """Run the core until SIGTERM; return the exit code."""
    if not __debug__:
        sys.stderr.write("core: refuses to run under python -O: assertions are part of it\n")
        return exit_codes.INVALID
    parser = argparse.ArgumentParser(prog="pyrsia_node.core")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR")
    arguments = parser.parse_args()
    watch_parent()
    sys.setswitchinterval(SWITCH_S)
    try:
        layout = Layout(arguments.data)
        _, config = read_config(layout)
        logging.basicConfig(
            level=config.log.level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
            stream=sys.stderr,
        )
        trio.run(_run, layout, config)
        code = exit_codes.OK
    except* PyrsiaError as group:
        for error in flatten(group):
            sys.stderr.write(f"core: {error}\n")
        code = exit_codes.exit_code_of(group)
    return code


def flatten(group: BaseExceptionGroup[PyrsiaError]) -> list[BaseException]:
    """Return the errors inside nested groups, in order."""
    found: list[BaseException] = []
    for error in group.exceptions:
        found += flatten(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


async def _run(layout: Layout, config: Config) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        await run_core(layout, config, SystemClock())
        nursery.cancel_scope.cancel()


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            _LOG.info("stopping on %s", signal.Signals(number).name)
            scope.cancel()
            return
