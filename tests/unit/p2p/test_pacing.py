"""Buckets and back-off, with the time in our hands."""

from __future__ import annotations

import pytest

from pyrsia_node.p2p.pacing import PeerBuckets, TokenBucket, backoff_s


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate_per_s=2, burst=4, now_s=0)
    assert [bucket.take(1, 0) for _ in range(5)] == [True] * 4 + [False]
    assert not bucket.take(1, 0.4)
    assert bucket.take(1, 0.5)
    assert [bucket.take(1, 1000) for _ in range(5)] == [True] * 4 + [False]


def test_spending_says_how_long_until_it_is_earned() -> None:
    bucket = TokenBucket(rate_per_s=10, burst=10, now_s=0)
    assert bucket.spend(10, 0) == 0
    assert bucket.spend(5, 0) == pytest.approx(0.5)
    assert bucket.spend(5, 0.5) == pytest.approx(0.5)


def test_peers_have_buckets_of_their_own_and_the_idlest_is_forgotten() -> None:
    buckets = PeerBuckets(rate_per_s=1, burst=1, peers_max=2)
    assert buckets.take("a", 0)
    assert not buckets.take("a", 0)
    assert buckets.take("b", 0)
    assert buckets.take("c", 0)
    assert buckets.take("a", 0)
    assert not buckets.take("c", 0)


@pytest.mark.parametrize(("failures", "bound"), [(1, 1), (2, 2), (5, 16), (6, 30), (10_000, 30)])
def test_backoff_doubles_up_to_its_end_within_half_to_whole(failures: int, bound: float) -> None:
    low = backoff_s(failures, first_s=1, last_s=30, chance=0.0)
    high = backoff_s(failures, first_s=1, last_s=30, chance=0.999_999)
    assert low == bound / 2
    assert bound / 2 < high <= bound
