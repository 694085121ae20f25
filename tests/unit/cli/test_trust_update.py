"""``pyrsia trust``: news is taken only where it holds; otherwise nothing moves."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.main import cli
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog.trust import TrustFile
from tests.strategies.identities import Identity, identities
from tests.strategies.set_changes import ChangingSet
from tests.strategies.small_logs import SmallLog

FOUR = identities(4)
FIVE = identities(5)
WHENEVER = ("--max-age", str(10**9))
"""The cosignatures of these logs are from a fixed time long ago."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Say nothing: the tests' output is not the place."""


class Node:
    """Serves a folder the way a node serves its log and its trust file."""

    def __init__(self, folder: Path, port: int) -> None:
        self.net = ChangingSet.start(FOUR)
        self.folder = folder
        self.mine = folder / "mine.trust"
        self.settings = folder / "pyrsia.toml"
        self.mine.write_bytes(TrustFile(self.net.genesis.encode()).encode())
        self.settings.write_text(f'port = {port}\ntrust = "{self.mine}"\n')

    def publish(self, size: int, signers: tuple[Identity, ...], *, mark: str = "") -> None:
        log = SmallLog(self.net.genesis.origin, [f"{mark}{each}".encode() for each in range(size)])
        TileWriter(self.folder / "log").extend(log.leaves)
        (self.folder / "log" / "checkpoint").write_bytes(log.signed(signers).encode())
        trust = self.folder / "api" / "v1" / "trust"
        trust.parent.mkdir(parents=True, exist_ok=True)
        file = TrustFile(self.net.genesis.encode(), tuple(self.net.changes))
        trust.write_bytes(file.encode())

    def run(self, *words: str) -> Result:
        env = {"PYRSIA_CONFIG": str(self.settings)}
        return CliRunner(env=env).invoke(cli, ["trust", *words])

    def held(self) -> dict[str, object]:
        shown = self.run("show", "--format", "json")
        assert shown.exit_code == 0, shown.output
        found = json.loads(shown.output)
        assert isinstance(found, dict)
        return found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    handler = partial(_Quiet, directory=str(tmp_path))
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Node(tmp_path, server.server_port)
        server.shutdown()
        thread.join()


def test_update_follows_set_changes_and_heads_of_the_node(node: Node) -> None:
    node.publish(5, FOUR)
    assert node.run("update", *WHENEVER).exit_code == 0
    assert node.held()["largest head seen"] == 5
    node.net.change(FIVE, blocks=1)
    node.publish(300, FIVE)
    result = node.run("update", *WHENEVER)
    assert result.exit_code == 0, result.output
    assert "1 new set(s) of members, size 300, epoch 1" in result.output
    held = node.held()
    assert (held["epoch"], held["quorum"], held["largest head seen"]) == (1, 4, 300)
    assert held["members"] == [one.member.record.label for one in FIVE]


def test_update_refuses_rollback_fork_and_stale_heads_and_keeps_what_it_had(node: Node) -> None:
    node.publish(20, FOUR)
    assert node.run("update", *WHENEVER).exit_code == 0
    held = node.held()
    for size, mark, reason in ((10, "", "went back"), (30, "x", "forked")):
        for tile in sorted((node.folder / "log").rglob("*"), reverse=True):
            tile.unlink() if tile.is_file() else tile.rmdir()
        node.publish(size, FOUR, mark=mark)
        refused = node.run("update", *WHENEVER)
        assert isinstance(refused.exception, VerificationError)
        assert reason in str(refused.exception)
        assert node.held() == held
    stale = node.run("update")
    assert isinstance(stale.exception, VerificationError)
    assert node.held() == held


def test_update_from_a_file_needs_no_node(node: Node) -> None:
    for members in (FIVE, FIVE[1:]):
        node.net.change(members)
    brought = node.folder / "colleague.trust"
    changes = tuple(node.net.changes)
    brought.write_bytes(TrustFile(node.net.genesis.encode(), changes).encode())
    result = node.run("update", "--from", str(brought))
    assert result.exit_code == 0, result.output
    assert node.held()["epoch"] == 2
    brought.write_bytes(TrustFile(node.net.genesis.encode(), changes[1:]).encode())
    fresh = node.folder / "fresh.trust"
    fresh.write_bytes(TrustFile(node.net.genesis.encode()).encode())
    before = fresh.read_bytes()
    refused = node.run("update", str(fresh), "--from", str(brought))
    assert isinstance(refused.exception, VerificationError)
    assert fresh.read_bytes() == before


def test_policy_is_exported_for_the_current_members(node: Node) -> None:
    policy = node.run("export-policy")
    assert policy.exit_code == 0
    assert policy.output.splitlines()[-1] == "quorum quorum-rule"
    assert "group quorum-rule 3 " in policy.output


def test_missing_trust_file_is_named(node: Node) -> None:
    refused = node.run("show", str(node.folder / "none.trust"))
    assert isinstance(refused.exception, InvalidInputError)
    assert "none.trust cannot be read" in str(refused.exception)
    node.settings.write_text("port = 1\n")
    assert "whom do you trust?" in str(node.run("show").exception)
