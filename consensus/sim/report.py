"""Writes the summary of many runs as JSON, with the machine that they ran on."""

from __future__ import annotations

import json
import multiprocessing
import platform
from pathlib import Path

from consensus.sim.batch import Summary
from consensus.sim.clock import SECOND


def write_results(
    path: str, options: dict[str, object], summary: Summary, elapsed_s: float
) -> None:
    """Write one dated result file; an older one of that name is replaced."""
    text = {
        "machine": {
            "cores": multiprocessing.cpu_count(),
            "python": platform.python_version(),
            "system": platform.system(),
        },
        "options": {name: str(value) for name, value in sorted(options.items()) if value},
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
        "schedules_by_actor": dict(sorted(summary.actors.items())),
        "work_done_after_gst_s": {
            "median": summary.recovery_us(50) / SECOND,
            "p99": summary.recovery_us(99) / SECOND,
            "worst": summary.recovery_us_max / SECOND,
        },
        "link_bytes_per_second_max": summary.link_bytes_per_second,
        "core_memory_bytes_max": summary.footprint_bytes,
    }
    Path(path).write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
