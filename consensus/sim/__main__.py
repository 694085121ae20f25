"""The command ``python -m consensus.sim``: one run told, many runs counted, planted bugs hunted.

Exit code 0 if nothing was found (or, with ``--mutants``, everything was), else 1 with the line
that repeats the first finding.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator

from consensus.sim.batch import Job, Summary, exempt, run_all, run_job
from consensus.sim.clock import SECOND
from consensus.sim.gate import Caught, hunt
from consensus.sim.mutants import MUTANTS
from consensus.sim.report import gate_section, runs_section, write_section
from consensus.sim.schedule import Signatures
from consensus.sim.stage import Stage
from consensus.sim.twins import Cast

PROGRESS_S = 10.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    if not __debug__:
        print("consensus.sim checks by assertions: run it without -O", file=sys.stderr)
        return 2
    options = _parser().parse_args(arguments)
    if options.mutants:
        return _hunt_all(options)
    if options.twins is not None:
        return _play_one(options)
    if options.exempt:
        return _count_exempt(options)
    if options.schedules is None and options.seed is not None:
        return _tell_one(options)
    return _run_many(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m consensus.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this seed alone, or start from it")
    parser.add_argument("--trace", action="store_true", help="tell the story of the run")
    parser.add_argument("--schedules", type=int, help="how many runs in all (1,000 without --seed)")
    parser.add_argument("--n", default="4,7", help="sizes of the cluster, separated by commas")
    parser.add_argument("--byzantine", default="f", help="most traitors: a number, or f")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument(
        "--signatures",
        type=Signatures,
        default=Signatures.KEYED,
        choices=tuple(Signatures),
        metavar="real|keyed",
        help="Ed25519, or the keyed hash in its place",
    )
    parser.add_argument("--twins", metavar="N,PAIRS,ROUNDS", help="play Twins scenario --seed")
    parser.add_argument(
        "--exempt",
        action="store_true",
        help="run nothing: count the schedules whose log may wait for ever, by their plans",
    )
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="plant this bug")
    parser.add_argument("--mutants", action="store_true", help="hunt every planted bug")
    parser.add_argument(
        "--blind", action="store_true", help="judge by what leaves the nodes, not by their disks"
    )
    parser.add_argument("--budget", type=int, default=800, help="runs for one planted bug")
    parser.add_argument("--results", metavar="FILE", help="add to a JSON summary")
    return parser


def _jobs(options: argparse.Namespace) -> Iterator[Job]:
    sizes = [int(size) for size in options.n.split(",")]
    traitors_max = None if options.byzantine == "f" else int(options.byzantine)
    for position in itertools.count():
        yield Job(
            seed=(options.seed or 0) + position // len(sizes),
            n=sizes[position % len(sizes)],
            signatures=options.signatures,
            traitors_max=traitors_max,
            mutant=options.mutant,
            sees_disks=not options.blind,
        )


def _tell_one(options: argparse.Namespace) -> int:
    job = next(_jobs(options))
    outcome = run_job(job, print if options.trace else None)
    print(
        f"seed {job.seed}, n = {job.n}: {outcome.heights} heights, {outcome.events} events,"
        f" {outcome.frames} frames, highest view {outcome.view_max},"
        f" all work done {outcome.recovery_us / SECOND:.3f} s after it could be;"
        f" digest {outcome.digest}"
    )
    if outcome.violation is not None:
        print(f"VIOLATION {outcome.violation}")
        return 1
    return 0


def _play_one(options: argparse.Namespace) -> int:
    n, pairs, rounds = (int(part) for part in options.twins.split(","))
    cast, number = Cast(n, pairs, rounds), options.seed or 0
    for view, one in enumerate(cast.scenario(number)):
        print(f"round {view}: n{one.leader} leads; copies are in parts {one.parts}")
    played = Stage(cast, number, print if options.trace else None).play()
    print(f"{played.frames} frames, highest view {played.view_max}; digest {played.digest}")
    if played.violation is not None:
        print(f"VIOLATION {played.violation}")
        return 1
    return 0


def _count_exempt(options: argparse.Namespace) -> int:
    total = _total(options)
    found = exempt(itertools.islice(_jobs(options), total))
    print(f"{found} of {total} schedules are exempt from the stall check")
    return 0


def _run_many(options: argparse.Namespace) -> int:
    summary = Summary()
    total = _total(options)
    began = reported = time.monotonic()
    jobs = itertools.islice(_jobs(options), total)
    for result in run_all(jobs, processes=options.jobs):
        summary.add(result)
        if result.rule:
            print(f"VIOLATION {result.rule}: {result.detail}\n  {result.job.command()}", flush=True)
        now = time.monotonic()
        if now - reported >= PROGRESS_S:
            reported = now
            print(_progress(summary, total, now - began), flush=True)
    elapsed = time.monotonic() - began
    print(_progress(summary, total, elapsed))
    print(
        f"{summary.heights} heights, {summary.events} events, {summary.frames} frames;"
        f" highest view {summary.view_max}; work done after GST: median"
        f" {summary.recovery_us(50) / SECOND:.1f} s, 99 % {summary.recovery_us(99) / SECOND:.1f} s,"
        f" worst {summary.recovery_us_max / SECOND:.1f} s; {summary.with_traitors} with traitors"
    )
    if options.results:
        name = f"schedules_{options.signatures.value}"
        write_section(options.results, name, runs_section(vars(options), summary, elapsed))
    if summary.failures:
        print(f"{len(summary.failures)} violations; repeat the first with")
        print(f"  {summary.failures[0].job.command()}")
        return 1
    if summary.forks:
        print(
            f"{summary.forks} forks, each of which convicts more than f members and no honest one"
        )
    print(f"no violation, no stall{_exempt_words(summary)}")
    return 0


def _total(options: argparse.Namespace) -> int:
    return 1_000 if options.schedules is None else int(options.schedules)


def _exempt_words(summary: Summary) -> str:
    """Say of how many runs the second half of "no violation, no stall" says nothing."""
    if not summary.exempt:
        return ""
    return (
        f"; {summary.exempt} of {summary.runs} schedules are exempt from the stall check, for their"
        f" log may wait for ever, and {summary.unfinished} of them waited"
    )


def _progress(summary: Summary, total: int, elapsed: float) -> str:
    rate = summary.runs / elapsed * 60 if elapsed else 0.0
    return (
        f"{summary.runs}/{total} schedules, {rate:.0f} a minute,"
        f" {summary.events / elapsed if elapsed else 0.0:.0f} events/s,"
        f" {len(summary.failures)} violations"
    )


def _hunt_all(options: argparse.Namespace) -> int:
    sizes = tuple(int(size) for size in options.n.split(","))
    found: dict[str, Caught | None] = {}
    for name in sorted(MUTANTS):
        caught = hunt(
            name,
            sizes,
            first=options.seed or 0,
            budget=options.budget,
            processes=options.jobs,
            sees_disks=not options.blind,
        )
        print(_caught_line(name, caught, options.budget), flush=True)
        found[name] = caught
    if options.results:
        section = "planted_bugs_blind" if options.blind else "planted_bugs"
        write_section(options.results, section, gate_section(vars(options), found))
    survivors = [name for name, caught in found.items() if caught is None]
    if survivors:
        print(f"{len(survivors)} planted bugs survived: {', '.join(survivors)}")
        return 1
    print(f"all {len(MUTANTS)} planted bugs caught")
    return 0


def _caught_line(name: str, caught: Caught | None, budget: int) -> str:
    if caught is None:
        return f"{name:36s} SURVIVED {budget} schedules"
    return f"{name:36s} caught by schedule {caught.schedules:4d}: {caught.result.rule}"


if __name__ == "__main__":
    sys.exit(main())
