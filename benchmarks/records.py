"""Keeps what was measured, with the machine that it holds for: ``results/NAME-DATE.json``."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def keep_result(
    name: str,
    measured: object,
    *,
    machine: Mapping[str, object],
    code: int,
    folder: Path = RESULTS,
) -> Path:
    """Write a result beside the others; return its file. A second one of the day replaces it."""
    date = dt.datetime.now(dt.UTC).date().isoformat()
    document = {"name": name, "date": date, "machine": machine, "exit": code, "measured": measured}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{date}.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path
