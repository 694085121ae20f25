"""pip's and uv's files: the node goes in once, and out without a trace."""

from __future__ import annotations

import configparser
import tomllib

import pytest

from pyrsia_cli import clients
from pyrsia_node.model.errors import InvalidInputError

URL = "http://127.0.0.1:7888/pypi/simple/"
PIP = """# mine
[global]
timeout = 60
index-url = https://example.test/simple
[install]
no-binary = x
"""


def test_pip_gets_the_node_as_its_only_index() -> None:
    parsed = configparser.ConfigParser()
    parsed.read_string(clients.pip_with(PIP, URL))
    assert parsed["global"]["index-url"] == URL
    assert parsed["global"]["timeout"] == "60"
    assert parsed["install"]["no-binary"] == "x"


@pytest.mark.parametrize("text", ["", PIP, "[install]\na = b\n", "[global]\n"])
def test_configuring_pip_twice_is_configuring_it_once(text: str) -> None:
    once = clients.pip_with(text, URL)
    assert clients.pip_with(once, URL) == once


@pytest.mark.parametrize("text", ["", PIP, "[install]\na = b\n", "[global]\ntimeout = 3\n"])
def test_taking_the_node_out_of_pip_gives_back_what_was_there(text: str) -> None:
    assert clients.pip_without(clients.pip_with(text, URL)) == text


def test_extra_indexes_of_pip_are_named_because_they_bypass_the_node() -> None:
    text = "[global]\nextra-index-url = https://other.test/simple\nfind-links = /x\n"
    assert len(clients.pip_bypasses(clients.pip_with(text, URL))) == 2


def test_uv_gets_the_node_as_its_default_index() -> None:
    text = 'cache-dir = "/tmp/x"\n[pip]\nsystem = true\n'
    parsed = tomllib.loads(clients.uv_with(text, URL))
    assert parsed["index"] == [{"name": "pyrsia", "url": URL, "default": True}]
    assert parsed["pip"] == {"system": True}


def test_a_second_default_index_of_uv_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="default index already"):
        clients.uv_with('[[index]]\nurl = "https://x.test/"\ndefault = true\n', URL)


@pytest.mark.parametrize("text", ["", 'cache-dir = "x"\n', "[pip]\nsystem = true\n\n"])
def test_taking_the_node_out_of_uv_gives_back_what_was_there(text: str) -> None:
    once = clients.uv_with(text, URL)
    assert clients.uv_with(once, URL) == once
    assert clients.uv_without(once) == text
