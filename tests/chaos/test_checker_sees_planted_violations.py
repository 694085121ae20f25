"""The judge of histories: a good one passes, each planted violation is named, and only it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pyrsia_node.tlog.tree import EMPTY_FRONTIER, leaf_hash
from tests.chaos.checker import judge
from tests.chaos.history import (
    Event,
    HeadSeen,
    History,
    Invoked,
    Looked,
    Written,
    read_history,
)

LOG = [b"header", b"tx:a", b"header", b"tx:b", b"tx:c"]


def transaction_of(leaf: bytes) -> str | None:
    return leaf[3:].decode() if leaf.startswith(b"tx:") else None


def root(size: int, log: Sequence[bytes] = LOG) -> str:
    return EMPTY_FRONTIER.extend(leaf_hash(leaf) for leaf in log[:size]).root().hex()


GOOD: list[Event] = [
    Invoked("n1", "a"),
    Written("n1", "a", "ok", 1, 1),
    HeadSeen("n1", 2, root(2)),
    Invoked("n2", "b"),
    Looked("n1", "a", 2, (1,), complete=True),
    Written("n2", "b", "ok", 3, 2),
    Invoked("n1", "c"),
    Written("n1", "c", "unknown"),
    Invoked("n1", "d"),
    Invoked("n2", "e"),
    Written("n2", "e", "failed"),
    HeadSeen("n1", 5, root(5)),
    Looked("n1", "b", 5, (3,), complete=True),
    Looked("n2", "c", 4, (), complete=True),
    Looked("n2", "b", 5, (), complete=False),
]
LOGS = {"n1": LOG, "n2": LOG}


def test_a_good_history_passes_and_is_counted() -> None:
    verdict = judge(GOOD, LOGS, transaction_of)
    assert verdict.violations == ()
    assert (verdict.acknowledged, verdict.refused) == (2, 1)
    assert (verdict.unknown, verdict.unknown_in_log) == (2, 1)
    assert (verdict.heads, verdict.lookups, verdict.leaves) == (2, 4, 5)


def test_a_node_may_be_behind_what_nobody_was_told() -> None:
    assert judge(GOOD, {"n1": LOG, "n2": LOG[:4]}, transaction_of).violations == ()


@pytest.mark.parametrize(
    ("added", "names"),
    [
        (Written("n1", "d", "ok", 5, 3), "lost"),
        (Written("n1", "a", "ok", 2, 1), "lost"),
        (Written("n1", "c", "failed"), "refused"),
        (HeadSeen("n2", 4, root(3)), "head"),
        (HeadSeen("n2", 6, root(5)), "head"),
        (HeadSeen("n1", 2, root(2)), "back"),
        (Looked("n1", "a", 4, (1,), complete=True), "back"),
        (Looked("n1", "a", 5, (), complete=True), "lookup"),
        (Looked("n2", "a", 5, (0,), complete=False), "lookup"),
        (Looked("n2", "b", 5, (1, 3), complete=True), "lookup"),
    ],
)
def test_an_event_that_contradicts_the_log_is_named(added: Event, names: str) -> None:
    violations = judge([*GOOD, added], LOGS, transaction_of).violations
    assert violations
    assert {each.partition(":")[0] for each in violations} <= {names, "behind"}
    assert any(each.startswith(names) for each in violations)


@pytest.mark.parametrize(
    ("logs", "names"),
    [
        ({"n1": LOG, "n2": [*LOG[:3], b"tx:z"]}, "fork"),
        ({"n1": LOG, "n2": LOG[:3]}, "behind"),
        ({"n1": [*LOG, b"tx:a"]}, "doubled"),
        ({"n1": [*LOG, b"tx:stranger"]}, "invented"),
    ],
)
def test_a_log_that_breaks_the_rules_is_named(logs: dict[str, list[bytes]], names: str) -> None:
    (violation,) = judge(GOOD, logs, transaction_of).violations
    assert violation.startswith(names)


def test_a_history_reads_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    for event in GOOD:
        history.add(event)
    assert history.events() == GOOD
    history.close()
    with path.open(encoding="utf-8") as lines:
        assert read_history(lines) == GOOD
