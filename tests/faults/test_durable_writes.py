"""Durable writes fail, and what was acknowledged is there after the next start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOORS = {"pwrite", "fsync", "fdatasync", "rename", "replace", "unlink", "leveldb", "sqlite"}


def run(out: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--out", str(out), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    result: dict[str, Any] = json.loads(out.read_text())
    return result


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_some_durable_writes_fail_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    result = run(tmp_path / "out.json", "--every", "23", "--start", "11")
    assert set(result["writes_by_door"]) == DOORS
    assert result["wrong"] == []
    # Of each write's four failures three end in SIGKILL; the disk's refusal ends the process, too.
    assert result["ended_with"]["-9"] == 3 * result["cases"] // 4
    assert "0" not in result["ended_with"]


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_every_durable_write_fails_in_every_way_and_nothing_is_lost(tmp_path: Path) -> None:
    result = run(tmp_path / "out.json")
    assert result["cases"] == 4 * result["writes"]
    assert result["wrong"] == []
