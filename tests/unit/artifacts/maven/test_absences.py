"""Absences are believed for a while, count for a day while nobody can be asked, and are bounded."""

from __future__ import annotations

import pytest

from pyrsia_node.artifacts.maven import absences
from pyrsia_node.artifacts.maven.absences import STALE_SECONDS, Absences


def test_absence_is_believed_for_its_time_and_counts_for_a_day_while_nobody_can_be_asked() -> None:
    noted = Absences(60)
    noted.note("a", 100)
    for now, expected in (
        (100, (True, True)),
        (159, (True, True)),
        (160, (False, True)),
        (99 + STALE_SECONDS, (False, True)),
        (100 + STALE_SECONDS, (False, False)),
    ):
        assert (noted.is_believed("a", now), noted.was_seen("a", now)) == expected


def test_what_was_never_asked_for_or_came_since_is_not_absent() -> None:
    noted = Absences(60)
    noted.note("a", 100)
    noted.forget("a")
    noted.forget("never")
    for key in ("a", "never"):
        assert not noted.is_believed(key, 100)
        assert not noted.was_seen(key, 100)


def test_number_is_bounded_and_the_one_noted_longest_ago_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(absences, "ABSENCES_KEPT", 2)
    noted = Absences(60)
    for now, key in enumerate(("a", "b", "a", "c")):
        noted.note(key, now)
    assert [key for key in "abc" if noted.was_seen(key, 3)] == ["a", "c"]
