"""The long run: killed at any moment it goes on where it was, and comes to the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consensus.sim.nightly import PROGRESS, RESULT, main
from consensus.sim.parts import PARTS, Counts, merged, number, run_chunk

pytestmark = pytest.mark.timeout(240)
TRIAL = ["--parts", "twins_4_2", "--scale", "0.05"]


def _result(folder: Path) -> Counts:
    counts: Counts = json.loads((folder / RESULT).read_text())["parts"]["twins_4_2"]
    return {name: value for name, value in counts.items() if name != "cpu_s"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    main([str(folder), *TRIAL])
    return folder


def test_every_chunk_is_kept_and_the_parts_not_run_are_missing(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / PROGRESS).write_bytes((whole / PROGRESS).read_bytes())
    assert main([str(tmp_path), *TRIAL]) == 1
    assert "schedules: incomplete: 0 of 5000" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / PROGRESS).read_text().splitlines()]
    assert [line["chunk"] for line in lines[1:]] == [0, 1]
    assert number(_result(tmp_path), "runs") >= 2_853 * 0.05
    assert _result(tmp_path)["violations"] == []


def test_a_run_that_was_cut_off_in_a_line_comes_to_the_same(whole: Path, tmp_path: Path) -> None:
    kept = (whole / PROGRESS).read_text()
    (tmp_path / PROGRESS).write_text(kept[: len(kept) - 40])
    main([str(tmp_path), *TRIAL])
    assert _result(tmp_path) == _result(whole)
    for line in (tmp_path / PROGRESS).read_text().splitlines():
        json.loads(line)


def test_progress_of_other_code_is_not_mixed_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / PROGRESS).write_text('{"code": "of yesterday"}\n')
    assert main([str(tmp_path), *TRIAL]) == 2
    assert "other code" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["no json\n", '{"part": 1}\n', "[]\n", ""])
def test_a_file_that_is_no_progress_is_named(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / PROGRESS).write_text(text)
    assert main([str(tmp_path), *TRIAL]) == 2
    assert PROGRESS in capsys.readouterr().err


def test_a_chunk_is_a_function_of_its_number() -> None:
    first, again = (run_chunk("twins_4_2", 26) for _ in range(2))
    del first["cpu_s"], again["cpu_s"]
    assert first == again
    assert number(first, "runs") > 0


def test_counts_add_up_by_their_kind() -> None:
    one: Counts = {"runs": 1, "view_max": 7, "by_size": {"4": 1}, "violations": ["a"]}
    two: Counts = {"runs": 2, "view_max": 3, "by_size": {"4": 1, "7": 1}, "violations": []}
    assert merged([one, two]) == {
        "runs": 3, "view_max": 7, "by_size": {"4": 2, "7": 1}, "violations": ["a"]
    }  # fmt: skip
    assert one["by_size"] == {"4": 1}, "what is added up stays as it was"


def test_the_parts_are_as_large_as_promised() -> None:
    targets = {part.name: part.target for part in PARTS}
    assert targets["schedules"] >= 100_000
    assert sum(target for name, target in targets.items() if name.startswith("twins")) >= 100_000
    assert targets["real_signatures"] >= 500
    assert targets["forks"] >= 200
    assert targets["planted_bugs"] >= 20
