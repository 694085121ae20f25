"""Of several attempts the nearest counts; a failure counts only where nothing was made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.worker.attempts import name_pipeline, nearest, refusing_format
from buildpipelines.worker.workspace import JobFolder

Outcome = tuple[int, ...] | str


def tried(
    folder: Path, outcomes: list[Outcome], is_late: Callable[[], bool] = lambda: False
) -> tuple[tuple[int, ...] | str, list[int]]:
    """Return what was chosen, or the cause, and the numbers of the attempts that ran."""
    numbers: list[int] = []

    async def attempt(number: int, outcome: Outcome) -> tuple[int, ...]:
        numbers.append(number)
        if isinstance(outcome, str):
            raise BuildFailure("BUILD_FAILED", outcome, "")
        return outcome

    async def run() -> tuple[int, ...]:
        job = JobFolder(folder)
        return await nearest(outcomes, attempt, job, levels=lambda b: b, is_late=is_late)

    try:
        return asyncio.run(run()), numbers
    except BuildFailure as failure:
        return failure.cause, numbers


@pytest.mark.parametrize(
    ("outcomes", "chosen", "numbers"),
    [
        ([(0,), (0,)], (0,), [1]),
        ([(1, 0), (0, 0)], (1, 0), [1]),
        ([(3, 3), (3, 0)], (3, 0), [1, 2]),
        ([(2,), (2,), (3,)], (2,), [1, 2, 3]),
        (["a", (3,)], (3,), [1, 2]),
        ([(3,), "b"], (3,), [1, 2]),
        (["a", "b"], "a", [1, 2]),
    ],
)
def test_nearest_attempt_is_taken_and_no_more_than_needed_are_made(
    tmp_path: Path, outcomes: list[Outcome], chosen: Outcome, numbers: list[int]
) -> None:
    assert tried(tmp_path, outcomes) == (chosen, numbers)


def test_late_in_a_job_no_other_attempt_is_begun(tmp_path: Path) -> None:
    assert tried(tmp_path, [(3,), (0,)], lambda: True) == ((3,), [1])
    assert tried(tmp_path, ["a", (0,)], lambda: True) == ("a", [1])


def test_failures_of_attempts_stand_in_the_log(tmp_path: Path) -> None:
    tried(tmp_path, ["no wheel", (0,)])
    assert JobFolder(tmp_path).log.read_text() == "--- attempt 1: BUILD_FAILED: no wheel\n"


def test_malformed_request_is_refused_in_its_own_words() -> None:
    def read() -> int:
        raise FormatError("field 'x' is odd")

    with pytest.raises(BuildFailure, match=r"REFUSED.*'x' is odd"):
        refusing_format(read)
    assert refusing_format(lambda: 5) == 5


def test_every_part_of_a_pipeline_is_in_its_digest() -> None:
    found = [
        name_pipeline("a", 1, {"rules": [1]}, guest=b"x"),
        name_pipeline("b", 1, {"rules": [1]}, guest=b"x"),
        name_pipeline("a", 2, {"rules": [1]}, guest=b"x"),
        name_pipeline("a", 1, {"rules": [2]}, guest=b"x"),
        name_pipeline("a", 1, {"rules": [1]}, guest=b"y"),
    ]
    assert len({str(each["digest"]) for each in found}) == 5
