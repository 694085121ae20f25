"""``pyrsia-node vouch``: a person's word, where nothing else shows that data are no old copy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_node.cli.main import cli
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.replica.boot_mark import BootMark, Continuity, Position

AT = Position(9, 4)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A data directory that somebody has copied to another place."""
    made = tmp_path / "made"
    assert run("init", "--data", made, "--label", "north", "--role", "authorized").exit_code == 0
    copy = tmp_path / "copy"
    shutil.copytree(made, copy, ignore=shutil.ignore_patterns("*.sock"))
    return copy


def run(*arguments: str | Path, answer: str = "") -> Result:
    return CliRunner().invoke(cli, [str(each) for each in arguments], input=answer)


def test_new_keys_are_vouched_for_and_a_copy_of_them_is_not(copied: Path) -> None:
    assert BootMark(copied.with_name("made")).judge(AT) is Continuity.WHOLE
    assert BootMark(copied).judge(AT) is Continuity.UNKNOWN


def test_who_says_yes_vouches_and_who_does_not_changes_nothing(copied: Path) -> None:
    refused = run("vouch", "--data", copied, answer="n\n")
    assert refused.exit_code != 0
    assert "put back from a backup, an image or a snapshot?" in " ".join(refused.output.split())
    assert BootMark(copied).judge(AT) is Continuity.UNKNOWN
    assert run("vouch", "--data", copied, answer="y\n").exit_code == 0
    assert BootMark(copied).judge(AT) is Continuity.WHOLE


def test_word_can_be_given_without_a_question_and_twice(copied: Path) -> None:
    for _ in range(2):
        result = run("vouch", "--data", copied, "--yes")
        assert result.exit_code == 0
        assert "until this machine is started again" in result.output


def test_only_the_directorys_owner_can_vouch_for_it(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    result = run("vouch", "--data", copied, "--yes")
    assert isinstance(result.exception, InvalidInputError)
    assert "run this as" in str(result.exception)


def test_what_is_no_data_directory_is_not_vouched_for(tmp_path: Path) -> None:
    result = run("vouch", "--data", tmp_path, "--yes")
    assert isinstance(result.exception, NotFoundError)
