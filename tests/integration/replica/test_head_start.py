"""What a node without history believes: proofs, whoever sends them, and hints of nobody."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.publish import read_checkpoint
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model.errors import NotFoundError, UnavailableError
from pyrsia_node.model.leaves import Accepted, decode_outcome
from pyrsia_node.ports import PeerId, PeerRequests, RequestHandler
from pyrsia_node.replica.catchup_wire import encode_changes
from pyrsia_node.replica.entry_answers import EntryAnswers
from pyrsia_node.replica.entry_wire import Found, encode_found
from pyrsia_node.replica.head_start import HeadFinder, HeadStart, closed_of
from pyrsia_node.replica.serving import ChainAnswers
from tests.fakes.executed_log import ExecutedLog
from tests.fakes.memory_store import MemoryKeyValueStore

TIME_S = 1_700_000_000
HONEST, LIAR = PeerId("honest"), PeerId("a liar")
Answers = Mapping[str, RequestHandler]


class Peers(PeerRequests):
    """Peers in this process, asked in the order of their names."""

    def __init__(self, answers: Mapping[PeerId, Answers]) -> None:
        self._answers = answers

    async def ask(
        self, to: PeerId, method: str, payload: bytes, *, timeout_s: float, answer_bytes_max: int
    ) -> bytes:
        answer = await self._answers[to][method](PeerId("me"), payload)
        assert len(answer) <= answer_bytes_max
        assert timeout_s > 0
        return answer

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        raise NotImplementedError

    def connected(self) -> list[PeerId]:
        return sorted(self._answers)


class Table(Peers):
    """Collects the handlers that a service registers."""

    def __init__(self) -> None:
        super().__init__({})
        self.handlers: dict[str, RequestHandler] = {}

    def serve(self, method: str, handler: RequestHandler, *, request_bytes_max: int) -> None:
        assert request_bytes_max > 0
        self.handlers[method] = handler


@pytest.fixture(scope="module")
def executed() -> ExecutedLog:
    log = ExecutedLog(MemoryKeyValueStore())
    log.plant("good", b"good", file="good-1.0-py3-none-any.whl")
    for _ in range(2):  # a quorum of the first set no longer signs
        log.rotate()
    log.plant("gone", b"gone", file="gone-1.0-py3-none-any.whl")
    log.withdraw_package("gone")
    return log


@pytest.fixture
def honest(executed: ExecutedLog, tmp_path: Path) -> Iterator[dict[str, RequestHandler]]:
    """Yield what a node with the log answers."""
    chain, log = executed.local.chain, tmp_path / "log"
    tip = chain.tip
    TileWriter(log).catch_up(chain, size=tip.size, root=tip.root)
    with IndexWriter.current(tmp_path, network_id=chain.genesis.network_id) as index:
        index.catch_up(chain, size=tip.size)
    executed.publish(log, time_s=TIME_S)
    note = read_checkpoint(log / "checkpoint")
    assert note is not None
    changes = ChainAnswers(chain).changes
    answers = EntryAnswers(chain=chain, log=log, root=tmp_path)
    table = Table()
    answers.serve_on(table)

    async def show_head(_peer: PeerId, _payload: bytes) -> bytes:
        return note.encode()

    async def show_changes(_peer: PeerId, payload: bytes) -> bytes:
        return await changes(payload)

    yield {**table.handlers, "checkpoint": show_head, "changes": show_changes}
    answers.close()


async def started(executed: ExecutedLog, peers: Peers) -> HeadStart:
    finder = HeadFinder(peers, executed.local.genesis)
    _, trust, head = await finder.find(size_min=1)
    return HeadStart(peers, trust=trust, head=head, closed=closed_of(executed.local.store))


def saying(found: bytes, honest: Answers) -> Answers:
    """Return the answers of a peer that is honest but for where entries stand."""

    async def find(_peer: PeerId, _payload: bytes) -> bytes:
        return found

    return {**honest, "find": find}


async def test_head_of_a_later_set_is_believed_by_its_set_changes(
    executed: ExecutedLog, honest: Answers
) -> None:
    start = await started(executed, Peers({HONEST: honest}))
    assert start.trust.current.epoch == 2
    assert start.head.checkpoint.size == executed.local.chain.tip.size


async def test_head_whose_sets_nobody_shows_is_not_believed(
    executed: ExecutedLog, honest: Answers
) -> None:
    async def nothing(_peer: PeerId, _payload: bytes) -> bytes:
        return encode_changes([])

    with pytest.raises(NotFoundError, match="no peer shows a published head"):
        await started(executed, Peers({LIAR: {**honest, "changes": nothing}}))


async def test_what_one_peer_hides_another_shows_and_inventions_are_only_looked_at(
    executed: ExecutedLog, honest: Answers
) -> None:
    size = executed.local.chain.tip.size
    hiding = saying(encode_found(Found((), ())), honest)
    start = await started(executed, Peers({LIAR: hiding, HONEST: honest}))
    (leaf,) = (await start.find("pypi", "good")).entries
    inventing = saying(encode_found(Found((0, 1, 5, size, 2**60), (7,))), honest)
    start = await started(executed, Peers({LIAR: inventing, HONEST: honest}))
    found = await start.find("pypi", "good")
    assert found == Found(tuple(sorted({5, leaf})), (7,)), "no leaf outside of every block"


async def test_withdrawal_under_the_snapshots_root_cannot_be_hidden(
    executed: ExecutedLog, honest: Answers
) -> None:
    start = await started(executed, Peers({HONEST: honest}))
    (leaf,) = (await start.find("pypi", "gone")).entries
    hiding = saying(encode_found(Found((leaf,), ())), honest)
    start = await started(executed, Peers({LIAR: hiding}))
    (statement,) = (await start.find("pypi", "gone")).statements
    assert executed.local.chain.leaf(statement).find(b'"t":"withdraw"') > 0


@pytest.mark.parametrize("how", ["flip", "cut", "another", "nothing", "refuses"])
async def test_entries_that_do_not_hold_are_asked_of_the_next_peer(
    executed: ExecutedLog, honest: Answers, how: str
) -> None:
    async def entries(peer: PeerId, payload: bytes) -> bytes:
        right = await honest["entries"](peer, payload)
        match how:
            case "flip":
                return right[:300] + bytes([right[300] ^ 1]) + right[301:]
            case "cut":
                return right[:-5]
            case "another":
                return await honest["entries"](peer, payload[:8] + struct.pack(">Q", 3))
            case "nothing":
                return b""
            case _:
                raise UnavailableError("busy")

    liar = {**honest, "entries": entries}
    start = await started(executed, Peers({LIAR: liar, HONEST: honest}))
    (leaf,) = (await start.find("pypi", "good")).entries
    (placed,) = await start.entries([leaf])
    outcome = decode_outcome(placed.data)
    assert isinstance(outcome, Accepted)
    assert outcome.document.purl.name == "good"
    alone = await started(executed, Peers({LIAR: liar}))
    with pytest.raises(UnavailableError, match="no peer proves the entry"):
        await alone.entries([leaf])


async def test_nobody_who_answers_is_a_passing_state(
    executed: ExecutedLog, honest: Answers
) -> None:
    start = await started(executed, Peers({HONEST: honest}))
    with pytest.raises(UnavailableError, match="no peer answers"):
        await start.over(Peers({})).find("pypi", "good")
