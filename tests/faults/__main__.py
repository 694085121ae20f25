"""``python -m tests.faults``: fail every durable write of three blocks, in every way. See README.

Exit code 0: everything held after every failure. The folder of a case that failed is kept.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.records import keep_result
from tests.faults.matrix import Case, Matrix, cases


def main() -> int:
    """Run, print, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="only each so manyth write")
    parser.add_argument("--start", type=int, default=1, help="the first write that fails")
    parser.add_argument("--only", type=Case.parse, action="append", help="one case, as 17:refused")
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    parser.add_argument("--keep", action="store_true", help="with the results of the benchmarks")
    arguments = parser.parse_args()
    machine = describe_machine()
    started_s = time.perf_counter()
    folder = Path(tempfile.mkdtemp(prefix="pyrsia-faults-"))
    matrix = Matrix(folder)
    writes = matrix.writes()
    chosen = arguments.only or [*cases(len(writes), every=arguments.every, start=arguments.start)]
    outcomes = []
    for case in chosen:
        outcome = matrix.run(case)
        outcomes.append(outcome)
        if outcome.wrong:
            where = writes[case.fail_at - 1]
            sys.stdout.write(f"WRONG {case} ({where}), ended with {outcome.ended}:\n")
            sys.stdout.writelines(f"    {each}\n" for each in outcome.wrong)
            sys.stdout.flush()
    wrong = [outcome for outcome in outcomes if outcome.wrong]
    result = {
        "writes": len(writes),
        "writes_by_door": dict(collections.Counter(each.split(" ")[0] for each in writes)),
        "cases": len(outcomes),
        "ended_with": {
            str(code): count
            for code, count in sorted(collections.Counter(o.ended for o in outcomes).items())
        },
        "wrong": [str(outcome.case) for outcome in wrong],
        "seconds": round(time.perf_counter() - started_s, 1),
        "processor_seconds": round(sum(os.times()[:4]), 1),
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.keep:
        keep_result("faults", result, machine=machine, code=int(bool(wrong)))
    if wrong:
        sys.stdout.write(f"faults: what the cases left is in {folder}\n")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
