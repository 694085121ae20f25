"""Join control groups, then become another program: ``enter_cgroups.py GROUP... -- COMMAND...``.

A program of its own, run by path in an isolated interpreter, because a process must join before it
starts anything; imports nothing of ours.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Write ourselves into each group and exec the command; ends by exec or by an exception."""
    split = arguments.index("--")
    for group in arguments[:split]:
        (Path(group) / "cgroup.procs").write_text("0")
    command = arguments[split + 1 :]
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
