"""Changes of the set and of parameters: each refusal names the rule, and changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from consensus.quorum import quorum
from pyrsia_node.ledger.machine import membership
from pyrsia_node.ledger.machine.approvals import APPROVAL_HEIGHTS_MAX
from pyrsia_node.ledger.machine.context import Head, NotYetValidError
from pyrsia_node.model.approvals import Approve
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.membership import JOIN_HEIGHTS_MAX, AddNode, RotateKey, SetParam
from pyrsia_node.model.transactions import Transaction
from tests.fakes.block_runner import NETWORK, BlockRunner
from tests.strategies import build_bodies as make
from tests.strategies import member_bodies as change
from tests.strategies.identities import Identity, identities, identity

NEW, OTHER = identity(100), identity(101)
FOUR = identities(4)
Bodies = Callable[[BlockRunner], list[Transaction]]


@pytest.fixture
def runner() -> BlockRunner:
    """Four members and two blocks."""
    runner = BlockRunner()
    runner.run(make.request(runner.members[0]))
    runner.run(make.request(runner.members[1], lock="other"))
    return runner


def adding(
    runner: BlockRunner,
    one: Identity = NEW,
    *,
    by: Identity = FOUR[0],
    height: int | None = None,
    head: Head | None = None,
) -> AddNode:
    height = runner.height if height is None else height
    return change.add(
        by.id, one, NETWORK, height=height, head=head or runner.heads[min(height, runner.height)]
    )


def rotating(runner: BlockRunner, after: Identity) -> RotateKey:
    return change.rotate(after, NETWORK, height=runner.height, head=runner.heads[-1])


def labelled(one: Identity, label: str) -> Identity:
    """Return an identity under another label; the machine does not look at its signatures."""
    record = dataclasses.replace(one.member.record, label=label)
    return dataclasses.replace(one, member=dataclasses.replace(one.member, record=record))


def sharing(one: Identity, name: str, key: bytes) -> Identity:
    record = one.member.record
    keys = dataclasses.replace(record.keys, **{name: key})
    changed = dataclasses.replace(record, keys=keys)
    return dataclasses.replace(one, member=dataclasses.replace(one.member, record=changed))


def approvals_in(bodies: list[Transaction]) -> list[Approve]:
    return [body for body in bodies if isinstance(body, Approve)]


def param(name: str, value: int) -> Bodies:
    return lambda runner: runner.approved(change.set_param(runner.members[0], name, value))


def votes(runner: BlockRunner, count: int) -> list[Transaction]:
    """Return the addition of a newcomer with ``count`` approvals."""
    bodies = runner.add(NEW)
    return [*bodies[:count], bodies[-1]]


FINAL: dict[str, tuple[Bodies, str]] = {
    "add: a stranger submits": (
        lambda r: r.approved(adding(r, by=OTHER)),
        f"{OTHER.id} is no authorized node",
    ),
    "add: a member": (
        lambda r: r.approved(adding(r, FOUR[1])),
        f"{FOUR[1].id} is an authorized node already",
    ),
    "add: label of a member": (
        lambda r: r.approved(adding(r, labelled(NEW, FOUR[1].member.record.label))),
        "two members share the label",
    ),
    "add: key of a member": (
        lambda r: r.approved(adding(r, sharing(NEW, "vote", FOUR[1].member.record.keys.vote))),
        "two members share the key",
    ),
    "add: key of a member for another use": (
        lambda r: r.approved(adding(r, sharing(NEW, "tx", FOUR[1].member.record.keys.vote))),
        "two members share the key",
    ),
    "add: wrong root": (
        lambda r: r.approved(adding(r, height=1, head=Head(r.heads[1].size, r.heads[2].root))),
        "at height 1; the log has size",
    ),
    "add: wrong size": (
        lambda r: r.approved(adding(r, height=1, head=Head(9, r.heads[1].root))),
        "the join proof says size 9",
    ),
    "remove: a stranger submits": (
        lambda r: r.approved(change.remove(OTHER.id, FOUR[0].id)),
        f"{OTHER.id} is no authorized node",
    ),
    "remove: nobody": (
        lambda r: r.approved(change.remove(FOUR[0].id, OTHER.id)),
        f"{OTHER.id} is no authorized node",
    ),
    "rotate: a stranger": (
        lambda r: r.approved(rotating(r, NEW)),
        f"{NEW.id} is no authorized node",
    ),
    "rotate: another label": (
        lambda r: r.approved(
            rotating(r, change.renewed(FOUR[0].member.record, NEW, label="newer"))
        ),
        "a rotation keeps the label",
    ),
    "rotate: the same keys": (
        lambda r: r.approved(rotating(r, FOUR[0])),
        "are these already",
    ),
    "rotate: keys of another member": (
        lambda r: r.approved(rotating(r, change.renewed(FOUR[0].member.record, FOUR[1]))),
        "two members share the key",
    ),
    "set: no such parameter": (param("speed", 1), "no parameter is named 'speed'; there are burst"),
    "set: no such class": (param("class_ms.XL", 5_000), "no parameter is named 'class_ms.XL'"),
    "set: no such ecosystem": (param("k.Py", 1), "no parameter is named 'k.Py'"),
    "set: too low": (param("min_authorized", 0), "parameter min_authorized is 0, not 1 to 88"),
    "set: too high": (param("burst", 10**6 + 1), "parameter burst is 1000001, not 1 to 1000000"),
    "set: too short": (param("class_ms.S", 999), "parameter class_ms.S is 999, not 1000 to"),
    "set: no news": (param("open_max", 64), "parameter open_max is 64 already"),
    "set: rules that are in force": (param("rules", 1), "parameter rules is 1, not 2 to 10000"),
    "set: a stranger submits": (
        lambda r: r.approved(change.set_param(OTHER.id, "burst", 5)),
        f"{OTHER.id} is no authorized node",
    ),
    "approve: a stranger": (
        lambda r: [change.approve(OTHER.id, adding(r), NETWORK, expiry=r.height + 5)],
        f"{OTHER.id} is no authorized node, so it approves nothing",
    ),
    "approve: expired": (
        lambda r: [change.approve(FOUR[0].id, adding(r), NETWORK, expiry=r.height)],
        "approval expires at height 2; signed at height 0, it must be 3 to 100000 in the block",
    ),
    "approve: for too long": (
        lambda r: [
            change.approve(
                FOUR[0].id,
                adding(r),
                NETWORK,
                since=r.height,
                expiry=r.height + 2 + APPROVAL_HEIGHTS_MAX,
            )
        ],
        "approval expires at height 100004; signed at height 2, it must be 3 to 100002",
    ),
    "approve: twice": (
        lambda r: [
            change.approve(FOUR[0].id, adding(r), NETWORK, expiry=r.height + 5),
            change.approve(FOUR[0].id, adding(r), NETWORK, expiry=r.height + 4),
        ],
        "approved add_node .* already, up to height 7",
    ),
}

WAITING: dict[str, tuple[Bodies, str]] = {
    "no approvals": (lambda r: votes(r, 0), r"has 0 of 3 approvals; not yet by .*, .*, .*, "),
    "too few approvals": (lambda r: votes(r, 2), "has 2 of 3 approvals"),
    "approvals of another operation": (
        lambda r: [*r.add(OTHER)[:-1], adding(r)],
        "has 0 of 3 approvals",
    ),
    "approvals of another kind": (
        lambda r: [
            *(dataclasses.replace(each, op="rotate_key") for each in approvals_in(r.add(NEW))),
            adding(r),
        ],
        "has 0 of 3 approvals",
    ),
    "an approval of a height to come": (
        lambda r: [change.approve(FOUR[0].id, adding(r), NETWORK, since=r.height + 1, expiry=9)],
        "approval is of height 3, which is not committed here",
    ),
    "a head to come": (
        lambda r: r.approved(adding(r, height=3)),
        "is of height 3, which is not committed here",
    ),
    "a second change in the block": (
        lambda r: [*r.add(NEW), *r.remove(FOUR[3].id)],
        "the block holds a change of the set or the parameters already",
    ),
    "a parameter after a change of the set": (
        lambda r: [*r.add(NEW), *param("burst", 5)(r)],
        "the block holds a change",
    ),
}


@pytest.mark.parametrize("name", FINAL)
def test_rule_of_membership_that_is_broken_is_named(runner: BlockRunner, name: str) -> None:
    bodies, why = FINAL[name]
    before = dict(runner.state.scan(b""))
    with pytest.raises(InvalidInputError, match=why) as caught:
        runner.run(*bodies(runner))
    assert type(caught.value) is InvalidInputError
    assert dict(runner.state.scan(b"")) == before


@pytest.mark.parametrize("name", WAITING)
def test_change_that_may_become_valid_waits_and_says_for_what(
    runner: BlockRunner, name: str
) -> None:
    bodies, why = WAITING[name]
    with pytest.raises(NotYetValidError, match=why):
        runner.run(*bodies(runner))


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_quorum_of_approvals_is_needed_and_enough(n: int) -> None:
    runner = BlockRunner(n)
    with pytest.raises(NotYetValidError, match=f"{quorum(n) - 1} of {quorum(n)} approvals"):
        runner.run(*votes(runner, quorum(n) - 1))
    execution = runner.run(*votes(runner, quorum(n)))
    assert execution.next_set is not None
    assert len(execution.next_set.members) == n + 1


def test_old_join_proof_is_refused_and_the_oldest_allowed_is_not() -> None:
    for age, is_fine in ((JOIN_HEIGHTS_MAX, True), (JOIN_HEIGHTS_MAX + 1, False)):
        runner = BlockRunner()
        runner.heads += [runner.heads[0]] * (age - 1)
        operation = adding(runner, height=0, head=runner.heads[0])
        bodies = runner.approved(operation)
        if is_fine:
            assert runner.run(*bodies).next_set is not None
            continue
        with pytest.raises(
            InvalidInputError, match="is of height 0; at height 257 it must be of 1"
        ):
            runner.run(*bodies)


def test_last_member_cannot_be_removed() -> None:
    runner = BlockRunner(1)
    last = runner.members[0]
    with pytest.raises(InvalidInputError, match="is the last authorized node"):
        runner.run(*runner.approved(change.remove(last, last)))
    two = BlockRunner(2)
    two.run(*two.remove(two.members[0]))
    assert len(two.members) == 1


def test_same_operation_cannot_stand_in_the_log_twice(runner: BlockRunner) -> None:
    bodies = runner.remove(FOUR[3].id)
    runner.run(*bodies)
    runner.run(*runner.add(FOUR[3]))
    yes = [
        dataclasses.replace(each, since=runner.height, expiry=each.expiry + 9)
        for each in approvals_in(bodies)
    ]
    with pytest.raises(InvalidInputError, match="is in the log already"):
        runner.run(*yes, bodies[-1])


def test_retired_key_never_comes_back(runner: BlockRunner) -> None:
    old = FOUR[0]
    renewed = change.renewed(old.member.record, NEW)
    runner.run(*runner.approved(rotating(runner, renewed)))
    for back in (
        rotating(runner, old),
        adding(runner, sharing(OTHER, "log", old.member.record.keys.log)),
        rotating(runner, change.renewed(FOUR[1].member.record, old)),
    ):
        with pytest.raises(InvalidInputError, match="was retired by a rotation"):
            runner.run(*runner.approved(back))


def test_removed_member_may_return_with_its_keys_and_nobody_else_with_them(
    runner: BlockRunner,
) -> None:
    gone = FOUR[3]
    runner.run(*runner.remove(gone.id))
    thief = sharing(NEW, "vote", gone.member.record.keys.vote)
    with pytest.raises(InvalidInputError, match=f"was of member {gone.id}"):
        runner.run(*runner.approved(adding(runner, thief)))
    runner.run(*runner.add(gone))
    assert gone.id in runner.members


def test_rotation_keeps_the_id_and_its_place(runner: BlockRunner) -> None:
    before = runner.members
    renewed = change.renewed(FOUR[2].member.record, NEW)
    execution = runner.run(*runner.approved(rotating(runner, renewed)))
    assert execution.next_set is not None
    assert runner.members == before
    record = execution.next_set.record_of(FOUR[2].id)
    assert record == renewed.member.record


def test_set_that_would_not_fit_its_leaf_is_refused(
    runner: BlockRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "LEAF_BYTES_MAX", 2_000)
    with pytest.raises(InvalidInputError, match=r"the set leaf would have .* bytes, over 2000"):
        runner.run(*runner.add(NEW))
    monkeypatch.setattr(membership, "MEMBERS_MAX", 4)
    with pytest.raises(InvalidInputError, match="a set has at most 4 members"):
        runner.run(*runner.add(NEW))


def test_every_parameter_can_be_set_and_holds_in_the_next_block() -> None:
    values = {
        "burst": 3,
        "class_ms.L": 5_000,
        "class_ms.M": 4_000,
        "class_ms.S": 3_000,
        "k.docker": 3,
        "k.maven": 2,
        "k.npm": 0,
        "k.pypi": 2,
        "min_authorized": 2,
        "open_max": 7,
        "rate_per_hour": 8,
        "rules": 2,
        "sealed": 1,
    }
    runner = BlockRunner()
    for name, value in values.items():
        execution = runner.run(*param(name, value)(runner))
        assert execution.next_set is None
        assert execution.leaves == ()
    found = dict(runner.in_force().listed())
    assert found == values


def test_parameter_holds_from_the_next_block_on() -> None:
    runner = BlockRunner()
    request = make.request(runner.members[0])
    runner.run(*param("min_authorized", 5)(runner), request)
    with pytest.raises(InvalidInputError, match="build requests need 5"):
        runner.run(make.request(runner.members[1], lock="later"))


def test_parameter_can_go_back_and_forth() -> None:
    runner = BlockRunner()
    for value in (5, 4, 5, 4):
        operation = SetParam(runner.members[0], "burst", value, f"{runner.height:032x}")
        yes = [
            change.approve(each, operation, NETWORK, since=runner.height, expiry=runner.height + 20)
            for each in runner.members
        ]
        runner.run(*yes, operation)
        assert runner.in_force().params.burst == value
