"""What ``pyrsia evidence`` shows of a split view."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from pyrsia_cli.commands.evidence import evidence_rows
from pyrsia_node.schema.evidence import EvidenceList, SplitViewLine


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Who signed both heads, and what the row says of it."""

    signed_both: list[str]
    is_proved: bool
    member: list[str]
    crime: str


CASES = (
    Shown(signed_both=["east"], is_proved=True, member=["east"], crime="split view"),
    Shown(
        signed_both=["east"],
        is_proved=False,
        member=["east"],
        crime="split view, not proved to others yet",
    ),
    # Nobody signed both: then the ones who signed the other head are all that is known.
    Shown(signed_both=[], is_proved=True, member=["east", "west"], crime="split view"),
)


@pytest.mark.parametrize("case", CASES)
def test_a_split_view_is_shown_with_both_heads_its_signers_and_the_file_of_its_proof(
    case: Shown,
) -> None:
    view = SplitViewLine(
        size=9,
        root="ab" * 32,
        cosigned_by=["east", "west"],
        our_size=7,
        our_root="cd" * 32,
        signed_both=case.signed_both,
        is_proved=case.is_proved,
        file="split-view-9-0011223344556677.json",
    )
    (row,) = evidence_rows(EvidenceList(evidence=[], forks=[], split_views=[view]))
    assert row == {
        "member": case.member,
        "crime": case.crime,
        "first": "size 7 root cdcdcdcdcdcd",
        "second": "size 9 root abababababab",
        "id": "split-view-9-0011223344556677.json",
    }
