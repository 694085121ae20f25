"""A member's start questions are paid for; an honest start is answered each time that it asks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from consensus.amnesia import decode_answer, encode_question
from consensus.replica import Replica
from consensus.types import Height, NodeId
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.replica.amnesia import ASK_INTERVAL_MAX_S, ASK_INTERVAL_S
from pyrsia_node.replica.recall import ANSWERS_BURST, ANSWERS_PER_S, Recall
from pyrsia_node.replica.transcripts import Transcripts
from tests.fakes.local_chain import LocalChain
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.strategies import build_bodies as make

QUESTION = encode_question(Height(0))


class CountingStore(MemoryKeyValueStore):
    """A store that counts its reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(key)


class Asked:
    """A node of height 1 that others ask at times of the test's choice."""

    def __init__(self) -> None:
        self.store = CountingStore()
        local = LocalChain(4, store=self.store)
        local.commit(make.request(local.members[0].id))
        self.members = [member.id for member in local.members]
        # Of a replica that has just begun its height only the set is asked for, and no votes.
        replica = SimpleNamespace(members=local.chain.tip.members, votes_of=lambda _member: ())
        self.now_s = 0.0
        self._recall = Recall(
            chain=local.chain,
            replica=cast("Replica", replica),
            transcripts=Transcripts(self.store, local.chain),
            now_s=lambda: self.now_s,
        )

    def is_answered(self, member: NodeId | None, at_s: float) -> bool:
        self.now_s = at_s
        try:
            answer = self._recall.answer(member, QUESTION)
        except UnavailableError:
            return False
        assert decode_answer(answer).tip == 1
        return True

    def refuse_malformed(self, member: NodeId) -> None:
        with pytest.raises(InvalidInputError):
            self._recall.answer(member, b"x")


@pytest.fixture
def asked() -> Asked:
    return Asked()


def times_of_a_start(began_s: float, until_s: float) -> list[float]:
    """Return when a member asks that nobody lets vote: at first often, then every five seconds."""
    times, pause = [began_s], ASK_INTERVAL_S
    while times[-1] + pause < until_s:
        times.append(times[-1] + pause)
        pause = min(2 * pause, ASK_INTERVAL_MAX_S)
    return times


def test_member_that_asks_a_hundred_times_a_second_gets_an_answer_a_second(asked: Asked) -> None:
    traitor = asked.members[1]
    answers = sum(asked.is_answered(traitor, number / 100) for number in range(2_000))
    assert answers <= ANSWERS_BURST + 20 * ANSWERS_PER_S


def test_question_that_is_refused_reads_nothing(asked: Asked) -> None:
    while asked.is_answered(asked.members[1], 0.0):
        pass
    asked.store.reads = 0
    assert not asked.is_answered(asked.members[1], 0.5)
    assert asked.store.reads == 0


def test_start_that_lasts_is_answered_each_time_that_it_asks(asked: Asked) -> None:
    assert all(asked.is_answered(asked.members[1], at) for at in times_of_a_start(0.0, 120.0))


def test_member_that_starts_every_few_seconds_is_answered_in_each_life(asked: Asked) -> None:
    for began_s in range(0, 60, 4):
        times = times_of_a_start(began_s, began_s + 4)
        answers = [asked.is_answered(asked.members[1], at) for at in times]
        assert any(answers)


def test_nobody_pays_for_another_members_questions(asked: Asked) -> None:
    while asked.is_answered(asked.members[1], 0.0):
        pass
    assert asked.is_answered(asked.members[2], 0.0)
    # Who is no member gets the height alone, at the cost of a few bytes.
    assert all(asked.is_answered(None, 0.0) for _ in range(100))


def test_malformed_question_costs_its_sender_no_answer(asked: Asked) -> None:
    for _ in range(100):
        asked.refuse_malformed(asked.members[1])
    assert asked.is_answered(asked.members[1], 0.0)
