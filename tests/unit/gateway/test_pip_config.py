"""The upstream is the index that pip would use on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from pyrsia_node.gateway.pip_config import pip_index_url


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def none(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which no file of this machine counts."""
    return {"XDG_CONFIG_DIRS": str(tmp_path / "none")}


def test_environment_wins(tmp_path: Path) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = http://file/\n")
    environment = {"PIP_INDEX_URL": "http://environment/", **none(tmp_path)}
    assert pip_index_url(environment, tmp_path) == "http://environment/"


def test_named_file_is_the_only_one(tmp_path: Path) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = http://home/\n")
    write(tmp_path / "mine", "[global]\nindex-url = http://mine/\n")
    assert pip_index_url({"PIP_CONFIG_FILE": str(tmp_path / "mine")}, tmp_path) == "http://mine/"
    assert pip_index_url({"PIP_CONFIG_FILE": "/dev/null"}, tmp_path) == PYPI_SIMPLE_ENDPOINT


def test_later_files_and_the_narrower_section_win(tmp_path: Path) -> None:
    environment = {"XDG_CONFIG_DIRS": str(tmp_path / "xdg")}
    write(tmp_path / "xdg/pip/pip.conf", "[global]\nindex-url = http://site/\n")
    write(tmp_path / ".pip/pip.conf", "[global]\nindex-url = http://old/\n")
    assert pip_index_url(environment, tmp_path) == "http://old/"
    write(
        tmp_path / ".config/pip/pip.conf",
        "[global]\nindex-url = http://new/\n[install]\nindex-url = http://narrow/\n",
    )
    assert pip_index_url(environment, tmp_path) == "http://narrow/"


@pytest.mark.parametrize("text", ["not a file of settings", "[global]\nx = 1\n", "\xff"])
def test_file_without_the_setting_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine").write_bytes(text.encode("latin-1"))
    environment = {"PIP_CONFIG_FILE": str(tmp_path / "mine")}
    assert pip_index_url(environment, tmp_path) == PYPI_SIMPLE_ENDPOINT
