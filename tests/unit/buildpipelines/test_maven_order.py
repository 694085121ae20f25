"""Versions are sorted as Maven's own documentation says."""

from __future__ import annotations

from itertools import pairwise

import pytest

from buildpipelines.errors import FormatError
from buildpipelines.spec.maven_order import version_key

ORDERS = [
    "1.0-alpha-1 1.0-alpha-2 1.0-beta-1 1.0-m1 1.0-rc1 1.0-SNAPSHOT 1.0 1.0-sp 1.0-abc 1.0-1 1.0.1",
    "1-a1 1-b1 1-m1 1-rc1 1-snapshot 1 1-sp 1-whatever 1-1 1.1 1.9 1.10 2",
    "1-alpha2snapshot 1-alpha2 1-alpha-123 1-beta-2 1-beta123 1-m2 1-m11 1-rc 1-cr2 1-rc123",
    "1-abc 1-def 1-pom-1 1-1-snapshot 1-1 1-2 1-123",
    "2.0 2.0.a 2-1 2.0.2 2.0.123 2.1.0 2.1-a 2.1b 2.1-c 2.1-1 2.1.0.1 2.2 2.123",
    "11.a2 11.a11 11.b2 11.b11 11.m2 11.m11 11 11.a 11b 11c 11m",
    "1.0.0.X1 1.0.0-X2",
    "20030203.000129 20040616",
]
EQUAL = [
    ("1", "1.0"),
    ("1", "1-ga"),
    ("1.0-final", "1"),
    ("1.0-release", "1"),
    ("1.0.0-0-0", "1-final-ga"),
    ("1-rc", "1-CR"),
    ("1a1", "1-alpha-1"),
    ("1X", "1.0.0-x"),
]


@pytest.mark.parametrize("order", ORDERS)
def test_each_version_is_older_than_the_next(order: str) -> None:
    for older, newer in pairwise(order.split()):
        assert version_key(older) < version_key(newer), (older, newer)
        assert not version_key(newer) < version_key(older), (older, newer)


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_what_says_the_same_is_at_one_place(one: str, other: str) -> None:
    assert version_key(one) == version_key(other)
    assert not version_key(one) < version_key(other)


def test_endless_version_is_refused() -> None:
    with pytest.raises(FormatError, match="256"):
        version_key("1" * 257)
