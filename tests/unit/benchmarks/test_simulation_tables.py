"""The long run's progress becomes a kept result and two tables of the page, complete or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.simulation import (
    BEGIN,
    END,
    ResultError,
    main,
    put_between,
    read_folders,
    read_parts,
    tables,
)
from consensus.sim.nightly import PROGRESS

RUN = {
    "runs": 100, "with_changes": 50, "with_traitors": 80, "with_lost_logs": 7, "with_images": 4,
    "heights": 420, "events": 200_000, "frames": 190_000, "view_max": 12,
    "recovery_us_max": 18_200_000, "recovery_tenths": {"2": 60, "11": 30, "182": 10},
    "cpu_s": 60.0, "violations": [],
}  # fmt: skip

LINES = (
    {"code": "abc"},
    {"part": "schedules", "chunk": 1, "counts": {**RUN, "view_max": 9}},
    {"part": "schedules", "chunk": 0, "counts": RUN},
    {"part": "twins_4_3", "chunk": 0, "counts": {"runs": 80, "cpu_s": 1.5, "violations": []}},
    {
        "part": "forks",
        "chunk": 0,
        "counts": {
            "runs": 21, "forks": 20, "culprits_named": {"2 of 2 at n = 4": 20},
            "honest_accused": 0, "violations": [],
        },
    },
    {
        "part": "planted_bugs",
        "chunk": 3,
        "counts": {
            "caught": 1, "caught_after": {"no-wal": 1}, "caught_as": ["no-wal: vote not durable"],
            "violations": [],
        },
    },
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = "".join(json.dumps(line) + "\n" for line in LINES)
    (tmp_path / PROGRESS).write_text(lines + '{"part": "schedules", "chu')
    (tmp_path / "page.md").write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    return tmp_path


def _tell(folder: Path) -> int:
    return main([str(folder), "--page", str(folder / "page.md"), "--results", str(folder / "kept")])


def test_chunks_add_up_and_a_line_cut_off_is_left_out(folder: Path) -> None:
    parts = read_parts(folder / PROGRESS)
    assert parts["schedules"]["runs"] == 200
    assert parts["schedules"]["view_max"] == 12
    assert parts["real_signatures"] == {"violations": []}


def test_the_last_folder_that_has_a_part_tells_of_it(folder: Path) -> None:
    again = folder / "again"
    again.mkdir()
    lines = ({"code": "def"}, {"part": "schedules", "chunk": 0, "counts": {**RUN, "runs": 7}})
    (again / PROGRESS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    parts = read_folders([folder, again])
    assert (parts["schedules"]["runs"], parts["schedules"]["code"]) == (7, "def")
    assert (parts["twins_4_3"]["runs"], parts["twins_4_3"]["code"]) == (80, "abc")


def test_the_table_says_what_was_done_and_how_much_is_missing(folder: Path) -> None:
    text = tables(read_parts(folder / PROGRESS))
    assert (
        "| schedules, keyed hash | 200 | 100,000, under way | 0 | 100 | 840 heights;"
        " 100 with changes of the set; 160 with traitors; 14 with a lost log;"
        " 8 with an image put back, exempt from the stall check;"
        " after the network settled, work was done in 0.2 s (median), 18.2 s (worst);"
        " 0.4 million events; highest view 12 |"
    ) in text
    assert "| Twins, n = 4, 3 rounds | 80 | 40,000, under way | 0 | 3,200 |" in text
    assert "2 of 2 at n = 4: 20; honest accused: 0 |" in text
    assert "| no-wal | 1 | vote not durable |" in text


def test_the_page_keeps_what_is_around_the_marks_and_telling_twice_changes_nothing(
    folder: Path,
) -> None:
    assert _tell(folder) == 1, "not complete"
    once = (folder / "page.md").read_text()
    assert once.startswith(f"before\n{BEGIN}\n\n| part |")
    assert once.endswith(f"|\n\n{END}\nafter\n")
    assert "old" not in once
    _tell(folder)
    assert (folder / "page.md").read_text() == once


def test_a_finding_is_kept_and_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = {"part": "real_signatures", "chunk": 0, "counts": {"runs": 500, "violations": ["fork"]}}
    whole = (folder / PROGRESS).read_text().rpartition("\n")[0]
    (folder / PROGRESS).write_text(f"{whole}\n{json.dumps(bad)}\n")
    assert _tell(folder) == 1
    assert "fork" in capsys.readouterr().out.splitlines()
    (kept,) = (folder / "kept").iterdir()
    assert json.loads(kept.read_text())["exit"] == 1


def test_the_table_says_how_many_of_the_exempt_waited_where_that_was_counted(folder: Path) -> None:
    parts = read_parts(folder / PROGRESS)
    text = tables({**parts, "schedules": {**parts["schedules"], "exempt": 8, "unfinished": 3}})
    assert "; 8 with an image put back, exempt from the stall check (3 of them waited for" in text


@pytest.mark.parametrize("text", ["", "no json\n", '{"code": "abc"}\n[]\n'])
def test_what_is_no_progress_is_named(
    text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / PROGRESS).write_text(text)
    assert _tell(folder) == 2
    assert "no progress file" in capsys.readouterr().err


def test_a_page_without_marks_is_left_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"only {BEGIN}")
    with pytest.raises(ResultError, match="no place"):
        put_between(page, "text")
    assert page.read_text() == f"only {BEGIN}"
