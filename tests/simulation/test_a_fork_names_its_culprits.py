"""More than f traitors can fork the log, and are named by the certificates that they needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.sim.clock import SECOND
from consensus.sim.cluster import Cluster, Outcome
from consensus.sim.network import Cut
from consensus.sim.plan import plan
from consensus.sim.roster import ACTOR_NAMES
from consensus.sim.schedule import Wrongness


def _run(seed: int, *, n: int, traitors: int) -> Outcome:
    """Run conspirators against honest nodes whose halves cannot hear each other for a while."""
    drawn = plan(seed, n=n, actors=ACTOR_NAMES, traitors_max=traitors)
    members = drawn.sets[0]
    traitor_ids = members[:traitors]
    honest = members[traitors:]
    one, two = honest[::2], honest[1::2]
    links = frozenset((a, b) for x, y in ((one, two), (two, one)) for a in x for b in y)
    return Cluster(
        replace(
            drawn,
            nodes=members,
            sets=(members,),
            clocks=(Wrongness(0, 0, 1_000),) * n,
            traitors=traitor_ids,
            actors=(("Conspirator",),) * traitors,
            gst_us=20 * SECOND,
            cuts=(Cut(start_us=0, end_us=20 * SECOND, links=links),),
            weather=replace(drawn.weather, loss=0, straggle=0, jammed=()),
            outages=(),
            blackouts=(),
        )
    ).run()


@pytest.mark.parametrize(("n", "traitors"), [(4, 2), (7, 3)])
def test_every_fork_convicts_more_than_f_members_and_no_honest_one(n: int, traitors: int) -> None:
    forks = 0
    for seed in range(10):
        outcome = _run(seed, n=n, traitors=traitors)
        assert outcome.violation is None, f"n {n}, seed {seed}: {outcome.violation}"
        if outcome.culprits:
            forks += 1
            assert len(outcome.culprits) > (n - 1) // 3
    assert forks >= 5, "otherwise nothing was tested"


def test_f_conspirators_fork_nothing() -> None:
    for seed in range(10):
        outcome = _run(seed, n=4, traitors=1)
        assert outcome.violation is None
        assert not outcome.culprits
