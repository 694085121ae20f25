"""What the demonstration shows: steps with their times, and a live table of the nodes."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

POLL_S: Final = 0.25

NodeRow = tuple[str, ...]
Snapshot = Callable[[], tuple[list[NodeRow], list[NodeRow]]]
"""Returns rows of nodes (label, role, height, log, peers, doing) and of builds."""


class Screen:
    """Prints finished steps for good, and keeps a live table under them."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Draw with what ``snapshot`` returns."""
        self._console = Console(highlight=False)
        self._snapshot = snapshot
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._started = time.perf_counter()
        self._step_started = self._started
        self._step = ""
        self._number = 0

    def __enter__(self) -> Self:
        """Show the table."""
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the table."""
        self._live.__exit__(kind, error, trace)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._started

    def begin(self, step: str) -> None:
        """Start a step."""
        self._number += 1
        self._step = f"{self._number}. {step}"
        self._step_started = time.perf_counter()
        if not self._console.is_terminal:
            self._console.print(f"... {self._step}")
        self.refresh()

    def done(self, *facts: str) -> None:
        """End the step; ``facts`` are what was seen."""
        seconds = time.perf_counter() - self._step_started
        self._console.print(f"[green]✓[/] {self._step} [dim]({seconds:.1f} s)[/]")
        for fact in facts:
            self._console.print(f"    {fact}", soft_wrap=True)

    def failed(self, reason: str) -> None:
        """End the step, and the demonstration, with the reason."""
        self._console.print(f"[red]✗[/] {self._step}: {reason}", soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, soft_wrap=True)

    def refresh(self) -> None:
        """Draw the table anew; on a terminal only."""
        if self._console.is_terminal:
            self._live.update(self._render(), refresh=True)

    def wait(self, is_done: Callable[[], bool], *, timeout_s: float) -> bool:
        """Draw until ``is_done`` or the time is over; return whether it is done."""
        deadline = time.perf_counter() + timeout_s
        while not is_done():
            if time.perf_counter() > deadline:
                return False
            self.refresh()
            time.sleep(POLL_S)
        return True

    def _render(self) -> Group:
        nodes, builds = self._snapshot()
        table = Table("node", "role", "height", "log size", "peers", "leads", box=None)
        for row in nodes:
            table.add_row(*row)
        parts: list[Text | Table] = [
            Text(f"\n{self._step}   {self.elapsed_s:.0f} s", style="bold"),
            table,
        ]
        if builds:
            progress = Table("build", "state", "stage", "detail", box=None)
            for row in builds:
                progress.add_row(*row)
            parts.append(progress)
        return Group(*parts)
