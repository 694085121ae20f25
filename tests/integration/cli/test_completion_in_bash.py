"""Completion as a person meets it: a real bash on a terminal, and the tabulator key."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PYRSIA = Path(sys.executable).parent / "pyrsia"
TIMEOUT_S = 40
TO_LINE_START = "\x01"


class Terminal:
    """Where keys are typed and text is printed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def wait_for(self, pattern: str) -> str:
        """Return what the pattern's group finds in what is printed."""
        printed, end = "", time.monotonic() + TIMEOUT_S
        while (found := re.search(pattern, printed)) is None:
            assert time.monotonic() < end, f"{pattern!r} does not come: {printed!r}"
            if select.select([self._descriptor], [], [], 1)[0]:
                printed += os.read(self._descriptor, 4096).decode()
        return found[1]


@contextlib.contextmanager
def bash(folder: Path) -> Iterator[Terminal]:
    """Run a bash that completes ``pyrsia``."""
    own, its = pty.openpty()
    start = folder / "rc"
    start.write_text(f'PS1="ready> "\neval "$({PYRSIA} completion bash)"\n')
    process = subprocess.Popen(
        ["bash", "--rcfile", str(start), "-i"],
        env={"PATH": f"{PYRSIA.parent}:/usr/bin:/bin", "TERM": "dumb", "HOME": str(folder)},
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    try:
        terminal = Terminal(own)
        terminal.wait_for("(ready> )")
        yield terminal
    finally:
        process.kill()
        process.wait()
        os.close(own)


def test_tabulator_completes_command_field_and_value(tmp_path: Path) -> None:
    with bash(tmp_path) as terminal:
        # The value of a field is typed on without a space; a complete word is followed by one.
        terminal.type(f"pyrsia sear\tde\tsix status:rev\tend{TO_LINE_START}echo RESULT=\r")
        line = terminal.wait_for(r"\nRESULT=(.*?)\r\n")
        assert line == "pyrsia search dep:six status:revoked end"
