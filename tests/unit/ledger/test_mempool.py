"""The mempool: bounded, fair between authors, in the order in which a block wants it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consensus.types import NodeId
from pyrsia_node.ledger import mempool as limits
from pyrsia_node.ledger.chain import TransactionInfo
from pyrsia_node.ledger.mempool import Mempool
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.model.transactions import TRANSACTION_KINDS
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make

A, B, C = NodeId("a"), NodeId("b"), NodeId("c")


def info(
    data: bytes,
    author: NodeId = A,
    kind: str = "build_request",
    *,
    sequence: int = 0,
    waits: str = "",
) -> TransactionInfo:
    return TransactionInfo(sha256_of(data), kind, author, waits, sequence)


def put(pool: Mempool, *words: str, author: NodeId = A, kind: str = "build_request") -> None:
    for word in words:
        assert pool.add(info(word.encode(), author, kind), word.encode())


def test_each_author_has_its_turn() -> None:
    pool = Mempool()
    put(pool, "a1", "a2", "a3", "a4", author=A)
    put(pool, "b1", author=B)
    put(pool, "c1", "c2", author=C)
    block = [word.decode() for word in pool.for_block()]
    assert sorted(block[:3]) == ["a1", "b1", "c1"]
    assert sorted(block[3:5]) == ["a2", "c2"]
    assert block[5:] == ["a3", "a4"]


def test_first_turn_goes_round_from_block_to_block() -> None:
    pool = Mempool()
    put(pool, "a", author=A)
    put(pool, "b", author=B)
    put(pool, "c", author=C)
    assert {pool.for_block()[0] for _ in range(3)} == {b"a", b"b", b"c"}


def test_requests_stand_before_batches_before_results() -> None:
    pool = Mempool()
    put(pool, "result", kind="result")
    put(pool, "batch", kind="attest_batch")
    put(pool, "request", kind="build_request", author=B)
    assert pool.for_block() == [b"request", b"batch", b"result"]


def test_what_guards_the_network_stands_before_requests() -> None:
    pool = Mempool()
    kinds = ["result", "build_request", "deprecate", "add_source", "withdraw", "add_node"]
    kinds += ["approve", "evidence"]
    for kind in kinds:
        put(pool, kind, kind=kind)
    assert [word.decode() for word in pool.for_block()] == [
        *("evidence", "approve", "add_node", "withdraw", "add_source", "deprecate"),
        *("build_request", "result"),
    ]


@pytest.mark.parametrize("kind", sorted(TRANSACTION_KINDS))
def test_every_kind_of_transaction_has_a_place_in_a_block(kind: str) -> None:
    pool = Mempool()
    put(pool, "x", kind=kind)
    assert pool.for_block() == [b"x"]


def test_changes_that_wait_for_approvals_take_no_place() -> None:
    pool = Mempool()
    data = b"y" * 2_000
    for number in range(500):
        each = data + bytes([number % 256, number // 256])
        pool.add(info(each, kind="add_node", waits="approvals"), each)
    put(pool, "request", author=B)
    assert pool.for_block() == [b"request"]
    # One became ready while it waited behind others.
    judged = iter([*["approvals"] * 3, ""])
    pool.review(
        lambda each: (
            info(each, kind="add_node", waits=next(judged)) if len(each) > 9 else info(each, B)
        )
    )
    assert [len(each) for each in pool.for_block()] == [2_002, 7]


def test_flood_of_urgent_transactions_leaves_room_for_requests() -> None:
    pool = Mempool()
    for author in (A, C):
        for number in range(900):
            each = author.encode() + bytes(400) + bytes([number % 256, number // 256])
            pool.add(info(each, author, "approve"), each)
    put(pool, "own approval", author=B, kind="approve")
    put(pool, "request", author=B)
    block = pool.for_block()
    assert b"own approval" in block[:3]
    assert block[-1] == b"request"
    assert sum(map(len, block)) < 70_000


def test_others_are_told_of_one_transaction_of_each_author_in_turn() -> None:
    pool = Mempool()
    put(pool, "a1", "a2", "a3", author=A)
    put(pool, "b1", author=B)
    put(pool, "c1", "c2", author=C)
    told = [data.decode() for _, data in pool.in_turns()]
    assert sorted(told[:3]) == ["a1", "b1", "c1"]
    assert sorted(told[3:5]) == ["a2", "c2"]
    assert told[5:] == ["a3"]
    assert {next(pool.in_turns())[1] for _ in range(3)} == {b"a1", b"b1", b"c1"}


def test_an_authors_lanes_take_turns_in_what_others_are_told() -> None:
    pool = Mempool()
    put(pool, "approval 1", "approval 2", kind="approve")
    put(pool, "request 1", "request 2")
    assert [(each, data) for each, data in pool.in_turns()] == [
        (sha256_of(data), data)
        for data in (b"approval 1", b"request 1", b"approval 2", b"request 2")
    ]


def test_batches_of_an_author_stand_by_their_number() -> None:
    pool = Mempool()
    for sequence in (3, 1, 2):
        data = f"{sequence}".encode()
        pool.add(info(data, kind="attest_batch", sequence=sequence), data)
    assert pool.for_block() == [b"1", b"2", b"3"]
    assert [data for _, data in pool.in_turns()] == [b"1", b"2", b"3"]


def test_same_transaction_is_kept_once_with_the_newest_verdict() -> None:
    pool = Mempool()
    assert pool.add(info(b"x", waits="later"), b"x")
    assert not pool.has_work()
    assert not pool.add(info(b"x"), b"x")
    assert pool.has_work()
    assert (len(pool), pool.size_bytes) == (1, 1)


def test_author_that_fills_its_quota_leaves_room_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "AUTHOR_COUNT_MAX", 3)
    pool = Mempool()
    put(pool, "1", "2", "3")
    with pytest.raises(UnavailableError, match="a has 3 transactions"):
        pool.add(info(b"4"), b"4")
    put(pool, "5", author=B)
    pool.committed([sha256_of(b"1")])
    put(pool, "4")


def test_author_and_pool_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "AUTHOR_BYTES_MAX", 10)
    monkeypatch.setattr(limits, "TOTAL_BYTES_MAX", 15)
    pool = Mempool()
    put(pool, "12345678")
    with pytest.raises(UnavailableError, match="8 bytes waiting"):
        pool.add(info(b"901"), b"901")
    put(pool, "abcdef", author=B)
    with pytest.raises(UnavailableError, match="mempool is full: 14 bytes"):
        pool.add(info(b"xy", C), b"xy")
    assert pool.size_bytes == 14


def test_candidates_for_a_block_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 5)
    pool = Mempool()
    put(pool, "11", "22", "33")
    assert pool.for_block() == [b"11", b"22"]


def test_committed_transactions_are_forgotten_wholly() -> None:
    pool = Mempool()
    put(pool, "1", "2")
    pool.committed([sha256_of(b"1"), sha256_of(b"unknown")])
    assert pool.ids() == [sha256_of(b"2")]
    assert pool.get(sha256_of(b"1")) is None
    assert pool.get(sha256_of(b"2")) == b"2"
    pool.committed(pool.ids())
    assert (len(pool), pool.size_bytes, pool.for_block()) == (0, 0, [])


def test_review_drops_what_became_invalid_and_wakes_what_waited() -> None:
    pool = Mempool()
    for word in ("dead", "asleep"):
        pool.add(info(word.encode(), waits="something"), word.encode())

    def judge(data: bytes) -> TransactionInfo:
        if data == b"dead":
            raise InvalidInputError("too late")
        return info(data)

    assert pool.review(judge) == [sha256_of(b"dead")]
    assert pool.ids() == [sha256_of(b"asleep")]
    assert pool.has_work()


@pytest.mark.parametrize(("first_ready", "looked_at"), [(0, 1), (3, 4), (99, limits.REVIEW_MAX)])
def test_review_looks_at_a_lane_up_to_what_is_ready(first_ready: int, looked_at: int) -> None:
    pool = Mempool()
    words = [f"{number:03d}" for number in range(limits.REVIEW_MAX + 5)]
    put(pool, *words)
    seen: list[bytes] = []

    def judge(data: bytes) -> TransactionInfo:
        seen.append(data)
        return info(data, waits="" if int(data) >= first_ready else "its turn")

    pool.review(judge)
    assert seen == [word.encode() for word in words[:looked_at]]
    assert pool.has_work() == (first_ready < limits.REVIEW_MAX)


def test_what_can_never_be_valid_again_is_no_work_after_a_review() -> None:
    local = LocalChain()
    pool = Mempool()
    members = [one.id for one in local.members]
    body = make.request(members[0])
    req = local.sign(body).id
    local.commit(body)
    local.commit(*(make.batch(each, 1, make.built(req)) for each in members[:2]))
    results = [local.sign(make.result(each, req)) for each in members[:2]]
    for each in results:
        pool.add(local.chain.check_transaction(each.encoded, local.now_ms), each.encoded)
    local.commit(results[0].body)
    pool.committed([results[0].id])
    assert pool.has_work()  # as of the tip before
    assert pool.review(lambda data: local.chain.check_transaction(data, local.now_ms)) == [
        results[1].id
    ]
    assert not pool.has_work()


def test_waiting_transactions_of_a_real_chain_become_ready_one_after_another() -> None:
    local = LocalChain()
    pool = Mempool()
    judge: Callable[[bytes], TransactionInfo] = lambda data: local.chain.check_transaction(  # noqa: E731
        data, local.now_ms
    )
    members = [one.id for one in local.members]
    request = local.sign(make.request(members[0]))
    batch = local.sign(make.batch(members[0], 1, make.built(request.id)))
    result = local.sign(make.result(members[0], request.id))
    for each in (result, batch, request):
        pool.add(judge(each.encoded), each.encoded)
    for expected in (request, batch, result):
        assert [each for each in pool.ids() if judge(pool.get(each) or b"").is_ready] == [
            expected.id
        ]
        local.commit(expected.body)
        pool.committed([expected.id])
        assert pool.review(judge) == []
    assert not pool.has_work()


def test_one_block_takes_a_request_its_batch_and_its_result_together() -> None:
    local = LocalChain()
    pool = Mempool()
    members = [one.id for one in local.members]
    request = local.sign(make.request(members[0]))
    others = [make.batch(each, 1, make.built(request.id)) for each in members[:3]]
    bodies = [make.result(members[0], request.id), *others, request.body]
    for body in bodies:
        encoded = local.sign(body).encoded
        pool.add(local.chain.check_transaction(encoded, local.now_ms), encoded)
    block = local.build(*pool.for_block())
    assert block is not None
    committed = local.chain.commit(block, local.certify(block))
    assert len(committed.transaction_ids) == 5
    assert len(committed.outcomes) == 1
