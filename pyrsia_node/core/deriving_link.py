"""The core's end of the pipe to the process that derives files and index while it joins.

A head start and no more: whatever that process did not do, the core does afterwards
(``core.first_start``), so its failure costs time and is told in the log. ``take`` waits while the
pipe is full: the blocks that wait in memory are then those of the plan and no others.
Design: docs/design/catchup.md, "Files and index".
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Self

import trio

from pyrsia_node.core.deriving import LENGTH
from pyrsia_node.ledger.adopting import WholeBlock
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.leaves import Header
from pyrsia_node.replica.snapshot_wire import encode_whole_block
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.parent import PARENT_FD_VARIABLE

_LOG = logging.getLogger("pyrsia.core.deriving")


class DerivingLink:
    """Starts the process with the first blocks and hands it each of them. A context manager.

    Attributes:
        process: The process, once it was started.
    """

    def __init__(self, layout: Layout, genesis: Genesis, nursery: trio.Nursery) -> None:
        """Run it in ``nursery``; it ends with it."""
        self._layout = layout
        self._genesis = genesis
        self._nursery = nursery
        self.process: trio.Process | None = None
        self._takes = True
        # The process ends when the last writing end of this pipe is closed: with this one.
        self._its_end, self._our_end = os.pipe()

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the process, which ends if it still runs."""
        os.close(self._its_end)
        os.close(self._our_end)

    async def take(self, target: Header, blocks: Sequence[WholeBlock]) -> None:
        """Hand over blocks that follow the last ones, on the way to ``target``."""
        if self._takes and self.process is None:
            await self._start(target)
            await self._send([self._genesis.encode()])
        await self._send(
            [
                encode_whole_block(each.certificate, each.parent_certificate, list(each.leaves))
                for each in blocks
            ]
        )

    async def finish(self) -> None:
        """Wait until everything that was handed over is derived, or the process has failed."""
        if self.process is None:
            return
        assert self.process.stdin is not None
        await self.process.stdin.aclose()
        code = await self.process.wait()
        if code:
            _LOG.warning("the process ended with %d: the core derives the rest itself", code)

    async def _start(self, target: Header) -> None:
        command = [sys.executable, "-P", "-m", "pyrsia_node.core.deriving"]
        command += ["--data", str(self._layout.root), "--size", str(target.size)]
        try:
            self.process = await self._nursery.start(
                partial(
                    trio.run_process,
                    command,
                    stdin=subprocess.PIPE,
                    check=False,
                    pass_fds=[self._its_end],
                    env={**os.environ, PARENT_FD_VARIABLE: str(self._its_end)},
                )
            )
        except OSError as error:
            _LOG.warning("the deriving process cannot be started: %s", error)
            self._takes = False

    async def _send(self, frames: list[bytes]) -> None:
        if not self._takes:
            return
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            await self.process.stdin.send_all(
                b"".join(LENGTH.pack(len(each)) + each for each in frames)
            )
        except trio.BrokenResourceError:
            _LOG.warning("the process takes no more blocks: the core derives the rest itself")
            self._takes = False
