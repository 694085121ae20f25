"""What is shipped for operators must not rot: it is loaded here as a node would load it."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from pyrsia_node.schema import exit_codes
from pyrsia_node.schema.config import parse_config
from pyrsia_node.schema.reference import config_reference

REPOSITORY = Path(__file__).parents[3]


@pytest.mark.parametrize("path", sorted((REPOSITORY / "deploy/config").glob("*.toml")), ids=str)
def test_shipped_configuration_is_valid(path: Path) -> None:
    parse_config(path.read_text(), source=path.name)


def test_there_is_an_example_for_each_role() -> None:
    texts = [path.read_text() for path in (REPOSITORY / "deploy/config").glob("*.toml")]
    assert {parse_config(text).node.role for text in texts} == {"authorized", "regular"}


def test_reference_says_what_the_program_does() -> None:
    assert (REPOSITORY / "docs/reference/config.md").read_text() == config_reference()


def unit() -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.read(REPOSITORY / "deploy/systemd/pyrsia-node.service")
    return parser


def test_service_is_not_restarted_when_the_node_refuses_to_run() -> None:
    codes = {int(code) for code in unit()["Service"]["RestartPreventExitStatus"].split()}
    assert codes == exit_codes.REFUSALS


def test_service_does_not_forbid_what_builds_need() -> None:
    service = unit()["Service"]
    # The parser reads keys in any case.
    for option in ("RestrictNamespaces", "ProtectProc", "ProtectControlGroups"):
        assert option not in service
    assert service["Delegate"].split() == ["memory", "pids"]
