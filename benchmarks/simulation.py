"""Keeps what the long run of the simulator came to, and tells it in docs/benchmarks.md.

``python -m benchmarks.simulation FOLDER...`` reads FOLDER/progress.jsonl, of a run that is complete
or under way, adds its chunks up, writes ``results/simulation-DATE.json`` and puts the tables
between the two marks of the page. Rates are per minute of one core's work, so a busy machine does
not change them. Of several folders the last one that has a part tells of it: so a part can be run
again after a change that cannot touch the others. Run it on the machine that did the work.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.records import RESULTS, keep_result
from consensus.sim.mutants import MUTANTS
from consensus.sim.nightly import PROGRESS
from consensus.sim.parts import PARTS, Counts, is_complete, merged, number, table, texts

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN = "<!-- simulation: made by benchmarks.simulation -->"
END = "<!-- end of simulation -->"

TITLES = {
    "planted_bugs": "planted bugs",
    "forks": "forks by more than f traitors",
    "real_signatures": "schedules, real Ed25519",
    "schedules": "schedules, keyed hash",
}


class ResultError(Exception):
    """There is nothing to tell, or no place for it; the text says why."""


def main(arguments: list[str] | None = None) -> int:
    """Keep and tell a run; exit 1 if it found something or is not complete, 2 if there is none."""
    options = _parser().parse_args(arguments)
    try:
        parts = read_folders(options.folders)
        put_between(options.page, tables(parts))
    except (ResultError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    machine = describe_machine()
    if options.python:
        machine["python"] = options.python
    findings = [text for part in PARTS for text in part.failures(parts[part.name], 1.0)]
    keep_result(
        "simulation", parts, machine=machine, code=int(bool(findings)), folder=options.results
    )
    print("\n".join(findings) or "complete, nothing found")
    return int(bool(findings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation", description=__doc__)
    parser.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="where a long run keeps its progress",
    )
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--python", help="the interpreter of the run, if it was another one")
    return parser


def read_folders(folders: Iterable[Path]) -> dict[str, Counts]:
    """Return each part as the last folder has it that has any of it.

    Raises:
        ResultError: one of them has no progress file.
    """
    found: dict[str, Counts] = {}
    for folder in folders:
        for name, counts in read_parts(folder / PROGRESS).items():
            if name not in found or "code" in counts:
                found[name] = counts
    return found


def read_parts(progress: Path) -> dict[str, Counts]:
    """Return what each part came to so far, by name; a last line cut off by a kill is left out.

    A part of which anything was run also says by which ``code``.

    Raises:
        ResultError: no progress file.
    """
    text = progress.read_text(encoding="utf-8")
    try:
        head, *lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        chunks = sorted((line["part"], line["chunk"], json.dumps(line["counts"])) for line in lines)
        code = str(head["code"])
    except (ValueError, KeyError, TypeError) as error:
        raise ResultError(f"{progress} is no progress file: {error}") from error
    parts: dict[str, Counts] = {part.name: merged(()) for part in PARTS}
    for name in {name for name, _, _ in chunks} & parts.keys():
        counts = merged(json.loads(text) for one, _, text in chunks if one == name)
        parts[name] = {**counts, "code": code}
    return parts


def put_between(page: Path, text: str) -> None:
    """Replace what stands between the two marks of a page.

    Raises:
        ResultError: the page does not have both marks once, in order.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ResultError(f"{page} has no place for it: {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def tables(parts: Mapping[str, Counts]) -> str:
    """Return the tables of a run as Markdown: what was run, how it ended, and the planted bugs."""
    bugs = table(parts["planted_bugs"], "caught_after")
    caught_as = dict(text.split(": ", 1) for text in texts(parts["planted_bugs"], "caught_as"))
    run = _table(
        ("part", "done", "of", "violations and stalls", "a core-minute", "figures"),
        (_row(part.name, parts[part.name]) for part in reversed(PARTS)),
    )
    planted = _table(
        ("planted bug", "schedule", "caught as"),
        ((name, str(bugs[name]), caught_as.get(name, "")) for name in sorted(bugs)),
    )
    of = f"{len(bugs)} of {len(MUTANTS)}"
    return f"{run}\n\nPlanted bugs, {of} caught; the schedule that showed each first:\n\n{planted}"


def _row(name: str, counts: Counts) -> tuple[str, ...]:
    part = next(one for one in PARTS if one.name == name)
    done = number(counts, part.counted)
    cpu_s = counts.get("cpu_s", 0)
    assert isinstance(cpu_s, (int, float))
    rate = f"{number(counts, 'runs') / cpu_s * 60:,.0f}" if cpu_s and "runs" in counts else ""
    return (
        _title(name),
        f"{done:,}",
        f"{part.target:,}" + ("" if is_complete(part, counts) else ", under way"),
        str(len(texts(counts, "violations"))),
        rate,
        "; ".join(_figures(counts)),
    )


def _title(name: str) -> str:
    if name.startswith("twins_"):
        _, members, rounds = name.split("_")
        return f"Twins, n = {members}, {rounds} rounds"
    return TITLES[name]


def _figures(counts: Counts) -> Iterable[str]:
    """Yield what is worth telling of a part beside its size."""
    if "heights" in counts:
        changed, traitors = number(counts, "with_changes"), number(counts, "with_traitors")
        yield f"{number(counts, 'heights'):,} heights"
        yield f"{changed:,} with changes of the set"
        yield f"{traitors:,} with traitors"
        yield f"{number(counts, 'with_lost_logs'):,} with a lost log"
        yield _images(counts)
        tenths = table(counts, "recovery_tenths")
        worst_s = number(counts, "recovery_us_max") / 1_000_000
        yield (
            f"after the network settled, work was done in {_median(tenths):.1f} s (median),"
            f" {worst_s:.1f} s (worst)"
        )
    if "events" in counts:
        yield f"{number(counts, 'events') / 1e6:,.1f} million events"
    if "view_max" in counts:
        yield f"highest view {number(counts, 'view_max')}"
    if "forks" in counts:
        named = table(counts, "culprits_named")
        yield ", ".join(f"{key}: {named[key]}" for key in sorted(named, key=_by_size))
        yield f"honest accused: {number(counts, 'honest_accused')}"


def _images(counts: Counts) -> str:
    """Tell of the runs that no stall is counted against: exactly those with an image put back.

    Runs that were made before ``unfinished`` was counted do not say how many of these waited.
    """
    told = f"{number(counts, 'with_images'):,} with an image put back, exempt from the stall check"
    if "unfinished" in counts:
        told += f" ({number(counts, 'unfinished'):,} of them waited for ever)"
    return told


def _by_size(key: str) -> tuple[int, str]:
    return int(key.rpartition(" ")[2]), key


def _median(tenths: Mapping[str, int]) -> float:
    """Return the median of a table that counts by tenths of a second, in seconds."""
    left = sum(tenths.values()) / 2
    for key in sorted(tenths, key=int):
        left -= tenths[key]
        if left <= 0:
            return int(key) / 10
    return 0.0


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
