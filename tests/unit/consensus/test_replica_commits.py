"""A committee without faults decides, at every size."""

from __future__ import annotations

import pytest

from tests.unit.consensus.committee import Committee


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 7, 17])
def test_committee_commits_the_leaders_block_in_view_0(n: int) -> None:
    committee = Committee(n)
    for _ in range(3):
        committee.leader().work()
        committee.deliver()
    for node in committee.nodes.values():
        assert [(one.height, one.certificate.view) for one in node.committed] == [
            (1, 0),
            (2, 0),
            (3, 0),
        ]
    assert (
        len({node.committed[-1].certificate.block_hash for node in committee.nodes.values()}) == 1
    )
