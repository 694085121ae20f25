"""The Go program that reads our logs: built once a test session, from what is on this machine."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parent / "go"
GOPATH: Final = "/usr/share/gocode"  # where Debian's packages of Go libraries lie


@dataclass(frozen=True)
class Read:
    """What the reader answers about one folder."""

    code: int
    said: str


@dataclass(frozen=True)
class GoReader:
    """The built program."""

    program: Path

    def read(self, log: Path, *, policy: Path, proof: Path) -> Read:
        """Have it read a log, judged by a policy, and an offline proof."""
        words = [self.program, log, policy, proof]
        done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
        return Read(done.returncode, done.stdout + done.stderr)


def build_reader(folder: Path) -> GoReader:
    """Compile the reader into a folder; nothing is fetched."""
    program = folder / "reader"
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "GO111MODULE": "off",
        "GOPATH": GOPATH,
        "GOCACHE": str(folder / "cache"),
        "CGO_ENABLED": "0",
    }
    subprocess.run(["go", "build", "-o", program, "."], cwd=SOURCE, env=environment, check=True)
    return GoReader(program)
