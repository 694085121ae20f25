"""Search on a log of thousands of entries against a naive reading of the same leaves.

The naive side keeps, for each size of the log, what is known of every build in plain Python and
tests every entry against the query. It shares the parser with the index, and nothing else.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.macro.realistic_log import RealisticLog
from pyrsia_node.ledger.index import IndexWriter, reindex
from pyrsia_node.ledger.query import And, Expression, Not, Or, parse_query
from pyrsia_node.ledger.query_terms import Term, TermKind
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.ledger.search import Order
from pyrsia_node.model.transactions import decode_transaction

LOG = RealisticLog(seed=3)
LEAVES = list(LOG.leaves(1500))
SIZE = len(LEAVES)
VALUES: list[dict[str, Any]] = [json.loads(leaf) for leaf in LEAVES]


@dataclass
class Build:
    """What was said of a request, each with the leaf that said it."""

    leaf: int
    purl: str
    decided: int = SIZE * 9
    outcome: dict[str, Any] = field(default_factory=dict)
    digests: list[tuple[int, str]] = field(default_factory=list)
    builders: list[tuple[int, str]] = field(default_factory=list)
    commit: str = ""


def builds() -> dict[str, Build]:
    found: dict[str, Build] = {}
    for at, (data, leaf) in enumerate(zip(LEAVES, VALUES, strict=True)):
        match leaf["t"]:
            case "build_request":
                request = decode_transaction(data, network_id=LOG.network_id).id
                digests = [(at, str(request)), (at, leaf["source"]["sha256"])]
                commit = leaf["recipe"]["commit"]
                found[request] = Build(at, leaf["purl"], digests=digests, commit=commit)
            case "attest_batch":
                for item in leaf["items"]:
                    if item["outcome"] == "BUILT":
                        found[item["req"]].builders.append((at, leaf["voter"]))
            case "result":
                built = next(
                    item["result"]
                    for batch in VALUES[:at]
                    if batch["t"] == "attest_batch"
                    for item in batch["items"]
                    if item["req"] == leaf["req"]
                )
                found[leaf["req"]].digests.append((at, built))
            case "accepted" | "diverged" | "failed" | "expired":
                found[leaf["req"]].decided = at
                found[leaf["req"]].outcome = leaf
            case _:
                pass
    return found


BUILDS = builds()
HEIGHTS: list[tuple[int, int]] = []
for _leaf in VALUES:
    if _leaf["t"] == "block":
        HEIGHTS.append((_leaf["height"], _leaf["time_ms"]))
    else:
        HEIGHTS.append(HEIGHTS[-1] if HEIGHTS else (0, LOG.local.genesis.time_ms))


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


@dataclass
class Unit:
    """A hit as of a size: one build, or a leaf that stands for itself."""

    leaf: int
    build: Build | None
    as_of: int

    @property
    def is_decided(self) -> bool:
        return self.build is not None and self.leaf == self.build.decided

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = VALUES[self.leaf].get("doc", {})
        return found

    @property
    def purl(self) -> str:
        return self.build.purl if self.build else ""

    def texts(self) -> dict[str, str]:
        name = self.purl.rpartition("/")[2].replace("@", " ")
        if not self.document:
            return {"name": name}
        meta = self.document["metadata"]
        return {
            "name": f"{meta['name']} {meta['version']}",
            "summary": meta["summary"],
            "author": meta["author"],
            "keywords": " ".join(meta["keywords"]),
            "repository": meta["repository"],
            "licence": meta["licence"],
        }


def units(as_of: int) -> list[Unit]:
    found = [Unit(1, None, as_of)] if as_of > 1 else []  # the set leaf
    for build in BUILDS.values():
        if build.decided < as_of:
            found.append(Unit(build.decided, build, as_of))
        elif build.leaf < as_of:
            found.append(Unit(build.leaf, build, as_of))
    return sorted(found, key=lambda unit: unit.leaf)


def has_words(unit: Unit, term: Term, *columns: str) -> bool:
    texts = unit.texts()
    wanted = words_of(term.value)
    for column in columns or tuple(texts):
        have = words_of(texts.get(column, ""))
        for at in range(len(have) - len(wanted) + 1):
            part = have[at : at + len(wanted)]
            if part[:-1] == wanted[:-1] and (
                part[-1].startswith(wanted[-1]) if term.is_prefix else part[-1] == wanted[-1]
            ):
                return True
    return False


def address_of(text: str) -> str:
    return text.removeprefix("https://").lower()


def digests_of(unit: Unit) -> list[str]:
    if unit.build is None:
        return []
    known = [digest for at, digest in unit.build.digests if at < unit.as_of]
    return known + [file["sha256"] for file in unit.document.get("files", [])]


def needed_by(wanted: str, as_of: int) -> set[str]:
    found: set[str] = set()
    for unit in units(as_of):
        if unit.document and wanted in (unit.purl, unit.purl.partition("@")[0]):
            found |= set(dependencies(unit))
    return found


def dependencies(unit: Unit) -> list[str]:
    requires = unit.document.get("metadata", {}).get("requires", [])
    return [f"pkg:pypi/{each.partition('>')[0]}" for each in requires]


def status_of(unit: Unit) -> str:
    if unit.build is None:
        return ""
    return str(VALUES[unit.leaf]["t"]) if unit.is_decided else "open"


def within(term: Term, value: int) -> bool:
    return (term.low is None or value >= term.low) and (term.high is None or value < term.high)


def builders_of(unit: Unit) -> set[str]:
    labels = {one.id: one.member.record.label for one in LOG.local.members}
    if unit.build is None:
        return set()
    ids = {voter for at, voter in unit.build.builders if at < unit.as_of}
    return ids | {labels[each] for each in ids}  # type: ignore[index] # NodeId is text


TESTS: dict[TermKind, Callable[[Unit, Term], bool]] = {
    TermKind.PROJECT: lambda unit, term: unit.purl.partition("@")[0] == term.value,
    TermKind.PURL: lambda unit, term: unit.purl == term.value,
    TermKind.PURL_PREFIX: lambda unit, term: unit.purl.startswith(term.value),
    TermKind.DIGEST: lambda unit, term: any(
        each.startswith(term.value) for each in digests_of(unit)
    ),
    TermKind.AUTHOR: lambda unit, term: has_words(unit, term, "author"),
    TermKind.NAME: lambda unit, term: has_words(unit, term, "name"),
    TermKind.LICENCE: lambda unit, term: has_words(unit, term, "licence"),
    TermKind.TEXT: has_words,
    TermKind.DEPENDENCY: lambda unit, term: term.value in dependencies(unit),
    TermKind.NEEDED_BY: lambda unit, term: (
        bool(unit.document) and unit.purl.partition("@")[0] in needed_by(term.value, unit.as_of)
    ),
    TermKind.REPOSITORY: lambda unit, term: (
        f"{address_of(unit.texts().get('repository', ''))}/".startswith(f"{term.value}/")
    ),
    TermKind.COMMIT: lambda unit, term: (
        unit.build is not None and unit.build.commit.startswith(term.value)
    ),
    TermKind.FILE: lambda unit, term: any(
        file["name"].startswith(term.value) if term.is_prefix else file["name"] == term.value
        for file in unit.document.get("files", [])
    ),
    TermKind.STATUS: lambda unit, term: status_of(unit) == term.value,
    TermKind.TYPE: lambda unit, term: VALUES[unit.leaf]["t"] == term.value,
    TermKind.BUILDER: lambda unit, term: term.value in builders_of(unit),
    TermKind.HEIGHT: lambda unit, term: within(term, HEIGHTS[unit.leaf][0]),
    TermKind.TIME: lambda unit, term: within(term, HEIGHTS[unit.leaf][1]),
}


def holds(unit: Unit, query: Expression) -> bool:
    match query:
        case Term():
            return TESTS[query.kind](unit, query)
        case Not(part):
            return not holds(unit, part)
        case And(parts):
            return all(holds(unit, part) for part in parts)
        case Or(parts):
            return any(holds(unit, part) for part in parts)


def naive(query: str, as_of: int) -> list[int]:
    """Return the hits in the order of the log."""
    expression = parse_query(query)
    return [unit.leaf for unit in units(as_of) if holds(unit, expression)]


ACCEPTED = [value for value in VALUES if value["t"] == "accepted"]


def moment(time_ms: int) -> str:
    return dt.datetime.fromtimestamp(time_ms // 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@st.composite
def terms(draw: st.DrawFn) -> str:
    doc = draw(st.sampled_from(ACCEPTED))["doc"]
    meta, file = doc["metadata"], draw(st.sampled_from(doc["files"]))
    request = draw(st.sampled_from(sorted(BUILDS)))
    build = BUILDS[request]
    height, time_ms = draw(st.sampled_from(HEIGHTS))
    word = draw(st.sampled_from(words_of(meta["summary"])))
    member = draw(st.sampled_from(LOG.local.members)).member.record
    chosen: str = draw(
        st.sampled_from(
            [
                *(doc["purl"], doc["purl"].partition("@")[0], doc["purl"][:13] + "*"),
                *(f"sha256:{file['sha256']}", f"sha256:{file['sha256'][:9]}*"),
                *(f"sha256:{request}", f"sha256:{build.digests[-1][1]}"),
                *(f'author:"{meta["author"]}"', f"author:{meta['author'].split()[0][:3]}*"),
                *(f"name:{meta['name']}", f"license:{meta['licence']}", "licence:m*"),
                *(word, f"{word[:2]}*", f'"{" ".join(words_of(meta["summary"])[:2])}"'),
                *(f"dep:{each.partition('>')[0]}" for each in meta["requires"][:1]),
                *(f"neededby:{doc['purl']}", f"neededby:{meta['name']}"),
                *(f"repo:{meta['repository']}", "repo:github.com"),
                *(f"repo:{meta['repository'].rpartition('/')[0]}", "repo:git.example"),
                *(f"commit:{build.commit}", f"commit:{build.commit[:7]}"),
                *(f"file:{file['name']}", f"file:{file['name'][:4]}*"),
                *("status:open", "status:accepted", "status:diverged", "status:failed"),
                *("type:set", "type:build_request", "type:accepted", "status:revoked"),
                *(f"builder:{member.id}", f"builder:{member.label}"),
                *(f"height:{height}", f"height:{height}..", f"height:{height}..{height + 9}"),
                *(f"since:{moment(time_ms)}", f"until:{moment(time_ms)}"),
                f"since:{moment(time_ms)[:10]}",
            ]
        )
    )
    return chosen


def queries(depth: int = 2) -> st.SearchStrategy[str]:
    if depth == 0:
        return terms()
    inner = queries(depth - 1)
    return st.one_of(
        terms(),
        st.builds("{} {}".format, inner, inner),
        st.builds("({} OR {})".format, inner, inner),
        st.builds("-({})".format, inner),
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    with IndexWriter.current(folder, network_id=LOG.network_id) as writer:
        for size in range(0, SIZE + 97, 97):
            writer.extend(LEAVES[writer.applied_size : size])
    return folder


@pytest.fixture(scope="module")
def reader(root: Path) -> Iterator[IndexReader]:
    opened = IndexReader(root)
    yield opened
    opened.close()


def pages(
    reader: IndexReader, query: str, order: Order, as_of: int, limit: int
) -> tuple[list[int], int]:
    """Return all hits, page by page, and how many pages there were."""
    found: list[int] = []
    cursor = None
    for count in range(1, 20 * SIZE):
        page, _ = reader.search(query, as_of=as_of, limit=limit, cursor=cursor, order=order)
        found += page.hits
        if page.next is None:
            return found, count
        assert page.next != cursor
        cursor = page.next
    raise AssertionError("the pages have no end")


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    query=queries(),
    as_of=st.sampled_from([SIZE, SIZE, SIZE // 2, SIZE - 40, 3, 0]),
    limit=st.sampled_from([200, 50, 1]),
    few_max=st.sampled_from([20_000, 3, 0]),
    steps=st.sampled_from([300_000, 300_000, 0]),
    window=st.sampled_from([8192, 64]),
)
def test_index_finds_exactly_what_a_naive_reading_finds(  # noqa: PLR0917 - Hypothesis names them
    reader: IndexReader,
    query: str,
    as_of: int,
    limit: int,
    few_max: int,
    steps: int,
    window: int,
) -> None:
    expected = naive(query, as_of)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyrsia_node.ledger.term_lists.FEW_MAX", few_max)
        patch.setattr("pyrsia_node.ledger.search.STEPS_MAX", steps)
        patch.setattr("pyrsia_node.ledger.postings._WINDOW_LEAVES", window)
        patch.setattr("pyrsia_node.ledger.postings._FETCH_MIN", 2)
        assert pages(reader, query, "log", as_of, limit)[0] == expected
        assert pages(reader, query, "newest", as_of, limit)[0] == expected[::-1]


def test_a_page_that_runs_out_of_steps_goes_on_where_it_ended(
    reader: IndexReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = "-status:accepted -status:failed -status:open"
    whole, count = pages(reader, query, "newest", SIZE, 200)
    assert count == 1
    monkeypatch.setattr("pyrsia_node.ledger.search.STEPS_MAX", 200)
    again, count = pages(reader, query, "newest", SIZE, 200)
    assert again == whole
    assert count > 2


def test_best_matches_come_first_and_too_many_are_not_ranked(
    reader: IndexReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    word = words_of(ACCEPTED[0]["doc"]["metadata"]["summary"])[0]
    everything = naive(word, SIZE)
    assert len(everything) > 3
    page, _ = reader.search(word, as_of=SIZE, limit=200, order="rank")
    assert page.order == "rank"
    assert sorted(page.hits) == everything
    assert page.matches == len(everything)
    best, _ = reader.search(f"{word} -status:open", as_of=SIZE, limit=2, order="rank")
    assert best.hits == tuple(hit for hit in page.hits if VALUES[hit]["t"] != "build_request")[:2]
    assert best.matches == len(naive(f"{word} -status:open", SIZE))
    monkeypatch.setattr("pyrsia_node.ledger.search.RANKED_MAX", len(everything) - 1)
    unranked, _ = reader.search(word, as_of=SIZE, limit=200, order="rank")
    assert (unranked.order, unranked.matches) == ("newest", None)
    assert list(unranked.hits) == everything[::-1]


def test_following_catching_up_and_reindexing_make_the_same_index(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Source:
        def leaves(self, start: int, end: int) -> Iterator[bytes]:
            return iter(LEAVES[start:end])

    with IndexWriter.current(root, network_id=LOG.network_id) as followed:
        expected = followed.dump_sha256_by_table()
        followed.check_words()
    monkeypatch.setattr("pyrsia_node.ledger.index.BULK_LEAVES_MIN", 300)
    new = reindex(tmp_path, Source(), size=SIZE, network_id=LOG.network_id)
    with IndexWriter(new, network_id=LOG.network_id) as made:
        assert made.dump_sha256_by_table() == expected
        made.check_words()
    partly = tmp_path / "index-99.sqlite"
    with IndexWriter(partly, network_id=LOG.network_id) as writer:
        writer.catch_up(Source(), size=200)  # follows
        writer.catch_up(Source(), size=SIZE)  # loads
        assert writer.dump_sha256_by_table() == expected
        writer.check_words()


def test_a_load_that_was_interrupted_is_finished_by_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def leaves(self, start: int, end: int) -> Iterator[bytes]:
            yield from LEAVES[start : min(end, 700)]
            raise OSError("the chain's disk is gone")

    class Whole:
        def leaves(self, start: int, end: int) -> Iterator[bytes]:
            return iter(LEAVES[start:end])

    monkeypatch.setattr("pyrsia_node.ledger.index.BULK_LEAVES_MIN", 300)
    monkeypatch.setattr("pyrsia_node.ledger.index.ROWS_MAX", 200)
    writer = IndexWriter.current(tmp_path, network_id=LOG.network_id)
    with pytest.raises(OSError, match="gone"):
        writer.catch_up(Broken(), size=SIZE)
    writer.close()
    reader = IndexReader(tmp_path)
    project = BUILDS[next(iter(BUILDS))].purl.partition("@")[0].removeprefix("pkg:pypi/")
    with pytest.raises(Exception, match=r"is being built: [1-9]"):
        reader.search("six", as_of=SIZE)
    assert reader.accepted("pypi", project)  # files are served meanwhile
    with IndexWriter.current(tmp_path, network_id=LOG.network_id) as writer:
        assert 0 < writer.applied_size < SIZE
        writer.catch_up(Whole(), size=SIZE)
        writer.check_words()
    assert reader.search("status:open", as_of=SIZE)[1]
    reader.close()
