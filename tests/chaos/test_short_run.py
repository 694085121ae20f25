"""One minute of everything with four nodes; `make chaos` is the long one. Root only."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.stage import ROOT


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_a_minute_of_faults_loses_nothing_and_stops_nobody(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    seed = secrets.randbits(32)
    command = [
        sys.executable,
        "-m",
        "tests.chaos",
        "--nodes",
        "4",
        "--seconds",
        "60",
        "--power-cuts",
        "1",
    ]
    done = subprocess.run(
        [*command, "--seed", str(seed), "--episode-seconds-max", "5", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"seed {seed}\n{done.stderr}\n{done.stdout}"
    result = json.loads(out.read_text())
    assert result["violations"] == []
    assert result["acknowledged"] > 0
    assert result["happened"]["power cut"] >= 1
