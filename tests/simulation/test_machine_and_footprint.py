"""The toy state machine judges purely; the footprint counts what an object holds."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.sim import keys
from consensus.sim.footprint import footprint
from consensus.sim.machine import (
    BUILD_US,
    GENESIS,
    JUDGE_US,
    SLOW_US,
    Machine,
    TransactionKind,
    build_us,
    swap_transactions,
    transaction,
)
from consensus.types import Certificate, MemberSet, NodeId
from consensus.wire import block_hash

NODES = tuple(NodeId(f"n{number}") for number in range(4))
KEYS = keys.keyed(NODES, seed=1)
SET = keys.member_set(NODES, KEYS, epoch=0)
NEXT = keys.member_set(NODES, KEYS, epoch=1)
PLAIN = transaction(TransactionKind.PLAIN, 1)


def _machine() -> Machine:
    return Machine(SET, certificate_holds=_hold, successor=lambda _: NEXT)


def _hold(certificate: Certificate, members: MemberSet) -> bool:
    del certificate, members
    return True


def _block(machine: Machine, *transactions: bytes, proposer: NodeId = NODES[0]) -> bytes:
    return machine.build(
        GENESIS,
        view=0,
        proposer=proposer,
        wall_ms=1_700_000_000_000,
        parent_certificate=None,
        transactions=transactions,
    )


def test_a_built_block_is_valid_and_named_by_its_header() -> None:
    machine = _machine()
    block = _block(machine, PLAIN)
    verdict = machine.judge(GENESIS, block)
    assert (verdict.reason, verdict.next_set) == ("", SET)
    assert verdict.block_hash == block_hash(block)
    assert machine.apply(GENESIS, block).applied == {PLAIN}


def test_building_costs_what_judging_costs_by_the_transactions() -> None:
    plain = [transaction(TransactionKind.PLAIN, number) for number in range(2)]
    slow = [transaction(TransactionKind.SLOW, number) for number in range(2, 5)]
    assert build_us(()) == build_us(tuple(plain)) == BUILD_US
    assert build_us((*plain, *slow)) == BUILD_US + 3 * SLOW_US
    machine = _machine()
    verdict = machine.judge(GENESIS, _block(machine, *plain, *slow))
    assert verdict.cost_us == JUDGE_US + 3 * SLOW_US


def test_other_transactions_under_a_true_header_keep_the_name_and_are_invalid() -> None:
    machine = _machine()
    block = _block(machine, PLAIN)
    swapped = swap_transactions(block, (transaction(TransactionKind.PLAIN, 2),))
    assert block_hash(swapped) == block_hash(block)
    assert machine.judge(GENESIS, swapped).reason == "the body is not what the header commits to"
    assert not machine.judge(GENESIS, block).reason


def test_blocks_that_may_never_follow() -> None:
    machine = _machine()
    wrong = {
        "nothing in it": _block(machine),
        "one transaction twice": _block(machine, PLAIN, PLAIN),
        "proposed by a stranger": _block(machine, PLAIN, proposer=NodeId("n9")),
        "a transaction that is never valid": _block(
            machine, transaction(TransactionKind.INVALID, 3)
        ),
        "two changes of the member set": _block(
            machine,
            transaction(TransactionKind.NEW_SET, 4),
            transaction(TransactionKind.NEW_SET, 5),
        ),
    }
    for reason, block in wrong.items():
        assert machine.judge(GENESIS, block).reason == reason


def test_garbage_is_invalid_not_an_error() -> None:
    machine = _machine()
    for garbage in (b"", b"\0" * 7, b"x" * 300):
        verdict = machine.judge(GENESIS, garbage)
        assert verdict.next_set is None
        assert verdict.reason


def test_a_new_set_counts_from_the_next_height() -> None:
    machine = _machine()
    block = _block(machine, transaction(TransactionKind.NEW_SET, 1))
    after = machine.apply(GENESIS, block)
    assert (after.block_members, after.members) == (SET, NEXT)


@dataclass(slots=True)
class _Slotted:
    held: dict[str, bytes]


class _Plain:
    def __init__(self, held: bytes) -> None:
        self.held = held


def test_the_footprint_sees_slots_attributes_and_containers() -> None:
    payload = bytes(10_000)
    for holder in (_Slotted({"a": payload}), _Plain(payload), [(payload,)], {payload}):
        assert 10_000 < footprint(holder) < 12_000


def test_the_footprint_counts_a_shared_object_once() -> None:
    payload = bytes(10_000)
    assert footprint([payload, payload, {1: payload}]) < 12_000


def test_the_footprint_ends_on_circles() -> None:
    circle: list[object] = []
    circle.append(circle)
    assert footprint(circle) < 1_000
