"""Whoever shows old certificates pays for what looking at them costs, and honest ones cost none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus import wire
from consensus.types import Digest, VoteKind
from pyrsia_node.replica import transcripts as transcripts_module
from pyrsia_node.replica.forks import LOOK_CHECKS
from tests.fakes.fork_watch import Watch
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.strategies.identities import identity

ANOTHER = Digest(b"b" * 32)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    local = LocalChain(3)
    for number in range(4):
        local.commit(*local.add(identity(300 + number)))
        local.commit(make.request(local.members[number % 3].id, lock=f"{number}"))
    watch = Watch(local)
    read = local.chain.set_leaf_of

    def counted(epoch: int) -> object:
        watch.epochs.append(epoch)
        return read(epoch)

    monkeypatch.setattr(local.chain, "set_leaf_of", counted)
    return watch


def test_certificates_of_our_own_blocks_cost_a_read_and_no_set(watch: Watch) -> None:
    shown = [watch.certificate(height) for height in range(1, watch.local.chain.tip.height + 1)]
    watch.epochs.clear()
    for one in shown:
        watch.forks.look_at_frame(wire.encode_message(one, n=7))
    assert watch.epochs == []
    assert watch.checks.count == len(shown)


def test_a_false_certificate_is_charged_to_its_sender(watch: Watch) -> None:
    false = replace(watch.certificate(2), block_hash=ANOTHER)
    watch.show(false)
    # The block is read, a set may have to be, and the first signature does not hold.
    assert watch.checks.count == 1 + LOOK_CHECKS + 1
    assert watch.forks.forks == ()


def test_notarizations_and_nullifications_are_not_looked_at(watch: Watch) -> None:
    for kind in (VoteKind.NOTARIZE, VoteKind.NULLIFY):
        name = ANOTHER if kind is VoteKind.NOTARIZE else Digest(bytes(32))
        watch.show(replace(watch.certificate(2), kind=kind, block_hash=name))
    assert watch.checks.count == 0


def test_walking_through_old_heights_reads_each_set_once(watch: Watch) -> None:
    false = [
        replace(watch.certificate(height), block_hash=ANOTHER)
        for height in range(1, watch.local.chain.tip.height + 1)
    ]
    watch.epochs.clear()
    for height, one in enumerate(false, start=1):
        watch.transcripts.members_of(height)
        watch.forks.look_at_frame(wire.encode_message(one, n=len(one.signers)))
    assert watch.epochs == [0, 1, 2, 3, 4]


def test_sets_that_transcripts_keep_at_hand_are_bounded(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transcripts_module, "SETS_MAX", 2)
    for height in (1, 3, 1, 5, 1, 3):
        watch.transcripts.members_of(height)
    # Whoever was asked for last goes last.
    assert watch.epochs == [0, 1, 2, 1]
