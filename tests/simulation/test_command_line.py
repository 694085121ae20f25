"""``python -m consensus.sim``: what it prints, and its exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from consensus.sim.__main__ import main


def test_one_seed_is_told_and_ends_with_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--n", "4", "--trace"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert any("boots at height 1" in line for line in told)
    assert any("votes to NOTARIZE 1/" in line for line in told)
    assert any("COMMITS 1" in line for line in told)
    assert told[-1].startswith("seed 3, n = 4: ")


def test_without_trace_only_the_summary_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--n", "4"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_violation_ends_with_1_and_the_line_that_repeats_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--schedules", "4", "--n", "4", "--mutant", "quorum-minus-one"]
    assert main(arguments) == 1
    told = capsys.readouterr().out
    assert "VIOLATION certificate without a quorum" in told
    repeat = "python -m consensus.sim --seed 0 --n 4 --mutant quorum-minus-one --trace"
    assert repeat in told
    assert main(repeat.split()[3:]) == 1
    assert "VIOLATION certificate without a quorum" in capsys.readouterr().out


def test_many_runs_are_counted_and_written_down(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    results = tmp_path / "sim.json"
    for signatures in ("keyed", "real"):
        arguments = ["--schedules", "6", "--seed", "40", "--results", str(results)]
        assert main([*arguments, "--signatures", signatures]) == 0
    assert "no violation, no stall" in capsys.readouterr().out
    written = json.loads(results.read_text())
    assert set(written) == {"machine", "schedules_keyed", "schedules_real"}
    assert written["schedules_real"]["schedules"] == 6
    assert written["schedules_real"]["violations"] == []


def test_exempt_schedules_are_counted_by_their_plans_and_told_beside_the_stalls(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--seed", "0", "--schedules", "30", "--n", "4"]  # 3 and 28 put an image back
    assert main([*arguments, "--exempt"]) == 0
    assert capsys.readouterr().out == "2 of 30 schedules are exempt from the stall check\n"
    assert main(arguments) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told.startswith("no violation, no stall; 2 of 30 schedules are exempt from the stall")
    assert re.fullmatch(r".* wait for ever, and [0-2] of them waited", told)


def test_two_processes_come_to_the_same_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    told = []
    for jobs in ("1", "2"):
        assert main(["--schedules", "8", "--jobs", jobs]) == 0
        told.append(capsys.readouterr().out.splitlines()[-2:])
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "arguments", [["--signatures", "none"], ["--mutant", "unheard-of"], ["--seed", "x"]]
)
def test_a_wrong_option_is_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert arguments[0] in capsys.readouterr().err
