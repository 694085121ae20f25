"""Sets, approvals and parameters against a naive model that forgets nothing.

Hypothesis plays admins that approve what they like for as long as they like, operations that are
submitted too early, twice, by strangers, with old or future proofs, and keys that come back.
"""

from __future__ import annotations

import copy

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from consensus.quorum import quorum
from pyrsia_node.ledger.approvals import read_approvals
from pyrsia_node.ledger.machine.context import NotYetValidError, RecordCache
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.model.membership import MembershipOperation
from pyrsia_node.model.transactions import Transaction
from tests.fakes.block_runner import NETWORK, BlockRunner, unsigned
from tests.property.ledger.naive_ledger import Json, NotYet, Refused
from tests.property.ledger.naive_membership import NaiveMembership
from tests.strategies import member_bodies as change
from tests.strategies.identities import identities, identity

NEWCOMERS = [identity(number) for number in (100, 101)]
FRESH = [identity(number) for number in (200, 201, 202)]

people = st.integers(0, 5)
wishes = st.one_of(
    st.tuples(st.just("add"), people, st.just(0)),
    st.tuples(st.just("remove"), people, st.just(0)),
    st.tuples(st.just("rotate"), people, st.integers(0, 3)),
    st.tuples(st.just("param"), st.integers(0, 2), st.sampled_from([0, 1, 2, 89])),
)
Wish = tuple[str, int, int]
ages = st.sampled_from([0, 0, 0, 0, 1, -1, 300])


class MembershipAgainstModel(RuleBasedStateMachine):
    @initialize(n=st.integers(1, 4), skipped=st.sampled_from([0, 290]))
    def start(self, n: int, skipped: int) -> None:
        self.runner = BlockRunner(n)
        self.people = [*identities(4), *NEWCOMERS]
        # A long quiet log, whose heights cost nothing here.
        self.runner.heads *= 1 + skipped
        self.runner.voters *= 1 + skipped
        records: dict[str, Json] = {
            one.id: dict(one.member.record.to_json()) for one in identities(n)
        }
        self.naive = NaiveMembership(
            network=NETWORK,
            members=records,
            heads=[(head.size, head.root) for head in self.runner.heads],
            params={"burst": 64, "k.pypi": 0, "min_authorized": 3},
            height=skipped,
        )
        self.nonce = 0

    # -------------------------------------------------------------- blocks

    def block(self, *bodies: Transaction) -> bool:
        """Run a block in both; one with an invalid transaction changes nothing in either."""
        plain: list[tuple[str, Json]] = []
        for body in bodies:
            signed = unsigned(body)
            plain.append((signed.id, dict(signed.body.to_json())))
        trial = copy.deepcopy(self.naive)
        try:
            trial.block(plain)
        except (Refused, NotYet) as refusal:
            is_final = isinstance(refusal, Refused)
            before = dict(self.runner.state.scan(b""))
            with pytest.raises(InvalidInputError) as caught:
                self.runner.run(*bodies)
            assert type(caught.value) is (InvalidInputError if is_final else NotYetValidError)
            assert dict(self.runner.state.scan(b"")) == before
            return False
        self.runner.run(*bodies)
        self.naive = trial
        head = self.runner.heads[-1]
        self.naive.heads.append((head.size, head.root))
        return True

    def operation(self, wish: Wish, by: int, age: int) -> MembershipOperation:
        kind, number, value = wish
        height = max(0, self.runner.height - age)
        head = self.runner.heads[min(height, self.runner.height)]
        one, author = self.people[number % 6], self.people[by].id
        match kind:
            case "add":
                return change.add(author, one, NETWORK, height=height, head=head)
            case "remove":
                return change.remove(author, one.id, nonce=self.nonce)
            case "rotate":
                keys = [*FRESH, one][value]
                after = change.renewed(one.member.record, keys)
                return change.rotate(after, NETWORK, height=height, head=head)
            case _:
                name = ["burst", "k.pypi", "min_authorized"][number]
                return change.set_param(author, name, value, nonce=self.nonce)

    # -------------------------------------------------------------- rules

    @rule(
        wish=wishes,
        who=st.lists(people, min_size=1, max_size=4),
        ahead=st.integers(0, 6),
        old=st.sampled_from([0, 0, 0, 1, 3, -1]),
    )
    def approve(self, wish: Wish, who: list[int], ahead: int, old: int) -> None:
        for number in who:
            yes = change.approve(
                self.people[number].id,
                self.operation(wish, number, 0),
                NETWORK,
                since=max(0, self.runner.height - old),
                expiry=max(1, self.runner.height + ahead),
            )
            self.block(yes)

    @rule(wish=wishes, by=people, age=ages, is_new=st.booleans())
    def submit(self, *, wish: Wish, by: int, age: int, is_new: bool) -> None:
        self.nonce += is_new
        self.block(self.operation(wish, by, age))

    @rule(wish=wishes, other=wishes, by=people, missing=st.sampled_from([0, 0, 0, 1]))
    def carry_through(self, *, wish: Wish, other: Wish, by: int, missing: int) -> None:
        """Approve by as many as are needed, one less at times, and submit; perhaps two at once."""
        self.nonce += 1
        operation = self.operation(wish, by, 0)
        members, now = self.runner.members, self.runner.height
        yes = [
            change.approve(each, operation, NETWORK, since=now, expiry=now + 3)
            for each in members[: quorum(len(members)) - missing]
        ]
        if wish[0] == other[0] or not self.block(*yes, operation, self.operation(other, by, 0)):
            self.block(*yes, operation)

    @rule(count=st.integers(1, 5))
    def heights_pass(self, count: int) -> None:
        for _ in range(count):
            self.block()

    @rule()
    def the_node_starts_again(self) -> None:
        self.runner._known = RecordCache()

    # -------------------------------------------------------------- laws

    @invariant()
    def sets_are_the_same(self) -> None:
        after = self.runner.voters[-1]
        assert {each.id: each.to_json() for each in after.members} == self.naive.members
        assert after.epoch == self.naive.epoch
        assert after.quorum == quorum(len(after.members))

    @invariant()
    def parameters_are_the_same(self) -> None:
        found = self.runner.in_force()
        assert {name: found.value_of(name) for name in self.naive.params} == self.naive.params
        assert found.params.open_max == DEFAULT_PARAMS.open_max

    @invariant()
    def approvals_that_count_are_the_same(self) -> None:
        height = self.runner.height + 1
        found = {
            (each.op, each.subject, each.by, each.expiry)
            for each in read_approvals(self.runner.state, height=height)
        }
        assert found == {
            (yes.op, yes.subject, yes.by, yes.expiry)
            for yes in self.naive.given
            if yes.expiry >= height
        }

    @invariant()
    def what_expired_is_forgotten(self) -> None:
        keys = [key for key, _ in self.runner.state.scan(b"approval/")]
        rows = [key for key, _ in self.runner.state.scan(b"expiring/")]
        alive = [yes for yes in self.naive.given if yes.expiry > self.runner.height]
        assert len(keys) == len(rows) == len(alive)


TestMembershipAgainstModel = MembershipAgainstModel.TestCase
TestMembershipAgainstModel.settings = settings(stateful_step_count=30)
