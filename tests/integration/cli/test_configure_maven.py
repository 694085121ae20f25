"""``pyrsia configure maven`` on real files: diff, backup, links, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.main import cli
from pyrsia_node.model.errors import InvalidInputError

MINE = """<?xml version="1.0"?>
<settings>
  <!-- mine -->
  <servers><server><id>team</id><password>s3cret</password></server></servers>
</settings>
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = tmp_path / "pyrsia.toml"
    settings.write_text("port = 7999\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYRSIA_CONFIG", str(settings))
    return tmp_path


def configure(*words: str) -> Result:
    return CliRunner().invoke(cli, ["configure", "maven", *words])


def written(home: Path, text: str) -> Path:
    path = home / ".m2" / "settings.xml"
    path.parent.mkdir()
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_node_goes_in_with_diff_and_backup_and_out_to_the_byte(home: Path) -> None:
    path = written(home, MINE)
    shown = configure("--dry-run")
    assert "+      <url>http://127.0.0.1:7999/maven2</url>" in shown.output
    assert path.read_text() == MINE
    assert "written; backup:" in configure().output
    assert "<mirrorOf>*</mirrorOf>" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name("settings.xml.before-pyrsia").read_text() == MINE
    assert "nothing to change" in configure().output
    assert configure("--remove").exit_code == 0
    assert path.read_text() == MINE


def test_file_that_only_the_node_needed_is_gone_again(home: Path) -> None:
    assert configure("--mirror-of", "central").exit_code == 0
    path = home / ".m2" / "settings.xml"
    assert "<mirrorOf>central</mirrorOf>" in path.read_text()
    assert "nothing was left in it" in configure("--remove").output
    assert not path.exists()


def test_link_to_a_file_elsewhere_stays_a_link(home: Path) -> None:
    real = home / "dotfiles.xml"
    real.write_text(MINE)
    path = home / ".m2" / "settings.xml"
    path.parent.mkdir()
    path.symlink_to(real)
    configure()
    assert path.is_symlink()
    assert "pyrsia" in real.read_text()


@pytest.mark.parametrize("text", ["<settings>", "<project/>", "<!DOCTYPE x><settings/>"])
def test_file_that_does_not_parse_is_left_alone(home: Path, text: str) -> None:
    path = written(home, text)
    for words in ((), ("--remove",)):
        error = configure(*words).exception
        assert isinstance(error, InvalidInputError)
        assert str(path) in str(error)
    assert path.read_text() == text
    assert not path.with_name("settings.xml.before-pyrsia").exists()


def test_what_fetches_past_the_node_is_said(home: Path) -> None:
    mirror = "<mirror><id>x</id><mirrorOf>central</mirrorOf><url>https://x.example</url></mirror>"
    written(home, f"<settings><mirrors>{mirror}</mirrors></settings>")
    assert "warning: this fetches past the node: mirror x of central" in configure().output


def test_another_file_may_be_named(home: Path) -> None:
    configure("--file", str(home / "other.xml"))
    assert "pyrsia" in (home / "other.xml").read_text()
    assert not (home / ".m2").exists()
