"""Commands that read the log go on when members change, by what the old members certified."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.api import NodeApi
from pyrsia_cli.commands.watch import Watcher
from pyrsia_cli.delivery import Event
from pyrsia_cli.main import cli
from pyrsia_cli.proving import HeadNotProvedError, Prover
from pyrsia_cli.settings import load_settings
from pyrsia_cli.watch_state import WatchState
from pyrsia_node.schema.http import BlockPosition, Entry, Search
from pyrsia_node.schema.leaf_content import files_of
from pyrsia_node.tlog.trust import TrustFile
from tests.strategies.identities import Identity, identities
from tests.strategies.set_changes import ChangingSet
from tests.strategies.small_logs import SmallLog, accepted, document, wheel

EIGHT = identities(8)
OLD, NEW = EIGHT[:4], EIGHT[4:]
LEAF = accepted(document("pkg:pypi/six@1.17.0", wheel("six-1.17.0.tar.gz")), OLD)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Say nothing: the tests' output is not the place."""


class Node:
    """Serves one search answer and a trust file, the way a node does."""

    def __init__(self, folder: Path, port: int) -> None:
        self.net = ChangingSet.start(OLD)
        self.served = folder / "served" / "api" / "v1"
        self.served.mkdir(parents=True)
        self.mine = folder / "mine.trust"
        self.settings = folder / "pyrsia.toml"
        self.mine.write_bytes(self.trust_file())
        self.settings.write_text(f'port = {port}\ntrust = "{self.mine}"\n')

    def trust_file(self) -> bytes:
        return TrustFile(self.net.genesis.encode(), tuple(self.net.changes)).encode()

    def publish(self, size: int, signers: tuple[Identity, ...], *, tells_sets: bool = True) -> None:
        """Answer every search with the last leaf of a log of ``size``, as ``signers`` cosign it."""
        leaves = [*(str(each).encode() for each in range(size - 1)), LEAF]
        log = SmallLog(self.net.genesis.origin, leaves)
        signed = log.signed(signers)
        content = json.loads(LEAF)
        hit = Entry(
            index=size - 1,
            type="accepted",
            leaf=content,
            purl="pkg:pypi/six@1.17.0",
            files=files_of(content),
            block=BlockPosition(height=1, time_ms=1),
            proof=log.proof(size - 1, signed).encode().decode(),
        )
        root = signed.checkpoint.root.hex()
        stamp = {"as_of": size, "size": size, "root": root, "complete": True, "order": "log"}
        answer = Search.model_validate({**stamp, "hits": [hit]})
        (self.served / "search").write_text(json.dumps(answer.dump()))
        if tells_sets:
            (self.served / "trust").write_bytes(self.trust_file())

    def pyrsia(self, *words: str) -> Result:
        return CliRunner(env={"PYRSIA_CONFIG": str(self.settings)}).invoke(cli, words)


def watch(
    api: NodeApi,
    prover: Prover,
    delivered: list[Event],
    state: WatchState,
    *,
    retries: int,
    sleep: Callable[[float], None],
) -> Watcher:
    return Watcher(
        api=api,
        prover=prover,
        query="six",
        deliver=delivered.append,
        state=state,
        retries=retries,
        with_proof=False,
        sleep=sleep,
    )


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    handler = partial(_Quiet, directory=str(tmp_path / "served"))
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Node(tmp_path, server.server_port)
        server.shutdown()
        thread.join()


def test_search_goes_on_after_the_members_changed_and_leaves_the_trust_file_alone(
    node: Node,
) -> None:
    before = node.mine.read_bytes()
    node.net.change(NEW)
    node.publish(12, NEW)
    found = node.pyrsia("search", "six", "--format", "json")
    assert found.exit_code == 0, found.output
    assert json.loads(found.output)["hits"][0]["index"] == 11
    assert node.mine.read_bytes() == before


def test_search_names_trust_update_where_the_node_proves_no_change(node: Node) -> None:
    node.publish(5, OLD)
    node.net.change(NEW)
    node.publish(12, NEW, tells_sets=False)
    refused = node.pyrsia("search", "six")
    assert isinstance(refused.exception, HeadNotProvedError)
    assert "signed by no known key" in str(refused.exception)
    assert "pyrsia trust update" in str(refused.exception)


def test_a_change_that_the_old_members_did_not_certify_moves_no_reader(node: Node) -> None:
    node.net.change(NEW, signers=OLD[:2])
    node.publish(12, NEW)
    refused = node.pyrsia("search", "six")
    assert isinstance(refused.exception, HeadNotProvedError)
    assert "asked for changes of the set" in str(refused.exception)


def test_running_watch_goes_on_over_a_change_of_the_set(node: Node) -> None:
    node.publish(5, OLD)
    delivered: list[Event] = []
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        """While the watch waits, the node learns to prove the change."""
        slept.append(seconds)
        node.publish(12, NEW)

    with NodeApi(load_settings(node.settings)) as api:
        state = WatchState(None, "", "six", -1)
        prover = Prover(api, node.mine)
        watcher = watch(api, prover, delivered, state, retries=3, sleep=sleep)
        watcher.catch_up()
        node.net.change(NEW)
        node.publish(12, NEW, tells_sets=False)
        watcher.catch_up()
    assert [event.index for event in delivered] == [4, 11]
    assert slept == [1.0]
    assert state.cursor == 11


def test_watch_takes_the_sets_that_trust_update_brought_meanwhile(node: Node) -> None:
    node.publish(5, OLD)
    delivered: list[Event] = []
    with NodeApi(load_settings(node.settings)) as api:
        prover = Prover(api, node.mine)
        state = WatchState(None, "", "six", -1)
        watcher = watch(api, prover, delivered, state, retries=0, sleep=lambda _s: None)
        node.net.change(NEW)
        node.publish(12, NEW, tells_sets=False)
        with pytest.raises(HeadNotProvedError):
            watcher.catch_up()
        node.mine.write_bytes(node.trust_file())
        watcher.catch_up()
    assert [event.index for event in delivered] == [11]
