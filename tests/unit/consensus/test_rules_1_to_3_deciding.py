"""R1, R2 and R3: what is final is committed, what is notarized is finalized, and views move on."""

from __future__ import annotations

import pytest

from consensus.effects import (
    Broadcast,
    Commit,
    Persist,
    RecordKind,
    Send,
    SetTimer,
)
from consensus.events import BodyReceived, TimerKind
from consensus.types import Certificate, Decision, Height
from tests.unit.consensus.committee import (
    F,
    N,
    X,
    alone,
    certificate_of,
    of_type,
    vote_of,
    votes_in,
)
from tests.unit.consensus.first_height import (
    B0,
    FORGED,
    H0,
    OTHER,
    SET,
    finalized,
    notarized,
    nullified,
    proposal_0,
)

# -- R1 -------------------------------------------------------------------------------------------


def test_r1_commits_what_is_final_once_its_body_is_valid() -> None:
    node = alone(4, 0)
    assert not of_type(node.tell("m002", finalized()), Commit)
    effects = node.step(BodyReceived(Height(1), B0))
    (commit,) = of_type(effects, Commit)
    assert (commit.height, commit.block, commit.certificate.block_hash) == (1, B0, H0)
    assert (node.replica.height, node.replica.view) == (2, 0)


def test_r1_commits_a_decision_whole() -> None:
    node = alone(4, 0)
    effects = node.tell("m002", Decision(B0, finalized(7)))
    assert [commit.certificate.view for commit in of_type(effects, Commit)] == [7]


def test_r1_never_commits_other_bytes_under_the_final_header() -> None:
    node = alone(4, 0)
    node.tell("m002", finalized())
    assert not of_type(node.step(BodyReceived(Height(1), FORGED)), Commit)
    assert not of_type(node.step(BodyReceived(Height(1), FORGED)), Commit)
    assert of_type(node.step(BodyReceived(Height(1), B0)), Commit)


def test_r1_certificate_of_the_commit_carries_every_finalization_known() -> None:
    node = alone(4, 0)
    node.is_slow = True
    node.tell("m001", proposal_0())
    for voter in ("m001", "m002", "m003"):
        node.tell(voter, vote_of(voter, SET, F, view=0, block_hash=H0))
    late = certificate_of(SET, F, view=0, block_hash=H0, signers=(0, 1, 2))
    node.tell("m003", late)
    (commit,) = of_type(node.step(node.check(B0)), Commit)
    assert commit.certificate.signers == (1, 2, 3)


def test_r1_final_certificate_with_a_body_at_hand_needs_no_record_of_its_own() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    effects = node.tell("m002", finalized())
    assert of_type(effects, Commit)
    kinds = [record.kind for persist in of_type(effects, Persist) for record in persist.records]
    assert RecordKind.CERTIFICATE not in kinds


def test_r1_commit_after_view_0_carries_what_the_height_went_through() -> None:
    node = alone(4, 0)
    node.tell("m002", nullified(1))
    node.tell("m002", notarized(0))
    (commit,) = of_type(node.tell("m002", Decision(B0, finalized(2))), Commit)
    assert commit.transcript == (notarized(0), nullified(1))


def test_r1_commit_in_view_0_keeps_what_a_later_view_could_build_a_fork_on() -> None:
    node = alone(4, 0)
    node.tell("m002", nullified(0))
    (commit,) = of_type(node.tell("m002", Decision(B0, finalized(0))), Commit)
    assert commit.transcript == (nullified(0),)
    plain = alone(4, 0)
    plain.tell("m002", notarized(0))
    (commit,) = of_type(plain.tell("m002", Decision(B0, finalized(0))), Commit)
    assert commit.transcript == ()


def test_r1_effects_of_the_next_height_stand_behind_the_commit() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    effects = node.tell("m002", finalized())
    kinds = [type(effect) for effect in effects]
    assert kinds.index(Send) < kinds.index(Commit), "the certificate is passed on first"
    assert of_type(effects[kinds.index(Commit) :], Persist) == []


# -- R2 -------------------------------------------------------------------------------------------


def test_r2_finalizes_a_notarized_block_whose_body_is_here() -> None:
    node = alone(4, 0)
    node.tell("m001", proposal_0())
    assert (F, 0) in votes_in(node.tell("m002", notarized()))


def test_r2_body_is_durable_before_its_finalization_leaves() -> None:
    node = alone(4, 0)
    node.tell("m002", notarized())
    effects = node.step(BodyReceived(Height(1), B0))
    (persist,) = of_type(effects, Persist)
    assert [record.kind for record in persist.records] == [RecordKind.BODY, RecordKind.VOTE]
    assert effects.index(persist) < next(
        index for index, effect in enumerate(effects) if isinstance(effect, Broadcast)
    )


def test_r2_never_finalizes_without_the_body() -> None:
    node = alone(4, 0)
    assert votes_in(node.tell("m002", notarized())) == []


def test_r2_never_finalizes_a_view_it_nullified() -> None:
    node = alone(4, 0)
    node.work()
    assert votes_in(node.fire()) == [(X, 0)]
    node.tell("m002", notarized())
    assert (F, 0) not in votes_in(node.step(BodyReceived(Height(1), B0)))


def test_r2_never_finalizes_another_block_than_it_notarized() -> None:
    node = alone(4, 0)
    assert votes_in(node.tell("m001", proposal_0())) == [(N, 0)]
    node.tell("m002", notarized(block=OTHER))
    assert votes_in(node.step(BodyReceived(Height(1), OTHER))) == []


def test_r2_finalizes_in_an_old_view_too() -> None:
    node = alone(4, 0)
    node.tell("m002", nullified(2))
    assert node.replica.view == 3
    node.tell("m002", notarized(1))
    assert (F, 1) in votes_in(node.step(BodyReceived(Height(1), B0)))


# -- R3 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("certificate", [nullified(0), notarized(0), nullified(40)])
def test_r3_enters_the_view_after_the_newest_certificate(certificate: Certificate) -> None:
    node = alone(4, 0)
    effects = node.tell("m002", certificate)
    assert node.replica.view == certificate.view + 1
    views = {(timer.kind, timer.view) for timer in of_type(effects, SetTimer)}
    assert (TimerKind.VIEW, certificate.view + 1) in views


def test_r3_stays_on_an_old_certificate() -> None:
    node = alone(4, 0)
    node.tell("m002", nullified(5))
    node.tell("m002", nullified(2))
    assert node.replica.view == 6


def test_r3_final_certificate_alone_moves_no_view() -> None:
    node = alone(4, 0)
    node.tell("m002", finalized(3))
    assert node.replica.view == 0
