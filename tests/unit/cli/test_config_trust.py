"""``pyrsia config trust``: whoever gives the network id decides, never the node."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.main import cli
from pyrsia_cli.settings import load_settings
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog.trust import TrustFile
from tests.fakes.node_that_answers import Said, node_that_answers
from tests.strategies.identities import genesis_of, identities

GENESIS = genesis_of(identities(4))
TRUST = TrustFile(GENESIS.encode()).encode()
NETWORK_ID = GENESIS.network_id.hex()


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Path]:
    """Run a node that gives its trust file; yield the path of settings that name it."""

    def answer(_method: str, path: str, _body: bytes) -> Said:
        return (200, TRUST) if path == "/api/v1/trust" else (404, b"")

    with node_that_answers(tmp_path, answer) as path:
        yield path


def trust(settings: Path, *words: str) -> Result:
    return CliRunner(env={"PYRSIA_CONFIG": str(settings)}).invoke(cli, ["config", "trust", *words])


def test_nodes_trust_file_is_taken_when_its_network_is_the_one_expected(settings: Path) -> None:
    result = trust(settings, "--from-node", "--network-id", NETWORK_ID)
    assert result.exit_code == 0, result.output
    kept = Path(load_settings(settings).trust)
    assert kept.read_bytes() == TRUST


def test_nodes_trust_file_of_another_network_is_refused_and_nothing_is_kept(settings: Path) -> None:
    expected = "ab" * 32
    result = trust(settings, "--from-node", "--network-id", expected)
    assert isinstance(result.exception, VerificationError)
    assert expected in str(result.exception)
    assert NETWORK_ID in str(result.exception)
    assert load_settings(settings).trust == ""
    assert list(settings.parent.iterdir()) == [settings]


@pytest.mark.parametrize("words", [(), ("--from-node",), ("file", "--from-node")])
def test_node_never_vouches_for_itself(settings: Path, words: tuple[str, ...]) -> None:
    assert isinstance(trust(settings, *words).exception, InvalidInputError)
    assert load_settings(settings).trust == ""
