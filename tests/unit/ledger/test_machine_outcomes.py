"""Outcomes: ACCEPTED, DIVERGED, FAILED, EXPIRED, revision slots, late items."""

from __future__ import annotations

import dataclasses

import pytest

from pyrsia_node.ledger.machine.execute import Execution
from pyrsia_node.ledger.machine.records import due_bound, due_key
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.model.leaves import (
    Accepted,
    Attestor,
    Cause,
    Difference,
    Diverged,
    Expired,
    Failed,
    LateDivergence,
    Level,
    Outcome,
    ResultClass,
)
from pyrsia_node.model.purl import Purl
from tests.fakes.block_runner import BlockRunner, unsigned
from tests.strategies import build_bodies as make

A, B, C = make.document(".a"), make.document(".b"), make.document(".c")
CLASS_MS = 600_000


@pytest.fixture
def runner() -> BlockRunner:
    return BlockRunner()


@pytest.fixture
def req(runner: BlockRunner) -> Sha256:
    return runner.open(make.request(runner.members[0]))


def kinds(execution: Execution) -> list[type]:
    return [type(outcome) for outcome in execution.outcomes]


def test_k_equal_answers_and_the_document_accept(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    assert runner.run(make.batch(m[0], 1, make.built(req, A))).outcomes == ()
    assert runner.run(make.batch(m[1], 1, make.built(req, A, level=1))).outcomes == ()
    assert runner.run(make.batch(m[2], 1, make.built(req, A))).outcomes == ()
    execution = runner.run(make.result(m[0], req, A))
    [outcome] = execution.outcomes
    assert isinstance(outcome, Accepted)
    assert outcome.document == A
    assert outcome.attestors == (
        Attestor(m[0], 5, 0),
        Attestor(m[1], 7, 1),
        Attestor(m[2], 9, 0),
    )
    assert (outcome.k, outcome.level, outcome.differ) == (3, 1, ())
    view = runner.view(req)
    assert (view.outcome, view.outcome_leaf) == ("accepted", len(runner.leaves) - 1)
    assert execution.due_ms is None


@pytest.mark.parametrize(
    ("levels", "level"), [((0, 0, 0), 0), ((0, 0, 1), 1), ((2, 0, 1), 2), ((2, 2, 2), 2)]
)
def test_level_is_the_smallest_at_which_k_agree(
    runner: BlockRunner, req: Sha256, levels: tuple[int, ...], level: int
) -> None:
    m = runner.members
    execution = runner.run(
        *(make.batch(v, 1, make.built(req, A, level=x)) for v, x in zip(m, levels, strict=False)),
        make.result(m[0], req, A),
    )
    assert isinstance(execution.outcomes[0], Accepted)
    assert execution.outcomes[0].level == level


def test_fourth_at_a_lower_level_lowers_the_level(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    levels = (0, 1, 0, 0)
    execution = runner.run(
        *(make.batch(v, 1, make.built(req, A, level=x)) for v, x in zip(m, levels, strict=True)),
        make.result(m[0], req, A),
    )
    assert isinstance(execution.outcomes[0], Accepted)
    assert execution.outcomes[0].level == 0
    assert len(execution.outcomes[0].attestors) == 4


def test_tampering_member_is_named_and_does_not_stop_acceptance(
    runner: BlockRunner, req: Sha256
) -> None:
    m = runner.members
    runner.run(make.batch(m[1], 1, make.built(req, B, own="tampered")))
    execution = runner.run(
        *(make.batch(v, 1, make.built(req, A)) for v in (m[0], m[2], m[3])),
        make.result(m[0], req, A),
    )
    [outcome] = execution.outcomes
    assert isinstance(outcome, Accepted)
    assert outcome.differ == (Difference(m[1], make.own_roots("tampered")[0]),)
    assert [each.id for each in outcome.attestors] == [m[0], m[2], m[3]]


def test_member_of_the_class_that_named_another_result_does_not_differ(
    runner: BlockRunner, req: Sha256
) -> None:
    m = runner.members
    runner.run(make.batch(m[1], 1, make.built(req, B)))  # the same own build
    execution = runner.run(
        *(make.batch(v, 1, make.built(req, A)) for v in (m[0], m[2], m[3])),
        make.result(m[0], req, A),
    )
    assert isinstance(execution.outcomes[0], Accepted)
    assert execution.outcomes[0].differ == ()


def test_two_tampering_members_of_four_leave_nothing_accepted(
    runner: BlockRunner, req: Sha256
) -> None:
    m = runner.members
    execution = runner.run(
        make.batch(m[0], 1, make.built(req, A)),
        make.batch(m[1], 1, make.built(req, B, own="evil 1")),
        make.batch(m[2], 1, make.built(req, A)),
        make.batch(m[3], 1, make.built(req, C, own="evil 2")),
    )
    [outcome] = execution.outcomes
    assert outcome == Diverged(
        req,
        make.PURL,
        (
            ResultClass(make.own_roots(), (m[0], m[2]), A.digest()),
            ResultClass(make.own_roots("evil 1"), (m[1],), B.digest()),
            ResultClass(make.own_roots("evil 2"), (m[3],), C.digest()),
        ),
    )
    assert runner.view(req).outcome == "diverged"


def test_divergence_waits_for_the_last_member(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    execution = runner.run(
        *(
            make.batch(v, 1, make.built(req, d, own=f"{d.files[0].name}"))
            for v, d in zip(m, (A, B, C), strict=False)
        ),
    )
    assert execution.outcomes == ()
    execution = runner.run(make.batch(m[3], 1, make.failed(req)))
    assert kinds(execution) == [Diverged]


def test_too_few_builders_fail_with_their_causes(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    assert runner.run(make.batch(m[2], 1, make.failed(req, "TIMEOUT", "600 s"))).outcomes == ()
    assert runner.run(make.batch(m[0], 1, make.built(req, A))).outcomes == ()
    execution = runner.run(make.batch(m[1], 1, make.failed(req, "REFUSED", "toolchain")))
    assert execution.outcomes == (
        Failed(
            req,
            make.PURL,
            (Cause(m[1], "REFUSED", "toolchain"), Cause(m[2], "TIMEOUT", "600 s")),
        ),
    )


def test_silence_expires_at_the_deadline_and_not_before(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    runner.run(make.batch(m[1], 1, make.built(req, A)), after_ms=1)
    assert runner.run(after_ms=CLASS_MS - 2).outcomes == ()
    execution = runner.run(after_ms=1)
    assert execution.outcomes == (Expired(req, make.PURL, (m[0], m[2], m[3])),)


def test_answers_without_the_document_expire(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    assert runner.run(*(make.batch(v, 1, make.built(req, A)) for v in m)).outcomes == ()
    assert runner.view(req).slots is None
    assert runner.view(req).documents_needed == (A.digest(),)
    assert runner.run(after_ms=CLASS_MS).outcomes == (Expired(req, make.PURL, ()),)


def test_item_in_the_block_of_the_deadline_still_counts(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    runner.run(*(make.batch(v, 1, make.built(req, A)) for v in m[:2]), make.result(m[0], req, A))
    execution = runner.run(make.batch(m[2], 1, make.built(req, A)), after_ms=CLASS_MS)
    assert kinds(execution) == [Accepted]


def test_outcomes_of_a_block_stand_by_due_time_then_id(runner: BlockRunner) -> None:
    sponsor = runner.members[0]
    slow = runner.open(make.request(sponsor, purl=Purl.pypi("a", "1"), time_class="M"))
    first = runner.open(make.request(sponsor, purl=Purl.pypi("b", "0")), after_ms=1)
    bodies = [make.request(sponsor, purl=Purl.pypi("b", f"{n}")) for n in range(1, 4)]
    runner.run(*bodies, after_ms=1)
    execution = runner.run(after_ms=2 * 3_600_000)
    order = [outcome.request for outcome in execution.outcomes]
    assert order == [first, *sorted(unsigned(body).id for body in bodies), slow]


def test_due_keys_sort_as_time_then_id_and_the_bound_includes_its_time() -> None:
    keys = [due_key(time, req * 64) for time in (9, 10, 1_700_000_000_000) for req in "0f"]
    assert keys == sorted(keys)
    assert due_key(10, "f" * 64) < due_bound(10) < due_key(11, "0" * 64)


# ---------------------------------------------------------------- revision slots


def split_class(runner: BlockRunner, req: Sha256) -> Execution:
    """Three members with one own build name three results."""
    m = runner.members
    return runner.run(
        make.batch(m[0], 1, make.built(req, A)),
        make.batch(m[1], 1, make.built(req, B)),
        make.batch(m[2], 1, make.built(req, C)),
    )


def test_equal_builds_that_name_different_results_open_slots(
    runner: BlockRunner, req: Sha256
) -> None:
    execution = split_class(runner, req)
    assert execution.outcomes == ()
    slots = runner.view(req).slots
    assert slots is not None
    assert slots.candidates == (A.digest(), B.digest())  # f + 1 of them, in leaf order
    assert slots.length_ms == CLASS_MS // 8
    assert (slots.level, slots.own) == (0, make.own_roots()[0])
    assert execution.due_ms == slots.ends_ms == runner.time_ms + CLASS_MS // 4
    assert slots.candidate_at(runner.time_ms) == A.digest()
    assert slots.candidate_at(runner.time_ms + CLASS_MS // 8) == B.digest()
    assert slots.candidate_at(slots.ends_ms) is None
    assert slots.candidate_at(runner.time_ms - 1) is None


def test_revision_to_the_candidate_accepts(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    split_class(runner, req)
    execution = runner.run(
        make.batch(m[1], 2, make.built(req, A)),
        make.batch(m[2], 2, make.built(req, A)),
        make.result(m[0], req, A),
    )
    assert kinds(execution) == [Accepted]
    assert execution.due_ms is None


def test_second_candidate_is_accepted_when_the_first_is_withheld(
    runner: BlockRunner, req: Sha256
) -> None:
    m = runner.members
    split_class(runner, req)  # member 0 is hostile and shows its document to nobody
    runner.run(after_ms=CLASS_MS // 8)
    execution = runner.run(
        make.batch(m[2], 2, make.built(req, B)),
        make.batch(m[3], 1, make.built(req, B)),
        make.result(m[1], req, B),
    )
    assert kinds(execution) == [Accepted]


def test_slots_that_pass_unused_end_in_divergence(runner: BlockRunner, req: Sha256) -> None:
    split_class(runner, req)
    assert runner.run(after_ms=CLASS_MS // 4 - 1).outcomes == ()
    execution = runner.run(after_ms=1)
    assert kinds(execution) == [Diverged]


def test_slots_keep_a_full_house_open_until_they_pass(runner: BlockRunner, req: Sha256) -> None:
    split_class(runner, req)
    execution = runner.run(make.batch(runner.members[3], 1, make.built(req, B, own="other")))
    assert execution.outcomes == ()
    assert kinds(runner.run(after_ms=CLASS_MS // 4)) == [Diverged]


def test_class_at_a_higher_level_opens_slots_too(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    shared = make.own_roots("shared")[2]
    items = [make.built(req, d, own=f"{n}") for n, d in enumerate((A, B, C))]
    items = [dataclasses.replace(i, own=(*i.own[:2], shared)) for i in items]
    runner.run(*(make.batch(v, 1, i) for v, i in zip(m, items, strict=False)))
    slots = runner.view(req).slots
    assert slots is not None
    assert (slots.level, slots.own) == (2, shared)


def test_document_that_is_missing_at_the_end_of_the_slots_waits_for_the_deadline(
    runner: BlockRunner, req: Sha256
) -> None:
    m = runner.members
    split_class(runner, req)
    execution = runner.run(
        make.batch(m[1], 2, make.built(req, A)), make.batch(m[2], 2, make.built(req, A))
    )
    assert execution.due_ms == runner.view(req).deadline_ms
    assert runner.run(after_ms=CLASS_MS // 4).outcomes == ()
    assert kinds(runner.run(make.result(m[0], req, A))) == [Accepted]


def test_deadline_before_the_end_of_the_slots_expires(runner: BlockRunner, req: Sha256) -> None:
    runner.run(after_ms=CLASS_MS - 2_000)
    execution = split_class(runner, req)
    assert execution.due_ms == runner.view(req).deadline_ms
    assert kinds(runner.run(after_ms=1_000)) == [Expired]


# ---------------------------------------------------------------- small k, changing sets


def test_with_small_k_the_result_that_had_k_first_wins() -> None:
    runner = BlockRunner(params=dataclasses.replace(DEFAULT_PARAMS, k={"pypi": 2}))
    m = runner.members
    req = runner.open(make.request(m[0]))
    runner.run(make.batch(m[0], 1, make.built(req, A, own="a")))
    runner.run(*(make.batch(v, 1, make.built(req, B, own="b")) for v in m[1:3]))
    runner.run(make.batch(m[3], 1, make.built(req, A, own="a")))
    runner.run(make.result(m[0], req, A), after_ms=1)
    assert runner.view(req).outcome == "accepted"

    req = runner.open(make.request(m[0], lock="again"))
    newer_c, newer_d = make.document(".c2"), make.document(".d2")
    runner.run(make.batch(m[0], 2, make.built(req, newer_c, own="a")))
    runner.run(*(make.batch(v, 2, make.built(req, newer_d, own="b")) for v in m[1:3]))
    execution = runner.run(
        make.batch(m[3], 2, make.built(req, newer_c, own="a")),
        make.result(m[3], req, newer_c),
        make.result(m[1], req, newer_d),
    )
    [outcome] = execution.outcomes
    assert isinstance(outcome, Accepted)
    assert outcome.document == newer_d  # its second item stands before C's second
    assert [each.id for each in outcome.differ] == [m[0], m[3]]


def test_member_that_leaves_is_not_counted_any_more(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    runner.run(*(make.batch(v, 1, make.failed(req)) for v in m[:1]))
    execution = runner.run(*runner.remove(m[3]), after_ms=1)
    assert kinds(execution) == [Failed]  # two may still build, three are needed


def test_items_of_those_who_left_do_not_accept(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    runner.run(*(make.batch(v, 1, make.built(req, A)) for v in m[:3]))
    runner.run(make.result(m[1], req, A), *runner.remove(m[0]))
    assert runner.view(req).is_open
    assert kinds(runner.run(make.batch(m[3], 1, make.built(req, A)))) == [Accepted]


# ---------------------------------------------------------------- late items


def accept(runner: BlockRunner, req: Sha256, *levels: int) -> None:
    m = runner.members
    runner.run(
        *(make.batch(v, 1, make.built(req, A, level=x)) for v, x in zip(m, levels, strict=False)),
        make.result(m[0], req, A),
    )
    assert runner.view(req).outcome == "accepted"


def test_late_item_lowers_the_level(runner: BlockRunner, req: Sha256) -> None:
    accept(runner, req, 0, 1, 0)
    execution = runner.run(make.batch(runner.members[3], 1, make.built(req, A)))
    assert execution.outcomes == (Level(req, 0),)


def test_level_falls_at_most_twice(runner: BlockRunner, req: Sha256) -> None:
    accept(runner, req, 2, 2, 2)
    seen: list[Outcome] = []
    for voter, level in zip(runner.members, (0, 1, 1, 0), strict=True):
        seq = 2 if voter in runner.members[:3] else 1
        seen += runner.run(make.batch(voter, seq, make.built(req, A, level=level))).outcomes
    assert seen == [Level(req, 1)]


def test_late_item_at_the_same_level_is_no_news(runner: BlockRunner, req: Sha256) -> None:
    accept(runner, req, 0, 0, 0)
    assert runner.run(make.batch(runner.members[3], 1, make.built(req, A))).outcomes == ()


def test_late_item_that_differs_at_every_level_is_an_alarm(
    runner: BlockRunner, req: Sha256
) -> None:
    accept(runner, req, 0, 0, 0)
    late = runner.members[3]
    execution = runner.run(make.batch(late, 1, make.built(req, B, own="late")))
    assert execution.outcomes == (LateDivergence(req, late, make.own_roots("late")[0]),)


def test_late_item_that_is_equal_at_one_level_is_no_alarm(runner: BlockRunner, req: Sha256) -> None:
    accept(runner, req, 0, 0, 0)
    item = make.built(req, B, own="late")
    item = dataclasses.replace(item, own=(*item.own[:2], make.own_roots()[2]))
    assert runner.run(make.batch(runner.members[3], 1, item)).outcomes == ()


def test_one_who_differed_before_is_not_reported_again(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    runner.run(make.batch(m[3], 1, make.built(req, B, own="evil")))
    accept(runner, req, 0, 0, 0)
    assert runner.run(make.batch(m[3], 2, make.built(req, C, own="evil"))).outcomes == ()


def test_one_who_failed_before_and_differs_late_is_reported(
    runner: BlockRunner, req: Sha256
) -> None:
    m = runner.members
    runner.run(make.batch(m[3], 1, make.failed(req)))
    accept(runner, req, 0, 0, 0)
    execution = runner.run(make.batch(m[3], 2, make.built(req, B, own="late")))
    assert kinds(execution) == [LateDivergence]


def test_late_items_after_another_outcome_yield_no_leaf(runner: BlockRunner, req: Sha256) -> None:
    runner.run(after_ms=CLASS_MS)
    assert runner.view(req).outcome == "expired"
    execution = runner.run(*(make.batch(v, 1, make.built(req, A)) for v in runner.members))
    assert execution.outcomes == ()
    assert runner.view(req).outcome == "expired"


def test_late_leaves_follow_the_outcomes_of_their_block(runner: BlockRunner, req: Sha256) -> None:
    m = runner.members
    accept(runner, req, 0, 0, 0)
    runner.open(make.request(m[0], lock="second"))
    execution = runner.run(make.batch(m[3], 1, make.built(req, B, own="late")), after_ms=CLASS_MS)
    assert kinds(execution) == [Expired, LateDivergence]
