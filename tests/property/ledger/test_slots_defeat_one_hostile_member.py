"""Revision slots: one hostile member cannot block a package that the others built equally.

All orders in which four members speak, every hostile member, every result it may name. Honest
members keep to their duty: in slot i they try candidate i, and revise to it if somebody shows
them the bytes. The hostile one shows nothing and revises to nothing.
"""

from __future__ import annotations

import itertools

import pytest

from pyrsia_node.model.documents import Document
from pyrsia_node.model.leaves import Accepted
from tests.fakes.block_runner import BlockRunner
from tests.strategies import build_bodies as make

# Members whose equal builds each name another file to serve, say one with another time stamp.
HONEST = [make.document(f".{n}") for n in range(4)]
UNSEEN = make.document(".unseen")


class Play:
    def __init__(self, hostile: int) -> None:
        self.runner = BlockRunner()
        self.req = self.runner.open(make.request(self.runner.members[0]))
        self.hostile = hostile
        self.seqs = [1, 1, 1, 1]

    def speak(self, member: int, document: Document) -> None:
        item = make.built(self.req, document)
        self.runner.run(make.batch(self.runner.members[member], self.seqs[member], item))
        self.seqs[member] += 1

    def honest_members_try(self, owner: int) -> None:
        """Everybody honest revises to the owner's document, and the owner logs it."""
        for member in range(4):
            item = self.runner.view(self.req).items.get(self.runner.members[member])
            needs = item is not None and item.result != HONEST[owner].digest()
            if member != self.hostile and needs:
                self.speak(member, HONEST[owner])
        name = self.runner.members[owner]
        execution = self.runner.run(make.result(name, self.req, HONEST[owner]))
        assert [type(each) for each in execution.outcomes] == [Accepted]

    def run_slots(self) -> None:
        slots = self.runner.view(self.req).slots
        assert slots is not None
        for number, candidate in enumerate(slots.candidates):
            start_ms = slots.starts_ms + number * slots.length_ms
            if start_ms > self.runner.time_ms:
                self.runner.run(after_ms=start_ms - self.runner.time_ms)
            assert slots.candidate_at(self.runner.time_ms) == candidate
            owners = [n for n in range(4) if HONEST[n].digest() == candidate]
            if owners and owners[0] != self.hostile:
                self.honest_members_try(owners[0])
                return


@pytest.mark.parametrize("hostile", range(4))
@pytest.mark.parametrize("named", ["a result of its own", "another's result", "silence"])
def test_package_is_accepted_in_every_order(hostile: int, named: str) -> None:
    for order in itertools.permutations(range(4)):
        play = Play(hostile)
        victim = order[-1] if order[-1] != hostile else order[-2]
        hostile_word = UNSEEN if named == "a result of its own" else HONEST[victim]
        for member in order:
            if member != hostile:
                play.speak(member, HONEST[member])
            elif named != "silence":
                play.speak(member, hostile_word)
        play.run_slots()
        assert play.runner.view(play.req).outcome == "accepted", order
