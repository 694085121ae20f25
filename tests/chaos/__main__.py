"""``python -m tests.chaos``: one chaos run from the command line. Root only; see README.md.

Exit code 0: nothing was violated; 1: something was, and the folder with the history is kept;
2: this machine cannot run it.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.records import keep_result
from tests.chaos.namespaces import NotPossibleError, check_possible, enter_private_mounts
from tests.chaos.run import Run, Settings, write_result

THREAD_TURN_S = 0.0005
"""The hub's thread must get its turn soon: each packet waits for it."""


def main() -> int:
    """Run, print, return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--nodes", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--pause", type=float, default=0.6, help="seconds between two operations")
    parser.add_argument("--episode-seconds-max", type=float, default=60.0)
    parser.add_argument("--only", action="append", default=[], help="leave out all other faults")
    parser.add_argument("--power-cuts", type=int, default=0, help="go on until there were so many")
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    parser.add_argument("--keep", action="store_true", help="with the results of the benchmarks")
    arguments = parser.parse_args()
    try:
        check_possible()
    except NotPossibleError as error:
        sys.stderr.write(f"chaos: {error}\n")
        return 2
    machine = describe_machine()
    enter_private_mounts()
    sys.setswitchinterval(THREAD_TURN_S)
    folder = Path(tempfile.mkdtemp(prefix="pyrsia-chaos-"))
    settings = Settings(
        members=arguments.nodes,
        seconds=arguments.seconds,
        power_cuts=arguments.power_cuts,
        seed=arguments.seed,
        pause_s=arguments.pause,
        episode_seconds_max=arguments.episode_seconds_max,
        only=tuple(arguments.only),
    )
    _say(f"chaos: seed {settings.seed}, {settings.members} nodes, {settings.seconds:g} s, {folder}")
    result = Run(folder, settings, _say).perform()
    kept = write_result(folder, result)
    if arguments.out is not None:
        shutil.copyfile(kept, arguments.out)
    if arguments.keep:
        keep_result("chaos", result, machine=machine, code=int(bool(result["violations"])))
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    if result["violations"]:
        _say(f"chaos: VIOLATIONS; seed {settings.seed}; history and logs are in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
