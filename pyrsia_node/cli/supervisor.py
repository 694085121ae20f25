"""Keeps a node's processes running: starts them, starts them again, stops them in order.

It knows nothing of what they do. A child that dies is started again at once, and with growing
pauses when it keeps dying early. A child that refuses to run (schema/exit_codes.py) is not started
again, because it would refuse again: before the node was ever ready that ends the run with the
child's own reason; afterwards the others go on without it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from pyrsia_node.cli.children import Child, ChildSpec, Ended, PrintLine, start_child
from pyrsia_node.model.errors import PyrsiaError
from pyrsia_node.schema.exit_codes import OK, REFUSALS, UNAVAILABLE
from pyrsia_node.store.files import write_atomic

EARLY_DEATH_S: Final = 10.0
"""A child that dies sooner than this after its start died early."""

PAUSES_S: Final = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Pause before the next start after so many early deaths in a row; the last one repeats."""

FIRST_STARTS_MAX: Final = 6
"""Early deaths in a row after which a node that was never ready gives up (7.75 s of pauses, which
is longer than the processes of a killed predecessor live)."""

_PROBE_PAUSE_S: Final = 0.05

Probe = Callable[[], Awaitable[Mapping[str, object]]]
"""Returns what the readiness file says beside the process ids; raises PyrsiaError until ready."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to supervise.

    Attributes:
        children: in the order in which they are started.
        stop_order: their names in the order in which they are stopped.
        required: names without which the node is none: if all of these refuse, the run ends.
        probe: tells whether the node is ready.
        ready_file: written when the node is ready, removed when it is not.
    """

    children: Sequence[ChildSpec]
    stop_order: Sequence[str]
    required: frozenset[str]
    probe: Probe
    ready_file: Path


class Supervisor:
    """Runs a plan once, until it is stopped or cannot go on."""

    def __init__(self, plan: Plan, print_line: PrintLine) -> None:
        """Supervise ``plan``; every line of the children and of our own goes to ``print_line``."""
        self._plan = plan
        self._print = print_line
        self._children: dict[str, Child] = {}
        self._refused: set[str] = set()
        self._was_ready = False
        self._exit_code = OK
        self._must_stop = trio.Event()
        self._changed = trio.Event()

    async def run(self) -> int:
        """Run until SIGTERM, SIGINT or :meth:`stop`; return the exit code."""
        self._plan.ready_file.unlink(missing_ok=True)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen_for_signals, nursery.cancel_scope)
                nursery.start_soon(self._announce)
                for spec in self._plan.children:
                    nursery.start_soon(self._keep, spec)
                await self._must_stop.wait()
                self._plan.ready_file.unlink(missing_ok=True)
                await self._stop_children()
                nursery.cancel_scope.cancel()
        finally:
            self._plan.ready_file.unlink(missing_ok=True)
        return self._exit_code

    def stop(self, exit_code: int = OK) -> None:
        """Let :meth:`run` stop the children in order and return ``exit_code``."""
        if not self._must_stop.is_set():
            self._exit_code = exit_code
            self._must_stop.set()

    async def _listen_for_signals(self, scope: trio.CancelScope) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                if self._must_stop.is_set():
                    self._print("node", f"{signal.Signals(number).name} again: killing the rest")
                    scope.cancel()
                    return
                self._print("node", f"{signal.Signals(number).name}: stopping")
                self.stop()

    async def _stop_children(self) -> None:
        for name in self._plan.stop_order:
            child = self._children.get(name)
            if child is not None:
                await child.stop()

    async def _keep(self, spec: ChildSpec) -> None:
        early_deaths = 0
        while not self._must_stop.is_set():
            ended = await self._run_once(spec)
            if self._must_stop.is_set():
                return
            if ended.code in REFUSALS:
                self._accept_refusal(spec, ended)
                return
            early_deaths = early_deaths + 1 if ended.lived_s < EARLY_DEATH_S else 0
            if early_deaths >= FIRST_STARTS_MAX and not self._was_ready:
                self._print("node", f"{spec.name} does not start: {_reason(ended)}")
                self.stop(UNAVAILABLE)
                return
            pause_s = PAUSES_S[min(max(early_deaths - 1, 0), len(PAUSES_S) - 1)]
            self._print("node", f"{spec.name} {ended.describe()}; starting it again")
            await trio.sleep(pause_s)

    async def _run_once(self, spec: ChildSpec) -> Ended:
        child = start_child(spec)
        self._children[spec.name] = child
        self._note_change()
        try:
            return await child.run(self._print)
        finally:
            del self._children[spec.name]
            self._note_change()

    def _accept_refusal(self, spec: ChildSpec, ended: Ended) -> None:
        self._refused.add(spec.name)
        self._print("node", f"{spec.name} refuses to run: {_reason(ended)}")
        is_required = spec.name in self._plan.required
        if is_required and (not self._was_ready or self._plan.required <= self._refused):
            self.stop(ended.code)
        else:
            self._print("node", f"going on without {spec.name}; restart the node when it is mended")

    def _note_change(self) -> None:
        self._plan.ready_file.unlink(missing_ok=True)
        self._changed.set()
        self._changed = trio.Event()

    async def _announce(self) -> None:
        """Write the readiness file whenever all that run answer, and say so the first time."""
        while True:
            changed = self._changed
            with trio.CancelScope() as probing:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_cancel_when, changed, probing)
                    facts = await self._wait_until_ready()
                    self._write_ready(facts)
                    await changed.wait()

    async def _wait_until_ready(self) -> Mapping[str, object]:
        if not self._plan.required <= self._children.keys():
            await trio.sleep_forever()  # The next change cancels this.
        while True:
            with contextlib.suppress(PyrsiaError):
                return await self._plan.probe()
            await trio.sleep(_PROBE_PAUSE_S)

    def _write_ready(self, facts: Mapping[str, object]) -> None:
        pids = {name: child.pid for name, child in self._children.items()}
        document = {"pid": os.getpid(), "pids": pids, **facts}
        text = json.dumps(document, indent=2, sort_keys=True) + "\n"
        write_atomic(self._plan.ready_file, text.encode(), sync=False)
        if not self._was_ready:
            self._was_ready = True
            self._print("node", f"ready: {facts.get('http_url', '')}".rstrip(": "))


async def _cancel_when(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


def _reason(ended: Ended) -> str:
    """Return the child's own last words, which name what is wrong, or how it ended."""
    words = [line for line in ended.last_lines if line.strip()]
    return words[-1] if words else ended.describe()
