"""What the command line takes, and what it says about the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from pyrsia_cli.commands.log import _check_asked
from pyrsia_cli.dependencies import parse_report
from pyrsia_cli.main import cli
from pyrsia_cli.settings import Settings, edited, load_settings, save_settings
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError, UnavailableError, VerificationError
from pyrsia_node.model.purl import Purl

ENVIRONMENT = {"COLUMNS": "100"}


def invoke(*arguments: str, config: Path) -> BaseException | None:
    environment = {**ENVIRONMENT, "PYRSIA_CONFIG": str(config)}
    return CliRunner(env=environment).invoke(cli, list(arguments)).exception


@pytest.mark.parametrize("name", ["six", "six>=1", "six==1.*", "six==1,==2", "==1", "six @ x"])
def test_a_build_needs_exactly_one_pinned_version(name: str, tmp_path: Path) -> None:
    error = invoke("build", "pypi", name, config=tmp_path / "c.toml")
    assert isinstance(error, InvalidInputError)
    assert name in str(error)


def test_a_requirements_file_is_refused_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("six==1.17.0 \\\n  --hash=sha256:00\n# a comment\nattrs>=20\n")
    error = invoke("build", "pypi", "-r", str(file), config=tmp_path / "c.toml")
    assert "requirements.txt:4" in str(error)


def test_all_wrong_settings_are_named_and_nothing_is_changed() -> None:
    with pytest.raises(InvalidInputError) as caught:
        edited(Settings(), {"host": "a b", "port": 70000, "x": 1}, source="here")
    assert all(name in str(caught.value) for name in ("host", "port", "x: unknown"))


def test_settings_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "pyrsia.toml"
    settings = Settings(host="node.test", port=1, trust="/a b/c.trust", token_file='q"uote')
    save_settings(path, settings)
    assert load_settings(path) == settings


def test_no_node_is_an_error_that_says_where_it_was_looked_for(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    save_settings(config, Settings(port=1))
    error = invoke("ping", config=config)
    assert isinstance(error, UnavailableError)
    assert "127.0.0.1:1" in str(error)


def test_without_a_trust_file_nothing_from_the_log_is_shown(tmp_path: Path) -> None:
    error = invoke("inspect-log", "pypi", "six", config=tmp_path / "c.toml")
    assert isinstance(error, InvalidInputError)
    assert "whom do you trust" in str(error)


@pytest.mark.parametrize("command", [[], ["build"], ["build", "pypi"], ["inspect-log"], ["config"]])
def test_every_command_explains_itself(command: list[str]) -> None:
    result = CliRunner(env=ENVIRONMENT).invoke(cli, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_pips_report_becomes_pins_with_dependencies_first() -> None:
    report = (
        '{"install":[{"metadata":{"name":"Requests","version":"2"}},'
        '{"metadata":{"name":"idna","version":"3"}}]}'
    )
    assert parse_report(report) == [("idna", "3"), ("requests", "2")]


@pytest.mark.parametrize("text", ["", "[]", '{"install":1}', '{"install":[{}]}'])
def test_a_malformed_report_of_pip_is_an_input_error(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_report(text)


def test_a_leaf_about_another_package_is_no_answer() -> None:
    six = Purl.pypi("six", "1.17.0")
    _check_asked([{"purl": str(six)}, {"doc": {"purl": str(six)}}, {"t": "attest_batch"}], six)
    _check_asked([{"purl": str(six)}], Purl.pypi("six"))
    with pytest.raises(VerificationError, match="pkg:pypi/idna"):
        _check_asked([{"purl": "pkg:pypi/idna@3.10"}], six)


def test_answer_about_an_artifact_may_hold_the_mappings_that_fit_it() -> None:
    tool = Purl.maven("org.example", "tool", "2.0")
    fitting: list[JsonObject] = [
        {"t": "add_source", "pattern": "pkg:maven/org.example/tool"},
        {"t": "add_source", "pattern": "pkg:maven/org.example/*"},
    ]
    _check_asked(fitting, tool)
    _check_asked(fitting, tool.without_version())
    for pattern in ("pkg:maven/org.example/other", "pkg:maven/org/*", "*"):
        with pytest.raises(VerificationError, match="with a leaf about"):
            _check_asked([{"t": "add_source", "pattern": pattern}], tool)


@pytest.mark.parametrize(
    "words",
    [
        ("authorize", "--record", "FILE"),
        ("config", "trust", "FILE"),
        ("trust", "show", "FILE"),
        ("search", "six", "--trust", "FILE"),
    ],
)
def test_a_file_of_another_kind_is_named(words: tuple[str, ...], tmp_path: Path) -> None:
    wrong = tmp_path / "hostname"
    wrong.write_text("vm\n")
    arguments = [str(wrong) if word == "FILE" else word for word in words]
    error = invoke(*arguments, config=tmp_path / "c.toml")
    assert isinstance(error, InvalidInputError)
    assert str(wrong) in str(error)


def test_what_is_no_peer_id_is_said_before_a_node_is_asked(tmp_path: Path) -> None:
    error = invoke("authorize", "--peer", "abc", config=tmp_path / "c.toml")
    assert isinstance(error, InvalidInputError)
    assert "'abc' is no peer id" in str(error)
