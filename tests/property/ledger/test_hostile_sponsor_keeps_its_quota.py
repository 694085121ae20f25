"""A hostile sponsor stays within its limits, even when it proposes the blocks itself.

The limits are rules of the state machine: a block that breaks one is no block, so no proposer can
help. Measured over every interval of block time, not by the bucket that the product keeps.
"""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.ledger.machine import requests
from pyrsia_node.ledger.machine.records import SponsorRecord
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import BuildRequest
from tests.fakes.block_runner import BlockRunner
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PARAMS = dataclasses.replace(DEFAULT_PARAMS, burst=4, rate_per_hour=600, open_max=6)

# What the proposer tries to put into one block, and how long after the last.
attempts = st.tuples(
    st.integers(1, 8), st.integers(0, 4), st.sampled_from([1, 500, 6_000, 60_000, 600_000, DAY_MS])
)


def greedy(runner: BlockRunner, wanted: list[BuildRequest], pause_ms: int) -> list[BuildRequest]:
    """Run the largest block of the wanted requests that is one; return what it holds."""
    chosen: list[BuildRequest] = []
    for each in wanted:
        trial = [*chosen, each]
        try:
            runner.trial(*trial, after_ms=pause_ms)
        except InvalidInputError:
            continue
        chosen = trial
    runner.run(*chosen, after_ms=pause_ms)
    return chosen


@given(blocks=st.lists(attempts, min_size=1, max_size=8))
def test_hostile_sponsor_cannot_exceed_its_quota_whatever_proposer_helps(
    blocks: list[tuple[int, int, int]],
) -> None:
    runner = BlockRunner(params=PARAMS)
    sponsor = runner.members[0]
    opened: list[tuple[int, str]] = []
    number = 0
    for count, package, pause_ms in blocks:
        wanted = []
        for _ in range(count):
            number += 1
            wanted.append(
                make.request(
                    sponsor,
                    purl=Purl.pypi(f"package{package}", "1.0"),
                    lock=f"{number}",
                    nonce=number,
                    until=runner.time_ms + pause_ms + HOUR_MS,
                )
            )
        found = greedy(runner, wanted, pause_ms)
        opened += [(runner.time_ms, str(each.purl)) for each in found]
        assert len(list(runner.state.scan(b"open/"))) <= PARAMS.open_max
    times = [at for at, _ in opened]
    for first, start_ms in enumerate(times):
        for last in range(first, len(times)):
            allowed = PARAMS.burst + (times[last] - start_ms) * PARAMS.rate_per_hour / HOUR_MS
            assert last - first + 1 <= allowed
    for start_ms in times:
        in_a_day = Counter(purl for at, purl in opened if start_ms <= at < start_ms + DAY_MS)
        assert max(in_a_day.values()) <= 3


def test_block_of_a_proposer_that_counts_otherwise_gets_no_vote(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hostile, honest = LocalChain(params=PARAMS), LocalChain(params=PARAMS)
    sponsor = hostile.members[0].id
    flood = [
        hostile.sign(make.request(sponsor, purl=Purl.pypi(f"p{n}", "1"), nonce=n)).encoded
        for n in range(PARAMS.burst + 1)
    ]
    with monkeypatch.context() as patched:
        patched.setattr(
            requests, "_charged", lambda _state, context, _: SponsorRecord(1, 0, context.time_ms)
        )
        block = hostile.build(*flood)
    assert block is not None
    verdict = honest.chain.check_body(block, 1, honest.now_ms)
    assert not verdict.valid
    assert f"transaction {PARAMS.burst} of the block: sponsor asks too fast" in verdict.reason
    fair = honest.build(*flood)
    assert fair is not None
    assert len(honest.chain.check_body(fair, 1, honest.now_ms).reason) == 0
