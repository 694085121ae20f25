"""Writes what many runs came to as JSON, with the machine that they ran on.

One file holds several sections, so that the runs of one day stand together.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
from pathlib import Path

from consensus.sim.batch import Summary
from consensus.sim.clock import SECOND
from consensus.sim.gate import Caught

Section = dict[str, object]


def write_section(path: str, name: str, section: Section) -> None:
    """Put ``section`` into the result file ``path``, beside the sections that it has."""
    file = Path(path)
    text = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    text["machine"] = {
        "cores": multiprocessing.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
    }
    text[name] = section
    file.write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")


def runs_section(options: dict[str, object], summary: Summary, elapsed_s: float) -> Section:
    """Return the section of a run of many schedules."""
    return {
        "options": _options(options),
        "schedules": summary.runs,
        "violations": [
            {"rule": one.rule, "detail": one.detail, "repeat": one.job.command()}
            for one in summary.failures
        ],
        "elapsed_s": round(elapsed_s, 1),
        "schedules_per_minute": round(summary.runs / elapsed_s * 60),
        "events": summary.events,
        "frames": summary.frames,
        "heights": summary.heights,
        "view_max": summary.view_max,
        "schedules_with_traitors": summary.with_traitors,
        "forks_with_too_many_traitors": summary.forks,
        "exempt_from_the_stall_check": summary.exempt,
        "unfinished_among_the_exempt": summary.unfinished,
        "schedules_by_actor": dict(sorted(summary.actors.items())),
        "work_done_after_gst_s": {
            "median": summary.recovery_us(50) / SECOND,
            "p99": summary.recovery_us(99) / SECOND,
            "worst": summary.recovery_us_max / SECOND,
        },
        "link_bytes_per_second_max": summary.link_bytes_per_second,
        "core_memory_bytes_max": summary.footprint_bytes,
    }


def gate_section(options: dict[str, object], found: dict[str, Caught | None]) -> Section:
    """Return the section of a hunt for planted bugs."""
    return {
        "options": _options(options),
        "schedules_to_first_detection": {
            name: None if caught is None else caught.schedules for name, caught in found.items()
        },
        "detected_as": {
            name: caught.result.rule for name, caught in found.items() if caught is not None
        },
        "repeat": {
            name: caught.result.job.command()
            for name, caught in found.items()
            if caught is not None
        },
    }


def _options(options: dict[str, object]) -> dict[str, str]:
    return {
        name: str(getattr(value, "value", value))
        for name, value in sorted(options.items())
        if value and name != "results"
    }
