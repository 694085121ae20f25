"""The upstream is pip's main index, wherever pip would find it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from buildpipelines.inputs.pipconf import index_settings

CONF = "[global]\nindex-url = https://conf.example/simple\ncert = /certs.pem\nextra-index-url = x\n"


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(folder), "PIP_CONFIG_FILE": str(folder / "pip.conf"), **more}


def test_argument_beats_environment_beats_file(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(CONF)
    env = environ(tmp_path)
    assert index_settings(env).url == "https://conf.example/simple/"
    assert index_settings(env).certificates == "/certs.pem"
    env |= {"PIP_INDEX_URL": "https://env.example/simple/"}
    assert index_settings(env).url == "https://env.example/simple/"
    assert index_settings(env, index_url="https://arg.example").url == "https://arg.example/"


def test_default_is_pips_own_and_never_an_extra_index(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text("[global]\nextra-index-url = https://extra.example/\n")
    settings = index_settings({"PIP_CONFIG_FILE": "/dev/null", "HOME": str(tmp_path)})
    assert settings.url.rstrip("/") == PYPI_SIMPLE_ENDPOINT.rstrip("/")
    assert settings.certificates is None


@pytest.mark.parametrize("text", ["not an ini file", "[global]\nindex-url", "\0"])
def test_file_that_does_not_parse_is_left_to_pip(tmp_path: Path, text: str) -> None:
    (tmp_path / "pip.conf").write_text(text)
    env = environ(tmp_path, PIP_INDEX_URL="https://env.example/simple")
    assert index_settings(env).url == "https://env.example/simple/"
