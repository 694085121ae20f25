"""Four members and a state in which one rule is about to be broken, short to write in a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pyrsia_node.ledger.machine.context import Head
from pyrsia_node.ledger.motions import Approvable
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.membership import MembershipOperation
from pyrsia_node.model.transactions import Transaction
from tests.fakes.block_runner import NETWORK, BlockRunner, unsigned
from tests.strategies import build_bodies as make
from tests.strategies import member_bodies as change
from tests.strategies.identities import Identity, identities, identity

FOUR = identities(4)
ME, YOU, THIRD, FOURTH = (one.id for one in FOUR)
STRANGER, NEW = identity(77), identity(100)
DAY_MS = 24 * 3_600_000
SHORT_MS = 600_000
NOWHERE = Sha256("0" * 64)
NONCE = "00" * 16
REQ = unsigned(make.request(ME)).id
"""What ``Scene.open`` opens."""
OTHER = make.document(".other")


@dataclass
class Scene:
    """Four members, and what a row prepares."""

    patch: pytest.MonkeyPatch
    runner: BlockRunner = dataclasses.field(default_factory=BlockRunner)

    def open(self) -> Sha256:
        return self.runner.open(make.request(ME))

    def sealed(self, *voters: int) -> Sha256:
        """Open a sealed request to which some have committed; unsealed if all have."""
        self.done(change.set_param(ME, "sealed", 1))
        req = self.open()
        for each in voters:
            item = make.salted(make.built(req), each)
            self.runner.run(make.commit(FOUR[each].id, item, NETWORK))
        return req

    def accepted(self) -> Sha256:
        req = self.open()
        batches = [make.batch(one.id, 1, make.built(req)) for one in FOUR[:3]]
        self.runner.run(*batches, make.result(ME, req))
        return req

    def time_is_over(self) -> None:
        self.runner.run(after_ms=SHORT_MS)

    def one_joins(self) -> None:
        self.runner.run(*self.runner.add(NEW))

    def done(self, operation: Approvable) -> None:
        self.runner.run(*self.runner.approved(operation))

    def adding(self, one: Identity = NEW, *, by: str = ME, **at: int) -> MembershipOperation:
        height = at.get("height", self.runner.height)
        known = self.runner.heads[min(height, self.runner.height)]
        head = Head(at.get("size", known.size), known.root)
        return change.add(type(ME)(by), one, NETWORK, height=height, head=head)

    def rotating(self, after: Identity) -> MembershipOperation:
        head = self.runner.heads[-1]
        return change.rotate(after, NETWORK, height=self.runner.height, head=head)

    def approved(self, operation: MembershipOperation) -> list[Transaction]:
        return self.runner.approved(operation)


Make = Callable[[Scene], list[Transaction]]


def after(*steps: Callable[[Scene], object], bodies: Make) -> Make:
    """Return the row whose bodies come after some steps."""

    def rule(scene: Scene) -> list[Transaction]:
        for step in steps:
            step(scene)
        return bodies(scene)

    return rule
