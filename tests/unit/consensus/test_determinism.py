"""The same events give the same effects, whatever the order in which Python iterates sets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

STORY = """
import hashlib
from consensus.events import TimerKind
from tests.unit.consensus.committee import Committee

committee = Committee(7)
told = hashlib.sha256()
for turn in range(6):
    for index in (0, 3, 5):
        committee[index].work()
    if turn % 2:
        lost = [0]
        def keep(sender, to, frame):
            lost[0] += 1
            return lost[0] % 3 != 0
        committee.deliver(keep)
        for node in committee.nodes.values():
            node.fire(TimerKind.VIEW)
            node.fire(TimerKind.RETRY)
    committee.deliver()
for node in committee.nodes.values():
    told.update(repr(node.done).encode())
print(committee[0].replica.height, told.hexdigest())
"""


def test_two_hash_seeds_give_the_same_effects() -> None:
    told = set()
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", STORY],
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        )
        told.add(run.stdout)
    (only,) = told
    assert int(only.split()[0]) > 3, "the story decides blocks"
