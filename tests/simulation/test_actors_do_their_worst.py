"""Traitors, each alone: it acts, honest nodes finish, only real contradictions are named."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from consensus.sim.cluster import Cluster, Outcome
from consensus.sim.network import Network
from consensus.sim.plan import plan
from consensus.sim.roster import ACTOR_NAMES, TWIN
from consensus.types import NodeId

SEEDS = range(4)


class _Tap(Counter[NodeId]):
    """Counts frames by who sends them."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> _Tap:
    tap = _Tap()
    send = Network.send

    def counted(self: Network, source: NodeId, target: NodeId, frame: bytes) -> None:
        tap[source] += 1
        send(self, source, target, frame)

    monkeypatch.setattr(Network, "send", counted)
    return tap


def _run(actor: str, seed: int) -> Outcome:
    drawn = plan(seed, n=4, actors=ACTOR_NAMES)
    members = drawn.sets[0]
    traitor = members[seed % 4]
    return Cluster(
        replace(
            replace(drawn, outages=(), sick_disks=(), clock_jumps=(), cuts=()).with_one_set(),
            traitors=(traitor,),
            actors=((actor,),),
        )
    ).run()


@pytest.mark.parametrize("actor", ACTOR_NAMES)
def test_honest_nodes_finish_against_every_actor(actor: str, sent: _Tap) -> None:
    for seed in SEEDS:
        sent.clear()
        outcome = _run(actor, seed)
        traitor = NodeId(f"n{seed % 4}")
        assert outcome.violation is None, f"{actor}, seed {seed}: {outcome.violation}"
        assert (sent[traitor] == 0) == (actor == "Silent"), f"{actor} sent {sent[traitor]} frames"
        assert set(outcome.accused) <= {traitor}


@pytest.mark.parametrize("actor", ["Equivocator", "StaleVoter", TWIN, "UnjustifiedLeader"])
def test_whoever_contradicts_itself_is_named(actor: str) -> None:
    assert any(_run(actor, seed).accused for seed in range(12))


@pytest.mark.parametrize("actor", ["Silent", "WithholdingLeader", "Nullifier", "Flooder"])
def test_whoever_only_fails_is_not_named(actor: str) -> None:
    assert not any(_run(actor, seed).accused for seed in SEEDS)
