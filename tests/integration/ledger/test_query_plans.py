"""How SQLite looks things up: no question costs more because others have filled the log.

The planner knows no figures of the tables, so what it decides over a small log it decides over a
large one, too.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.query import parse_query
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.ledger.search import search
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.search_terms import CLAIMS, STATUSES, UNIT_TYPES
from tests.fakes.log_story import LogStory, tell

STORY = LogStory()
tell(STORY)
SIZE = STORY.chain.tip.size
SIX = Purl.pypi("six", "1.17.0")
TERMS = (
    *("pkg:pypi/six", "pkg:pypi/six@1.17.0", "pkg:pypi/s*", "file:six*", "file:six-1.17.0.tar.gz"),
    *(
        f"sha256:{'ab' * 32}",
        "sha256:abababab*",
        "dep:six",
        "neededby:six",
        "neededby:pkg:pypi/a@1",
    ),
    *("repo:github.com/psf", "commit:abababa", "builder:node-0", "height:1..3", "since:2020-01-01"),
    *("until:2030-01-01", "six", "compat*", "author:peterson", "-six"),
    *(f"status:{each}" for each in STATUSES),
    *(f"type:{each}" for each in sorted(UNIT_TYPES)),
    *(f"claim:{each}" for each in CLAIMS),
)
BY_TYPE = ("claim:", "status:", "type:")
"""Terms whose answer is all that has a type."""

ALL_OF_A_TABLE = re.compile(r"SCAN (tag|unit|entry|item|request|description|block|[uterbs])$")
ALL_OF_A_KIND = re.compile(r"tag_value \(kind=\?\)|unit_type \(type=\?\)")
ALL_OF_A_TYPE = re.compile(r"unit_type \(type=\? AND leaf[<>]\?\)")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    with IndexWriter.current(folder, network_id=STORY.local.network_id) as writer:
        writer.catch_up(STORY.chain, size=SIZE)
    return folder


@pytest.fixture
def reader(root: Path) -> Iterator[IndexReader]:
    opened = IndexReader(root)
    yield opened
    opened.close()


def plans(root: Path, act: Callable[[sqlite3.Connection], object]) -> list[str]:
    """Return the steps of every statement that ``act`` runs on the index."""
    (path,) = root.glob("index-*.sqlite")
    db = sqlite3.connect(path)
    statements: list[str] = []
    db.set_trace_callback(statements.append)
    act(db)
    db.set_trace_callback(None)
    # What begins with "--" is run by the full-text module for itself.
    own = [each for each in statements if not each.startswith(("--", "PRAGMA"))]
    assert own
    found = [row[3] for each in own for row in db.execute(f"EXPLAIN QUERY PLAN {each}")]
    db.close()
    return found


def too_wide(steps: list[str], *, is_by_type: bool) -> list[str]:
    """Return the steps that look at more than the answer needs."""
    patterns = [ALL_OF_A_TABLE, ALL_OF_A_KIND] + [ALL_OF_A_TYPE] * (not is_by_type)
    return [step for step in steps if any(pattern.search(step) for pattern in patterns)]


@pytest.mark.parametrize("term", TERMS)
def test_a_term_looks_only_at_what_it_may_find(root: Path, term: str) -> None:
    query = parse_query(term)
    for order in ("newest", "log"):
        steps = plans(root, lambda db: search(db, query, as_of=SIZE, limit=5, order=order))  # noqa: B023
        assert too_wide(steps, is_by_type=term.startswith(BY_TYPE)) == []


@pytest.mark.parametrize(
    "ask",
    [
        lambda reader: reader.accepted("pypi", "six", as_of=SIZE),
        lambda reader: reader.projects("pypi", as_of=SIZE),
        lambda reader: reader.statements("pypi", "six", as_of=SIZE),
        lambda reader: reader.revocations(["ab" * 32], as_of=SIZE),
        lambda reader: reader.blocks(as_of=SIZE),
        lambda reader: reader.about(SIX, as_of=SIZE),
        lambda reader: reader.about(SIX.without_version(), as_of=SIZE),
        lambda reader: reader.about(Purl.maven("a.b", "c", "1"), as_of=SIZE),
        lambda reader: reader.hints([2], as_of=SIZE),
    ],
)
def test_what_serving_asks_does_not_grow_with_the_log(
    root: Path,
    reader: IndexReader,
    ask: Callable[[IndexReader], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def act(db: sqlite3.Connection) -> None:
        monkeypatch.setattr(reader, "_open", lambda: db)
        ask(reader)

    assert too_wide(plans(root, act), is_by_type=False) == []
