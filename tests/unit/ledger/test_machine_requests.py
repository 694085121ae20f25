"""Build requests: limits live in the state machine, so no proposer passes them by."""

from __future__ import annotations

import dataclasses

import pytest

from pyrsia_node.ledger.machine.context import NotYetValidError
from pyrsia_node.ledger.machine.requests import threshold
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import BuildRequest
from tests.fakes.block_runner import BlockRunner, unsigned
from tests.strategies import build_bodies as make
from tests.strategies.identities import GENESIS_TIME_MS, identity

DAY_MS = 24 * 3_600_000


def numbered(runner: BlockRunner, number: int, *, sponsor: int = 0) -> BuildRequest:
    """Return a request that shares nothing with another number's."""
    return make.request(
        runner.members[sponsor], purl=Purl.pypi("six", f"1.{number}"), until=runner.time_ms + DAY_MS
    )


def test_request_opens_with_the_set_of_its_block_and_the_deadline_of_its_class() -> None:
    runner = BlockRunner()
    view = runner.view(runner.open(make.request(runner.members[0], time_class="M")))
    assert view.is_open
    assert view.members == runner.members
    assert view.opened_ms == runner.time_ms
    assert view.deadline_ms == runner.time_ms + 3_600_000
    assert view.leaf == 3
    assert view.k == 3


@pytest.mark.parametrize(
    ("n", "configured", "k"),
    [(4, 0, 3), (4, 1, 2), (4, 2, 2), (4, 3, 3), (7, 0, 5), (7, 1, 3), (1, 0, 1), (1, 1, 1)],
)
def test_k_is_never_below_one_more_than_the_traitors(n: int, configured: int, k: int) -> None:
    assert threshold(configured, n=n) == k


def test_request_needs_enough_authorized_nodes() -> None:
    runner = BlockRunner(2)
    with pytest.raises(InvalidInputError, match="2 authorized nodes are too few"):
        runner.open(make.request(runner.members[0]))


def test_request_of_a_stranger_is_invalid() -> None:
    runner = BlockRunner()
    with pytest.raises(InvalidInputError, match="is no authorized node"):
        runner.open(make.request(identity(9).id))


def test_request_for_an_ecosystem_that_the_network_does_not_rebuild_is_invalid() -> None:
    runner = BlockRunner()
    with pytest.raises(InvalidInputError, match="npm packages, only: docker, maven, pypi"):
        runner.open(make.request(runner.members[0], purl=Purl.parse("pkg:npm/a@1")))


def test_request_that_needs_more_builds_than_there_are_nodes_is_invalid() -> None:
    runner = BlockRunner(3, params=dataclasses.replace(DEFAULT_PARAMS, k={"pypi": 4}))
    with pytest.raises(InvalidInputError, match="needs 4 equal builds, but only 3"):
        runner.open(make.request(runner.members[0]))


def test_request_is_valid_up_to_its_until_and_not_after() -> None:
    until = GENESIS_TIME_MS + 5_000
    runner = BlockRunner()
    body = make.request(runner.members[0], until=until)
    with pytest.raises(InvalidInputError, match="was valid until"):
        runner.open(body, after_ms=5_001)
    runner.open(body, after_ms=5_000)


def test_until_further_ahead_than_a_day_must_wait() -> None:
    runner = BlockRunner()
    body = make.request(runner.members[0], until=GENESIS_TIME_MS + DAY_MS + 2)
    with pytest.raises(NotYetValidError, match="24 hours"):
        runner.open(body, after_ms=1)
    runner.open(body, after_ms=2)


def test_one_transaction_opens_once_even_after_its_outcome() -> None:
    runner = BlockRunner()
    body = make.request(runner.members[0])
    runner.open(body)
    runner.run(after_ms=600_000)
    with pytest.raises(InvalidInputError, match="in the log already"):
        runner.open(body)


