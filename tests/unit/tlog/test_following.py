"""A light client follows set changes and heads offline, and refuses everything that goes back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.tlog.following import Following
from pyrsia_node.tlog.proofs import make_consistency_proof
from pyrsia_node.tlog.trust import SetChange, TrustFile
from tests.strategies.identities import Identity, identities, identity
from tests.strategies.set_changes import ChangingSet
from tests.strategies.small_logs import TIME_S, SmallLog

FOUR = identities(4)
FIVE = identities(5)
NEW = (*FOUR[1:], identity(9))


def network() -> ChangingSet:
    return ChangingSet.start(FOUR)


def client(of: ChangingSet, changes: Sequence[SetChange] = ()) -> Following:
    return Following.load(TrustFile(of.genesis.encode(), tuple(changes)).encode())


def log_of(of: ChangingSet, size: int, *, mark: str = "") -> SmallLog:
    return SmallLog(of.genesis.origin, [f"{mark}{number}".encode() for number in range(size)])


def grow(
    held: Following, log: SmallLog, size: int, signers: Sequence[Identity], *, now_s: int = TIME_S
) -> Following:
    old = held.head.checkpoint.size if held.head is not None else 0
    proof = make_consistency_proof(log, old_size=min(old, size), new_size=size)
    return held.with_head(log.signed(signers, size).encode(), proof, now_s=now_s)


# ---------------------------------------------------------------- what it takes


def test_client_follows_twenty_set_changes_offline_within_its_byte_budget() -> None:
    net = ChangingSet.start(identities(7))
    for number in range(20):
        net.change((*net.members[1:], identity(20 + number)))
    brought = TrustFile(net.genesis.encode(), tuple(net.changes))
    held = client(net).with_newer(brought)
    assert held.trust.current == net.leaf
    assert held.trust.current.epoch == 20
    assert len(brought.encode()) < 150_000
    assert Following.load(held.file.encode()) == held


def test_heads_of_old_and_new_sets_are_taken_in_order_and_kept_for_the_next_start() -> None:
    net = network()
    log = log_of(net, 30)
    held = grow(client(net), log, 5, FOUR)
    change = net.change(FIVE, blocks=2)
    held = held.with_changes([change])
    held = grow(held, log, net.size, FOUR[:3])
    held = grow(held, log, net.size + 1, FIVE[1:])
    assert held.head is not None
    assert (held.head.epoch, held.head.checkpoint.size) == (1, 13)
    assert Following.load(held.file.encode(), held.note) == held


def test_same_head_with_newer_cosignatures_is_taken_again() -> None:
    net = network()
    log = log_of(net, 5)
    held = grow(client(net), log, 5, FOUR)
    again = held.with_head(log.signed(FOUR[:3]).encode(), (), now_s=TIME_S)
    assert again.head is not None
    assert len(again.head.labels) == 3


def test_trust_file_that_knows_fewer_changes_than_the_client_changes_nothing() -> None:
    net = network()
    held = client(net, [net.change(FIVE), net.change(NEW)])
    older = TrustFile(net.genesis.encode(), tuple(net.changes[:1]))
    assert held.with_newer(older) == held


# ---------------------------------------------------------------- what it refuses


def test_retired_keys_are_refused() -> None:
    net = network()
    log = log_of(net, 40)
    held = grow(client(net), log, 5, FOUR).with_changes([net.change(NEW)])
    with pytest.raises(VerificationError, match="has 2 cosignatures of epoch 1, needs 3 of 4"):
        grow(held, log, 20, FOUR[:3])
    strangers = tuple(identity(number) for number in (30, 31, 32, 33))
    gone = held.with_changes([net.change(strangers)])
    with pytest.raises(VerificationError, match="signed by no known key"):
        grow(gone, log, 20, FOUR)


def test_rollback_is_refused() -> None:
    net = network()
    log = log_of(net, 10)
    held = grow(client(net), log, 8, FOUR)
    with pytest.raises(VerificationError, match="went back: size 7, but size 8 was seen"):
        grow(held, log, 7, FOUR)


def test_other_history_is_refused_at_the_same_and_at_a_larger_size() -> None:
    net = network()
    held = grow(client(net), log_of(net, 8), 8, FOUR)
    other = log_of(net, 20, mark="x")
    for size in (8, 9, 20):
        with pytest.raises(VerificationError, match="the log forked"):
            grow(held, other, size, FOUR)


def test_missing_or_padded_consistency_proof_is_refused() -> None:
    net = network()
    log = log_of(net, 20)
    held = grow(client(net), log, 6, FOUR)
    note = log.signed(FOUR, 17).encode()
    proof = make_consistency_proof(log, old_size=6, new_size=17)
    for bad in ((), proof[:-1], (*proof, bytes(32)), (b"short", *proof[1:])):
        with pytest.raises(VerificationError, match="the log forked"):
            held.with_head(note, bad, now_s=TIME_S)
    assert held.with_head(note, proof, now_s=TIME_S).head is not None


def test_stale_head_is_refused_however_large_it_is() -> None:
    net = network()
    log = log_of(net, 8)
    held = client(net)
    with pytest.raises(VerificationError, match=r"stale: a quorum last stood behind it 3601 s ago"):
        grow(held, log, 8, FOUR, now_s=TIME_S + 3601)
    assert grow(held, log, 8, FOUR, now_s=TIME_S + 3600).head is not None


def test_head_from_the_future_is_refused() -> None:
    net = network()
    with pytest.raises(VerificationError, match="601 s from now: one of the clocks is wrong"):
        grow(client(net), log_of(net, 8), 8, FOUR, now_s=TIME_S - 601)


def test_skipped_epoch_is_refused_wherever_it_is_left_out() -> None:
    net = network()
    changes = [net.change(FIVE), net.change(FIVE[1:]), net.change(FIVE)]
    held = client(net)
    for missing in range(2):
        rest = [*changes[:missing], *changes[missing + 1 :]]
        with pytest.raises(VerificationError, match=r"set is|epoch is|prev_epoch_height is"):
            held.with_changes(rest)
    assert held.with_changes(changes).trust.current.epoch == 3


def test_handover_before_the_largest_head_seen_is_refused() -> None:
    net = network()
    held = grow(client(net), log_of(net, 8), 8, FOUR)
    with pytest.raises(VerificationError, match="ends at size 7, but the set before it signed"):
        held.with_changes([net.change(FIVE)])


def test_handover_signed_by_fewer_than_a_quorum_is_refused() -> None:
    net = network()
    with pytest.raises((InvalidInputError, VerificationError), match="certificate of height 1"):
        client(net).with_changes([net.change(FIVE, signers=FOUR[:2])])


def test_trust_file_of_another_network_brings_nothing() -> None:
    other = ChangingSet.start(FIVE)
    with pytest.raises(VerificationError, match="of another network"):
        client(network()).with_newer(TrustFile(other.genesis.encode()))


def test_head_file_that_no_longer_holds_is_refused_at_the_start() -> None:
    net = network()
    log = log_of(net, 8)
    file = TrustFile(net.genesis.encode()).encode()
    with pytest.raises(VerificationError, match="has 2 cosignatures"):
        Following.load(file, log.signed(FOUR[:2]).encode())
