"""Own transactions outlive a restart, lapse with time, and cost little however many wait."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from pyrsia_node.ledger import mempool as pools
from pyrsia_node.ledger.mempool import Mempool
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl
from pyrsia_node.ports import Clock
from pyrsia_node.replica.pending import REPEAT_BYTES_MAX, PendingTransactions
from pyrsia_node.store.leveldb import LevelDbStore
from tests.fakes.local_chain import LocalChain
from tests.strategies.build_bodies import request


class ChainClock(Clock):
    def __init__(self, local: LocalChain) -> None:
        self._local = local

    def now_ms(self) -> int:
        return self._local.now_ms

    def monotonic_s(self) -> float:
        return self._local.now_ms / 1000


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalChain]:
    with LevelDbStore(tmp_path / "store", create=True) as store:
        yield LocalChain(4, store=store)


def made(local: LocalChain, pushed: list[bytes] | None = None) -> PendingTransactions:
    return PendingTransactions(
        store=local.store,
        chain=local.chain,
        mempool=Mempool(),
        clock=ChainClock(local),
        push=(pushed if pushed is not None else []).append,
    )


def transaction(local: LocalChain, number: int, *, sponsor: int = 0) -> bytes:
    author = local.members[sponsor].id
    return local.sign(request(author, purl=Purl.pypi("six", f"1.{number}"), nonce=number)).encoded


async def test_what_was_submitted_waits_again_after_a_restart(local: LocalChain) -> None:
    first = made(local)
    await first.submit(transaction(local, 1))
    again = made(local)
    assert again.known() == first.known() != []
    assert again.is_pending(again.known()[0])


async def test_what_a_block_holds_is_forgotten_for_good(local: LocalChain) -> None:
    pending = made(local)
    await pending.submit(transaction(local, 1))
    block = local.build(transaction(local, 1))
    assert block is not None
    committed = local.chain.commit(block, local.certify(block))
    pending.committed(committed.transaction_ids)
    assert pending.known() == []
    assert made(local).known() == []
    assert list(local.store.scan(b"pending/")) == []


async def test_what_lapses_is_no_work_any_more_though_no_block_comes(local: LocalChain) -> None:
    pending = made(local)
    await pending.submit(transaction(local, 1))
    pending.receive(transaction(local, 2, sponsor=1))
    assert pending._mempool.has_work()
    local.now_ms += 2 * 3_600_000
    pending.review()
    assert not pending._mempool.has_work()
    assert pending.known() == []
    assert list(local.store.scan(b"pending/")) == []


async def test_a_full_mempool_keeps_own_transactions_waiting_across_a_restart(
    local: LocalChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = made(local)
    for number in range(5):
        await pending.submit(transaction(local, number))
    monkeypatch.setattr(pools, "AUTHOR_COUNT_MAX", 2)
    again = made(local)
    assert len(again.known()) == 2
    monkeypatch.undo()
    again.review()
    assert len(again.known()) == 5


async def test_a_review_checks_a_few_however_many_wait(
    local: LocalChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending = made(local)
    for number in range(40):
        await pending.submit(transaction(local, number))
    checks = 0
    check = local.chain.check_transaction

    def counted(data: bytes, now_ms: int) -> object:
        nonlocal checks
        checks += 1
        return check(data, now_ms)

    monkeypatch.setattr(local.chain, "check_transaction", counted)
    pending.review()
    assert checks <= pools.REVIEW_MAX


async def test_a_repeat_is_bounded_and_the_next_goes_on_behind_it(local: LocalChain) -> None:
    pushed: list[bytes] = []
    pending = made(local, pushed)
    sent = []
    for number in range(6):
        sent.append(transaction(local, number))
        await pending.submit(sent[-1])
    pending._own = {key: value.ljust(100_000) for key, value in pending._own.items()}
    pushed.clear()
    rounds = []
    for _ in range(3):
        pending.repeat()
        rounds.append(sum(map(len, pushed)))
    assert all(later - earlier <= REPEAT_BYTES_MAX for earlier, later in pairwise(rounds))
    assert {each.rstrip() for each in pushed} == set(sent)


async def test_a_transaction_that_can_never_be_valid_is_refused_by_its_rule(
    local: LocalChain,
) -> None:
    pending = made(local)
    with pytest.raises(InvalidInputError):
        await pending.submit(b"{}")
    local.now_ms += 2 * 3_600_000
    with pytest.raises(InvalidInputError, match="was valid until"):
        await pending.submit(transaction(local, 1))
    assert pending.known() == []


async def test_others_get_what_they_lack_within_their_limit(local: LocalChain) -> None:
    pending = made(local)
    sent = [transaction(local, number) for number in range(4)]
    for each in sent:
        await pending.submit(each)
    known = pending.known(2)
    assert pending.others(frozenset(known), bytes_max=1 << 20) == sent[2:]
    assert pending.others(frozenset(), bytes_max=len(sent[0]) + 4) == sent[:1]


def test_an_author_who_fills_the_lane_hides_nobody_from_who_lacks_transactions(
    local: LocalChain,
) -> None:
    pending = made(local)
    for number in range(40):
        pending.receive(transaction(local, number, sponsor=3))
    hidden = local.sign(request(local.members[1].id, purl=Purl.pypi("six", "2")))
    pending.receive(hidden.encoded)
    assert hidden.encoded in pending.others(frozenset(), bytes_max=3 * len(hidden.encoded))
    # Nor does it fill the list of what is known here, which has its limit, too.
    assert hidden.id in pending.known(2)


def test_who_gets_only_a_few_transactions_gets_those_of_other_authors_next_time(
    local: LocalChain,
) -> None:
    pending = made(local)
    sent = [transaction(local, 1, sponsor=sponsor) for sponsor in range(4)]
    for each in sent:
        pending.receive(each)
    room = len(sent[0]) + 4
    answers = [pending.others(frozenset(), bytes_max=room) for _ in range(4)]
    assert sorted(each for (each,) in answers) == sorted(sent)
