"""What a joining node costs, part by part and while it goes on: processor time and memory.

A process that has ended, as the one that derives files and index does, still counts: what it had
used when it was last seen is kept. Looks once a second at most, and at memory, which the kernel
counts page by page, every five seconds, so that it costs next to nothing.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.macro.processes import descendants, memory_of, thread_times
from pyrsia_node.tlog.tile import WIDTH

MIB: Final = 1024 * 1024
STEP_ENTRIES: Final = 100_000
"""Memory is noted each time that so many more entries have been derived."""

CORE: Final = "pyrsia_node.core"
DERIVING: Final = "pyrsia_node.core.deriving"


@dataclass
class JoiningWatch:
    """Watches the newcomer's processes, by its supervisor's id, and those of its source."""

    newcomer: int
    source: int
    log: Path
    look_s: float = 1.0
    memory_s: float = 5.0
    _used: dict[tuple[str, int], float] = field(default_factory=dict)
    _memory: list[dict[str, int]] = field(default_factory=list)
    _most: dict[str, int] = field(default_factory=dict)
    _last_look: float = float("-inf")
    _last_memory: float = float("-inf")

    def look(self) -> None:
        """Take the figures, unless that was done just now."""
        now = time.perf_counter()
        if now - self._last_look < self.look_s:
            return
        self._last_look = now
        processes = descendants(self.newcomer)
        for pid, role in processes.items():
            with contextlib.suppress(OSError):  # it may just have ended
                self._note(pid, role)
        for pid in descendants(self.source):
            self._note(pid, "source")
        if now - self._last_memory >= self.memory_s:
            self._last_memory = now
            self._keep(_memory(processes))

    def processor_s(self) -> dict[str, float]:
        """Return the seconds used so far, by part; ``sum`` is the newcomer's alone."""
        parts: dict[str, float] = {}
        for (part, _), used in self._used.items():
            parts[part] = parts.get(part, 0.0) + used
        whole = sum(used for part, used in parts.items() if part != "source")
        return {part: round(used, 1) for part, used in sorted({**parts, "sum": whole}.items())}

    def memory(self) -> dict[str, Any]:
        """Return the newcomer's memory by entries derived, and the most that was seen of each."""
        return {"by entries": self._memory, "most": self._most}

    def _note(self, pid: int, role: str) -> None:
        for thread, used in thread_times(pid).items():
            part = role
            if role == CORE:
                part = "core's interpreter" if thread == pid else "core's threads (database)"
            self._used[part, thread] = used

    def _keep(self, memory: dict[str, int]) -> None:
        for name, value in memory.items():
            self._most[name] = max(value, self._most.get(name, 0))
        entries = self._entries()
        last = self._memory[-1]["entries"] if self._memory else -STEP_ENTRIES
        if entries - last >= STEP_ENTRIES:
            self._memory.append({"entries": entries, **memory})

    def _entries(self) -> int:
        """Return how many entries stand in whole bundles."""
        count = 0
        for folder, _, files in os.walk(self.log / "tile" / "0"):
            count += 0 if folder.endswith(".p") else len(files)
        return count * WIDTH


def _memory(processes: Mapping[int, str]) -> dict[str, int]:
    total = {"PSS MiB": 0, "anonymous MiB": 0}
    for pid, role in processes.items():
        try:
            found = memory_of(pid)
        except OSError:  # it has just ended
            continue
        total["PSS MiB"] += found.pss // MIB
        total["anonymous MiB"] += found.anonymous // MIB
        if role in {CORE, DERIVING}:
            total[f"{role.rpartition('.')[2]} anonymous MiB"] = found.anonymous // MIB
    return total