def test_equal_inputs_open_once_at_a_time_whoever_asks() -> None:
    runner = BlockRunner()
    first = runner.open(make.request(runner.members[0]))
    again = make.request(runner.members[1], nonce=7, time_class="L")
    with pytest.raises(InvalidInputError, match=f"equal build request is open: {first}"):
        runner.open(again)
    runner.open(make.request(runner.members[1], lock="another lock"))
    runner.run(after_ms=600_000)
    runner.open(again)


def test_twice_in_one_block_is_once_too_often() -> None:
    runner = BlockRunner()
    body = make.request(runner.members[0])
    with pytest.raises(InvalidInputError, match=r"transaction 1 of the block: .* already"):
        runner.run(body, body)


def test_fourth_request_for_a_purl_within_a_day_is_refused() -> None:
    runner = BlockRunner()
    for nonce in range(3):
        runner.open(make.request(runner.members[0], nonce=nonce, until=runner.time_ms + 10_000))
        runner.run(after_ms=600_000)
    opened = [GENESIS_TIME_MS + 1_000 + nonce * 601_000 for nonce in range(3)]
    fourth = make.request(runner.members[0], nonce=3, until=opened[0] + DAY_MS)
    with pytest.raises(InvalidInputError, match="requested 3 times"):
        runner.open(fourth)
    runner.open(make.request(runner.members[1], nonce=4, until=runner.time_ms + 10_000))
    runner.run(after_ms=600_000)
    with pytest.raises(InvalidInputError, match="requested 3 times"):
        runner.open(fourth, after_ms=opened[0] + DAY_MS - 1 - runner.time_ms)
    runner.open(fourth, after_ms=opened[0] + DAY_MS - runner.time_ms)


def test_sponsor_has_a_bounded_number_of_open_requests() -> None:
    runner = BlockRunner(params=dataclasses.replace(DEFAULT_PARAMS, open_max=2))
    runner.run(numbered(runner, 0), numbered(runner, 1))
    with pytest.raises(NotYetValidError, match="2 open requests"):
        runner.run(numbered(runner, 2))
    runner.run(numbered(runner, 3, sponsor=1))
    runner.run(after_ms=600_000 - 1_000)  # the deadline of the first two
    runner.run(numbered(runner, 2))


def test_bucket_empties_and_refills_with_block_time() -> None:
    params = dataclasses.replace(DEFAULT_PARAMS, burst=2, rate_per_hour=60)  # one a minute
    runner = BlockRunner(params=params)
    runner.run(numbered(runner, 0), numbered(runner, 1), after_ms=1)
    with pytest.raises(NotYetValidError, match="next request in 59999 ms"):
        runner.run(numbered(runner, 2), after_ms=1)
    late = dataclasses.replace(numbered(runner, 2), until=runner.time_ms + 100_000)
    with pytest.raises(NotYetValidError):
        runner.run(late, after_ms=59_999)
    runner.run(late, after_ms=60_000)
    with pytest.raises(NotYetValidError, match="next request in 59999 ms"):
        runner.run(numbered(runner, 3), after_ms=1)


def test_bucket_never_holds_more_than_the_burst() -> None:
    runner = BlockRunner(params=dataclasses.replace(DEFAULT_PARAMS, burst=2, rate_per_hour=60))
    runner.run(numbered(runner, 0))
    runner.run(numbered(runner, 1), numbered(runner, 2), after_ms=5_000_000)
    with pytest.raises(NotYetValidError, match="too fast"):
        runner.run(numbered(runner, 3), after_ms=1)


def test_refused_request_changes_nothing() -> None:
    runner = BlockRunner()
    runner.open(make.request(runner.members[0]))
    before = dict(runner.state.scan(b""))
    with pytest.raises(InvalidInputError):
        runner.run(make.request(runner.members[0], nonce=1))
    assert dict(runner.state.scan(b"")) == before
    assert (
        unsigned(make.request(runner.members[0])).id
        != unsigned(make.request(runner.members[0], nonce=1)).id
    )
