"""What one sandboxed build may use. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Bounds of one build; sizes in bytes, times in seconds.

    ``idle_seconds`` is the longest silence: no log line, no request, no new stage.
    ``memory_bytes`` covers all processes and the sandbox's file systems where a cgroup counts
    them; otherwise each process alone, and a watcher sums them up.
    """

    seconds: float = 3600.0
    idle_seconds: float = 900.0
    memory_bytes: int = 4096 * MIB
    processes: int = 512
    build_bytes: int = 4096 * MIB
    tmp_bytes: int = 1024 * MIB
    output_bytes: int = 256 * MIB
    log_bytes: int = 16 * MIB
