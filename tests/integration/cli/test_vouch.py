"""``pyrsia-node vouch``: a person's word, where nothing else shows that data are no old copy."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from consensus.types import Height
from pyrsia_node.cli.main import cli
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.replica.boot_mark import BootMark, Continuity, Position
from pyrsia_node.replica.silence import Silence, SilenceFile
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.keys import KeyUse, load_keys

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


def judged(root: Path) -> Continuity:
    """Return what the machine knows of a directory's log, for the key that is in it."""
    key = load_keys(Layout(root).node_key).public(KeyUse.VOTE)
    return BootMark(root, key).judge(AT)


def test_new_keys_are_vouched_for_and_a_copy_of_them_is_not(copied: Path) -> None:
    assert judged(copied.with_name("made")) is Continuity.WHOLE
    assert judged(copied) is Continuity.UNKNOWN


def test_older_keys_in_a_new_directory_are_not_vouched_for(tmp_path: Path) -> None:
    """Restoring a member means: ``init``, and then its own keys from the backup over the new."""
    for name in ("old", "new"):
        run("init", "--data", tmp_path / name, "--label", "north", "--role", "authorized")
    assert judged(tmp_path / "new") is Continuity.WHOLE
    key = Layout(tmp_path / "old").node_key.relative_to(tmp_path / "old")
    shutil.copy(tmp_path / "old" / key, tmp_path / "new" / key)
    assert judged(tmp_path / "new") is Continuity.UNKNOWN


def test_keys_for_a_rotation_are_vouched_for_where_they_were_made(tmp_path: Path) -> None:
    run("init", "--data", tmp_path / "a", "--label", "north", "--role", "authorized")
    assert run("rotate-key", "--data", tmp_path / "a").exit_code == 0
    layout = Layout(tmp_path / "a")
    layout.next_key.replace(layout.node_key)
    assert judged(layout.root) is Continuity.WHOLE


def test_nobodys_word_brings_forgotten_votes_back(copied: Path) -> None:
    layout = Layout(copied)
    key = load_keys(layout.node_key).public(KeyUse.VOTE)
    SilenceFile(layout.wal).write(Silence(key, "the log is cut short", None))
    result = run("vouch", "--data", copied, "--yes")
    assert isinstance(result.exception, InvalidInputError)
    assert "the log is cut short" in str(result.exception)
    assert judged(copied) is Continuity.UNKNOWN
    SilenceFile(layout.wal).write(Silence(key, "the log is cut short", Height(9)))
    assert run("vouch", "--data", copied, "--yes").exit_code == 0


def test_who_says_yes_vouches_and_who_does_not_changes_nothing(copied: Path) -> None:
    refused = run("vouch", "--data", copied, answer="n\n")
    assert refused.exit_code != 0
    assert "put back from a backup, an image or a snapshot?" in " ".join(refused.output.split())
    assert judged(copied) is Continuity.UNKNOWN
    assert run("vouch", "--data", copied, answer="y\n").exit_code == 0
    assert judged(copied) is Continuity.WHOLE


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
