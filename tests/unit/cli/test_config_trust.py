"""``pyrsia config trust``: whoever gives the network id decides, never the node."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.main import cli
from pyrsia_cli.settings import load_settings
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog.trust import TrustFile
from tests.strategies.identities import genesis_of, identities

GENESIS = genesis_of(identities(4))
TRUST = TrustFile(GENESIS.encode()).encode()
NETWORK_ID = GENESIS.network_id.hex()


class _Node(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = self.path == "/api/v1/trust"
        self.send_response(200 if found else 404)
        self.send_header("content-length", str(len(TRUST) if found else 0))
        self.end_headers()
        self.wfile.write(TRUST if found else b"")

    def log_message(self, *_args: object) -> None:
        """Say nothing: the tests' output is not the place."""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Path]:
    """Run a node that gives its trust file; yield the path of settings that name it."""
    with HTTPServer(("127.0.0.1", 0), _Node) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        path = tmp_path / "pyrsia.toml"
        path.write_text(f"port = {server.server_port}\n")
        yield path
        server.shutdown()
        thread.join()


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
