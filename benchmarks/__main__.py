"""Runs every benchmark, one process after the other: ``python -m benchmarks [--only NAME]``.

A benchmark is a module ``bench_NAME`` in ``macro`` (whole processes) or ``micro`` (one function):
run by itself it prints what it measured, takes ``--out FILE.json``, and ends with 1 if it missed a
target. Results are kept in ``results/NAME-DATE.json``, each with the machine that they hold for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.records import RESULTS, keep_result

FOLDER = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """Return modules by the names of the benchmarks, the quick ones first."""
    found = {}
    for kind in ("micro", "macro"):
        for path in sorted((FOLDER / kind).glob("bench_*.py")):
            found[path.stem.removeprefix("bench_")] = f"benchmarks.{kind}.{path.stem}"
    return found


def run(name: str, module: str, results: Path) -> int:
    """Run one benchmark, keep its result, and return its exit code."""
    print(f"\n== {name}", flush=True)
    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "result.json"
        words = [sys.executable, "-m", module, "--out", str(out)]
        code = subprocess.run(words, check=False).returncode
        measured: Any = json.loads(out.read_text()) if out.exists() else None
    if measured is None:
        print(f"{name} measured nothing: it ended with {code}")
        return code or 1
    keep_result(name, measured, machine=machine, code=code, folder=results)
    return code


def main() -> int:
    """Run what is asked for; exit 1 if a benchmark missed its target."""
    known = benchmarks()
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("--only", action="append", choices=sorted(known), metavar="NAME")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    chosen = arguments.only or list(known)
    codes = {name: run(name, known[name], arguments.results) for name in chosen}
    print("\n== summary")
    for name, code in codes.items():
        print(f"{name:12} {'met its targets' if code == 0 else f'exit {code}'}")
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main())
