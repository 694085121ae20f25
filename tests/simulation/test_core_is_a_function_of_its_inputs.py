"""What a core says follows from its inputs alone: replayed into a fresh core they say it again.

Everything that reaches a core in a simulated life is written down: how it started, every event, and
when its signer was let speak or silenced; and what came out. Then a new core gets the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from consensus.ed25519 import Sign
from consensus.effects import Effect, Persist, Record
from consensus.events import Event
from consensus.recovery import recover
from consensus.replica import Replica
from consensus.signer import GENESIS, Signer
from consensus.sim import node
from consensus.sim.batch import Job, run_job
from consensus.timing import Pace
from consensus.types import Digest, Height, NodeId, View

JOBS = (Job(53, 4), Job(24, 7), Job(37, 7))
"""An image put back; changes of the set with power cuts and two traitors; a lost log."""

Input = Event | tuple[str, Height]
"""An event, or that the signer was silenced or let speak from a height on."""


@dataclass(slots=True)
class Log:
    """One life of one core: what went in, in order, and what came out of each."""

    records: tuple[Record, ...]
    named: dict[str, Any]
    """What ``recover`` was given, the signer excepted."""
    public_key: bytes
    first_height: Height | None
    signatures: dict[bytes, bytes] = field(default_factory=dict)
    began: tuple[Effect, ...] = ()
    steps: list[tuple[Input, tuple[Effect, ...]]] = field(default_factory=list)

    def replay(self, steps: Sequence[tuple[Input, tuple[Effect, ...]]]) -> str:
        """Hand ``steps`` to a fresh core; return where it first said something else, or ""."""
        me, chain_id = self.named["me"], self.named["chain_id"]
        sign = self.signatures.__getitem__  # whatever was not signed then is a KeyError now
        signer = Signer(chain_id, me, self.public_key, sign, first_height=self.first_height)
        replica, effects = recover(self.records, signer=signer, **self.named)
        if tuple(effects) != self.began:
            return "at its start"
        for position, (put_in, came_out) in enumerate(steps):
            if isinstance(put_in, tuple):
                how, height = put_in
                signer.resume(height) if how == "resume" else signer.silence()
            elif tuple(replica.step(put_in)) != came_out:
                return f"at input {position}: {put_in}"
        return ""


class _LoggedSigner(Signer):
    """A signer that writes down what it signs, and when it may."""

    log: Log

    def __init__(
        self,
        chain_id: Digest,
        me: NodeId,
        public_key: bytes,
        sign: Sign,
        *,
        first_height: Height | None = GENESIS,
    ) -> None:
        self.made = Log((), {}, public_key, first_height)

        def logged(message: bytes) -> bytes:
            return self.made.signatures.setdefault(message, sign(message))

        super().__init__(chain_id, me, public_key, logged, first_height=first_height)

    def resume(self, first_height: Height) -> None:
        self.made.steps.append((("resume", first_height), ()))
        super().resume(first_height)

    def silence(self) -> None:
        self.made.steps.append((("silence", GENESIS), ()))
        super().silence()


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> list[Log]:
    """Have every life of every core written down from now on."""
    logs: list[Log] = []
    of: dict[int, Log] = {}
    kept: list[Replica] = []  # else an id could be used again
    step: Callable[[Replica, Event], list[Effect]] = Replica.step

    def logged_recover(
        records: tuple[Record, ...], *, signer: _LoggedSigner, **named: Any
    ) -> tuple[Replica, list[Effect]]:
        replica, effects = recover(records, signer=signer, **named)
        log = signer.made
        log.records, log.named, log.began = records, named, tuple(effects)
        kept.append(replica)
        of[id(replica)] = log
        logs.append(log)
        return replica, effects

    def logged_step(replica: Replica, event: Event) -> list[Effect]:
        effects = step(replica, event)
        log = of.get(id(replica))
        if log is not None:
            log.steps.append((event, tuple(effects)))
        return effects

    monkeypatch.setattr(node, "Signer", _LoggedSigner)
    monkeypatch.setattr(node, "recover", logged_recover)
    monkeypatch.setattr(Replica, "step", logged_step)
    return logs


@pytest.mark.timeout(240)
@pytest.mark.parametrize("job", JOBS, ids=str)
def test_inputs_of_every_life_bring_the_same_effects_again(job: Job, lives: list[Log]) -> None:
    assert run_job(job).violation is None
    assert len(lives) >= job.n
    for log in lives:
        assert not log.replay(log.steps), log.named["me"]
    said = [effect for log in lives for _, effects in log.steps for effect in effects]
    assert any(isinstance(effect, Persist) for effect in said)


def test_the_jobs_hold_lives_that_begin_with_a_log_and_signers_that_are_silenced(
    lives: list[Log],
) -> None:
    for job in JOBS:
        run_job(job)
    assert any(log.records for log in lives)
    inputs = [put_in for log in lives for put_in, _ in log.steps]
    assert {put_in[0] for put_in in inputs if isinstance(put_in, tuple)} == {"resume", "silence"}


def test_an_input_that_is_left_out_shows(lives: list[Log]) -> None:
    run_job(JOBS[0])
    log = max(lives, key=lambda one: len(one.steps))
    telling = [
        position
        for position, (put_in, effects) in enumerate(log.steps)
        if effects and not isinstance(put_in, tuple)
    ]
    left_out = log.steps[: telling[0]] + log.steps[telling[0] + 1 :]
    assert log.replay(left_out)


def test_a_core_that_looks_at_anything_else_shows(
    lives: list[Log], monkeypatch: pytest.MonkeyPatch
) -> None:
    pause, asked = Pace.retry_ms, count()

    def never_twice(pace: Pace, height: Height, view: View, attempt: int) -> int:
        return pause(pace, height, view, attempt) + next(asked)

    monkeypatch.setattr(Pace, "retry_ms", never_twice)
    run_job(JOBS[0])
    assert any(log.replay(log.steps) for log in lives)
