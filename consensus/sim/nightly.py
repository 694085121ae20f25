"""The long run: ``python -m consensus.sim.nightly DIR``, resumable, on several processes.

It has parts (schedules, Twins scenarios, real signatures, forks, planted bugs), each part is cut
into chunks, and a chunk is a pure function of its number. What a chunk came to is one line in
``DIR/progress.jsonl``, written before the next is waited for; a run that is killed at any moment
goes on behind its last whole line. Lines of other code are not mixed in: the file begins with the
hash of the simulator and the core that made it.

Exit code 0 if every part is complete and found nothing that it should not, else 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import platform
import sys
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import consensus
from consensus.sim.parts import (
    PARTS,
    Counts,
    Part,
    is_complete,
    merged,
    number,
    run_chunk,
    texts,
)

PROGRESS = "progress.jsonl"
RESULT = "nightly.json"


class ProgressError(Exception):
    """The progress file is not one that this run can go on with; the text says why."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    if not __debug__:
        print("consensus.sim checks by assertions: run it without -O", file=sys.stderr)
        return 2
    options = _parser().parse_args(arguments)
    try:
        progress = Progress(Path(options.folder))
    except ProgressError as error:
        print(error, file=sys.stderr)
        return 2
    for part in PARTS:
        if not options.parts or part.name in options.parts.split(","):
            _run_part(part.scaled(options.scale), progress, options.jobs)
    summary = progress.summary()
    Path(options.folder, RESULT).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    failures = [
        f"{part.name}: {text}"
        for part in PARTS
        for text in part.failures(progress.counts(part), options.scale)
    ]
    for failure in failures:
        print(failure)
    print("nothing found" if not failures else f"{len(failures)} findings")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m consensus.sim.nightly", description=__doc__)
    parser.add_argument("folder", help="where progress and result are kept")
    parser.add_argument("--jobs", type=int, default=1, help="processes to use")
    parser.add_argument("--parts", default="", help="only these, separated by commas")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="fraction of the whole, for a trial"
    )
    return parser


class Progress:
    """The progress file: every chunk that is done, by part and number."""

    def __init__(self, folder: Path) -> None:
        """Read what is there, or begin a new file.

        Raises:
            ProgressError: the file is of other code, or no progress file.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / PROGRESS
        self._code = code_hash()
        self._done: dict[str, dict[int, Counts]] = {}
        if not self._path.exists():
            self._append({"code": self._code})
        self._load()

    def has(self, part: Part, chunk: int) -> bool:
        """Say whether a chunk is done."""
        return chunk in self._done.get(part.name, {})

    def counts(self, part: Part) -> Counts:
        """Return what the chunks of a part came to together, in their order."""
        done = self._done.get(part.name, {})
        return merged(done[chunk] for chunk in sorted(done))

    def add(self, part: Part, chunk: int, counts: Counts) -> None:
        """Note a chunk, durably."""
        self._append({"part": part.name, "chunk": chunk, "counts": counts})
        self._done.setdefault(part.name, {})[chunk] = counts

    def summary(self) -> dict[str, object]:
        """Return everything as one result, with the machine that it was found on."""
        return {
            "machine": {
                "cores": multiprocessing.cpu_count(),
                "python": platform.python_version(),
                "system": platform.system(),
            },
            "code": self._code,
            "parts": {part.name: self.counts(part) for part in PARTS},
        }

    def _append(self, line: dict[str, object]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _load(self) -> None:
        """Read the file; a last line that was cut off by a kill is dropped, and the file mended."""
        text = self._path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            self._path.write_text(whole, encoding="utf-8")
        try:
            head, *lines = [json.loads(line) for line in whole.splitlines()]
            code = head["code"]
            for line in lines:
                self._done.setdefault(line["part"], {})[line["chunk"]] = line["counts"]
        except (ValueError, KeyError, TypeError) as error:
            raise ProgressError(f"{self._path} is no progress file: {error}") from error
        if code != self._code:
            raise ProgressError(f"{self._path} was begun by other code: name another folder")


def code_hash() -> str:
    """Return a hash over the source of the core and the simulator."""
    root = Path(consensus.__file__).parent
    text = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        content = file.read_bytes()
        text.update(f"{file.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return text.hexdigest()


def _run_part(part: Part, progress: Progress, jobs: int) -> None:
    """Run the chunks that are missing, in order, until the part is complete."""
    began = time.monotonic()
    for chunk, counts in _results(part, progress, jobs):
        progress.add(part, chunk, counts)
        total = progress.counts(part)
        for violation in texts(counts, "violations"):
            print(f"VIOLATION in {part.name}: {violation}", flush=True)
        print(
            f"{time.monotonic() - began:8.0f} s  {part.name}:"
            f" {number(total, part.counted)}/{part.target} {part.counted},"
            f" {len(texts(total, 'violations'))} violations{_exempt_words(total)}",
            flush=True,
        )


def _exempt_words(total: Counts) -> str:
    """Say how many of the runs could not stall, where there are such."""
    count = number(total, "exempt")
    waited = number(total, "unfinished")
    return f", {count} exempt from the stall check, {waited} of them waited" if count else ""


def _results(part: Part, progress: Progress, jobs: int) -> Iterator[tuple[int, Counts]]:
    """Yield results in order of chunks; some more than needed are under way, and are dropped."""
    numbers = (chunk for chunk in range(part.chunks_max) if not progress.has(part, chunk))
    # Fresh interpreters: nothing that this process holds can leak into a run.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        under_way: deque[tuple[int, Future[Counts]]] = deque()
        while not is_complete(part, progress.counts(part)):
            while len(under_way) < 2 * jobs and (chunk := next(numbers, None)) is not None:
                under_way.append((chunk, pool.submit(run_chunk, part.name, chunk)))
            if not under_way:
                break
            chunk, future = under_way.popleft()
            yield chunk, future.result()
        pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
