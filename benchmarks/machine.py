"""The machine that a number holds for, and how busy it was."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from pathlib import Path


def describe_machine() -> dict[str, object]:
    """Return processor, memory, system and load, without anything that names the machine."""
    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(_field(Path("/proc/meminfo"), "MemTotal").split()[0]) // 1024,
        "system": platform.platform(),
        "python": platform.python_version(),
        "disk_free_gib": shutil.disk_usage(tempfile.gettempdir()).free // 1024**3,
        "load_before": round(os.getloadavg()[0], 2),
    }


def _field(file: Path, name: str) -> str:
    for line in file.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"
