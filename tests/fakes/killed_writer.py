"""A process that writes until it is killed, and what it had acknowledged by then."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path


def told_until_killed(script: str, path: Path, *, lines: int = 50) -> list[int]:
    """Run a script on a path and kill it after so many lines; return every number it told.

    The script prints a number, in a line of its own, once what belongs to it is written.
    """
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        return told + [int(line) for line in process.stdout if line.endswith("\n")]
