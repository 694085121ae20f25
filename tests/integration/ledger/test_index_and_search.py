"""The index on a real chain: same rows from every cut, every query as of a size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrsia_node.ledger.index import IndexWriter, read_pointer, reindex
from pyrsia_node.ledger.query_terms import QueryError
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.ledger.rows import dependency_project
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError, UnavailableError
from pyrsia_node.model.purl import Purl
from tests.fakes.log_story import DATEUTIL, SIX, LogStory, file_of, tell

STORY = LogStory()
LEAF = tell(STORY)
CHAIN = STORY.chain
SIZE = CHAIN.tip.size
NETWORK = STORY.local.network_id
SIX_REQUEST = STORY.local.chain.open_requests()[0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with IndexWriter.current(tmp_path, network_id=NETWORK) as writer:
        writer.catch_up(CHAIN, size=SIZE)
    return tmp_path


@pytest.fixture
def reader(root: Path) -> Iterator[IndexReader]:
    opened = IndexReader(root)
    yield opened
    opened.close()


def found(reader: IndexReader, query: str, *, as_of: int = SIZE) -> list[str]:
    """Return the names of the hits, newest first."""
    page, is_complete = reader.search(query, as_of=as_of)
    assert is_complete
    names = {leaf: name for name, leaf in LEAF.items()}
    return [names.get(leaf, str(leaf)) for leaf in page.hits]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("pkg:pypi/six", ["open", "six"]),
        ("pkg:pypi/six@1.17.0", ["six"]),
        ("pkg:pypi/six@9.9", []),
        (f"sha256:{file_of(SIX).sha256}", ["six"]),
        (f"sha256:{sha256_of(b'published')}", ["odd"]),
        (f"sha256:{SIX.digest()}", ["six"]),
        (f"sha256:{sha256_of(b'sdist')}", ["open", "odd", "failed", "diverged", "dateutil", "six"]),
        ("author:peterson", ["six"]),
        ('author:"gustavo niemeyer"', ["dateutil"]),
        ("author:utilities", []),
        ("dep:six", ["dateutil"]),
        ("dep:pkg:pypi/tzdata", ["dateutil"]),
        ("status:accepted", ["odd", "dateutil", "six"]),
        ("status:diverged", ["diverged"]),
        ("status:failed", ["failed"]),
        ("status:open", ["open"]),
        ("-status:accepted -type:set", ["open", "failed", "diverged"]),
        ("-status:open -type:set", ["odd", "failed", "diverged", "dateutil", "six"]),
        ("-(status:open OR status:accepted OR type:set)", ["failed", "diverged"]),
        ("status:open status:failed", []),
        ("-dep:six status:accepted", ["odd", "six"]),
        ("compatibility", ["six"]),
        ("compat*", ["six"]),
        ("compat", ["six"]),
        ('"compatibility utilities"', ["six"]),
        ('"utilities compatibility"', []),
        ("flaky", ["diverged"]),
        ("python-dateutil", ["dateutil"]),
        ("dateutil -author:niemeyer", []),
        ("pkg:pypi/six status:open", ["open"]),
        ("pkg:pypi/six -status:open", ["six"]),
        ('"; DROP TABLE request; --"', []),
        ("six' or '1'='1", []),
    ],
)
@pytest.mark.parametrize("few_max", [0, 2000])
def test_a_query_finds_each_build_once_newest_first(
    reader: IndexReader,
    query: str,
    names: list[str],
    few_max: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pyrsia_node.ledger.term_lists.FEW_MAX", few_max)  # both ways to ask
    assert found(reader, query) == names


@pytest.mark.parametrize("few_max", [0, 2000])
def test_a_builder_is_found_by_label_and_by_id(
    reader: IndexReader, few_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrsia_node.ledger.term_lists.FEW_MAX", few_max)
    last = STORY.local.members[3].member.record  # built only where all four did
    assert found(reader, f"builder:{last.label}") == ["odd", "diverged"]
    assert found(reader, f"builder:{last.id}") == ["odd", "diverged"]
    assert found(reader, "builder:nobody") == []


@pytest.mark.parametrize("few_max", [0, 2000])
def test_nothing_beyond_the_published_size_is_seen(
    reader: IndexReader, few_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrsia_node.ledger.term_lists.FEW_MAX", few_max)
    for name, leaf in LEAF.items():
        if name == "open":
            continue
        before, after = (
            found(reader, "pkg:pypi/six", as_of=leaf),
            found(reader, "-status:open", as_of=leaf + 1),
        )
        assert "open" not in before
        assert after[0] == name
        assert name not in found(reader, "-status:open", as_of=leaf)
    # Before its outcome a request is open, and is found by its name alone.
    page, _ = reader.search("pkg:pypi/six status:open", as_of=LEAF["six"])
    (request_leaf,) = page.hits
    assert request_leaf < LEAF["six"]
    assert reader.search("author:peterson", as_of=LEAF["six"])[0].hits == ()


def test_pages_neither_overlap_nor_skip(reader: IndexReader) -> None:
    whole = reader.search("-pkg:pypi/none", as_of=SIZE)[0].hits
    assert len(whole) == 7
    for limit in range(1, 8):
        pages: list[int] = []
        cursor: int | None = None
        while True:
            page, _ = reader.search("-pkg:pypi/none", as_of=SIZE, limit=limit, cursor=cursor)
            pages += page.hits
            cursor = page.next
            if cursor is None:
                break
        assert tuple(pages) == whole
    with pytest.raises(InvalidInputError, match="limit 0"):
        reader.search("six", as_of=SIZE, limit=0)
    with pytest.raises(QueryError, match="character 1"):
        reader.search("nope:x", as_of=SIZE)


def test_every_leaf_about_a_version_is_listed_in_log_order(reader: IndexReader) -> None:
    answer = reader.about(Purl.parse("pkg:pypi/six@1.17.0"), as_of=SIZE)
    assert answer.is_complete
    hints = reader.hints(answer.leaves, as_of=SIZE)
    assert [hint.type for hint in hints] == [
        "build_request",
        *["attest_batch"] * 3,
        "result",
        "accepted",
    ]
    assert answer.leaves[-1] == LEAF["six"]
    assert {hint.status for hint in hints if hint.type != "attest_batch"} == {"accepted"}
    project = reader.about(Purl.parse("pkg:pypi/six"), as_of=SIZE)
    assert project.leaves == (*answer.leaves, LEAF["open"])
    cut = reader.about(Purl.parse("pkg:pypi/six"), as_of=SIZE, limit=2)
    assert cut.leaves == project.leaves[-2:]
    assert not cut.is_complete


def test_hints_name_the_block_and_the_status_as_of_the_size(reader: IndexReader) -> None:
    (hint,) = reader.hints([LEAF["dateutil"]], as_of=SIZE)
    assert (hint.type, hint.purl, hint.status) == ("accepted", str(DATEUTIL.purl), "accepted")
    assert (hint.height, hint.time_ms) == CHAIN.block_of_leaf(LEAF["dateutil"])
    about = reader.about(DATEUTIL.purl, as_of=LEAF["dateutil"])
    early = reader.hints(about.leaves[:1], as_of=LEAF["dateutil"])
    assert [each.status for each in early] == ["open"]
    genesis, members = reader.hints([0, 1], as_of=SIZE)
    assert (genesis.type, genesis.height, members.type) == ("genesis", 0, "set")
    assert reader.hints([SIZE + 5], as_of=SIZE) == []


def test_packages_and_their_entries_are_listed(reader: IndexReader) -> None:
    assert reader.projects("pypi") == ["odd", "python-dateutil", "six"]
    assert reader.projects("pypi", as_of=LEAF["six"] + 1) == ["six"]
    assert reader.projects("py") == []
    assert reader.accepted("pypi", "six") == [LEAF["six"]]
    assert reader.accepted("pypi", "six", as_of=LEAF["six"]) == []


def test_an_index_that_lags_says_so(tmp_path: Path) -> None:
    with IndexWriter.current(tmp_path, network_id=NETWORK) as writer:
        writer.catch_up(CHAIN, size=LEAF["six"] + 1)
    reader = IndexReader(tmp_path)
    assert reader.applied_size() == LEAF["six"] + 1
    page, is_complete = reader.search("six", as_of=SIZE)
    assert page.hits == (LEAF["six"],)
    assert not is_complete
    assert not reader.about(SIX.purl, as_of=SIZE).is_complete
    reader.close()


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, SIZE), max_size=6), reopen=st.booleans())
def test_any_way_of_cutting_the_log_gives_the_same_rows(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], *, reopen: bool
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    writer = IndexWriter(folder / "index-1.sqlite", network_id=NETWORK)
    for size in sorted({*cuts, SIZE}):
        if reopen:
            writer.close()
            writer = IndexWriter(folder / "index-1.sqlite", network_id=NETWORK)
        writer.catch_up(CHAIN, size=size)
    assert writer.dump_sha256() == whole_dump()
    writer.close()


def whole_dump() -> str:
    with IndexWriter(Path(":memory:"), network_id=NETWORK) as writer:
        writer.catch_up(CHAIN, size=SIZE)
        return writer.dump_sha256()


def test_reindex_gives_the_same_rows_in_the_next_file_and_readers_follow(root: Path) -> None:
    reader = IndexReader(root)
    assert found(reader, "author:peterson") == ["six"]
    (root / "index-7.sqlite").write_bytes(b"left over")
    new = reindex(root, CHAIN, size=SIZE, network_id=NETWORK)
    assert new.name == "index-8.sqlite" == read_pointer(root)
    assert sorted(path.name for path in root.glob("index*")) == ["index-8.sqlite", "index.current"]
    with IndexWriter(new, network_id=NETWORK) as writer:
        assert writer.dump_sha256() == whole_dump()
    assert found(reader, "author:peterson") == ["six"]
    with IndexWriter.current(root, network_id=NETWORK) as writer:
        assert writer.path == new
        assert writer.applied_size == SIZE
    reader.close()


def test_a_reader_sees_what_a_writer_adds_while_it_is_open(tmp_path: Path) -> None:
    writer = IndexWriter.current(tmp_path, network_id=NETWORK)
    writer.catch_up(CHAIN, size=LEAF["six"] + 1)
    reader = IndexReader(tmp_path)
    assert reader.projects("pypi") == ["six"]
    writer.catch_up(CHAIN, size=SIZE)
    assert reader.projects("pypi") == ["odd", "python-dateutil", "six"]
    writer.close()
    assert reader.applied_size() == SIZE
    reader.close()


def test_a_crash_in_a_transaction_loses_whole_leaves_only(root: Path) -> None:
    with IndexWriter.current(root, network_id=NETWORK) as writer:
        before = writer.dump_sha256()
        with pytest.raises(CorruptStateError, match=f"leaf {SIZE} cannot be indexed"):
            writer.extend([b"{}"])
        assert writer.applied_size == SIZE
        assert writer.dump_sha256() == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"nonsense\n", "is damaged"),
        (b"../index-1.sqlite\n", "is damaged"),
        (b"", "is damaged"),
        (b"index-9.sqlite\n", "is missing"),
    ],
)
def test_a_wrong_pointer_is_told_with_the_repair(root: Path, content: bytes, reason: str) -> None:
    (root / "index.current").write_bytes(content)
    with pytest.raises(CorruptStateError, match=rf"{reason}: run 'pyrsia-node reindex'"):
        IndexReader(root).applied_size()
    with pytest.raises(CorruptStateError, match=rf"{reason}: run 'pyrsia-node reindex'"):
        IndexWriter.current(root, network_id=NETWORK)


def test_a_damaged_or_foreign_index_is_told_with_the_repair(root: Path) -> None:
    with pytest.raises(CorruptStateError, match=r"network is .*reindex"):
        IndexWriter.current(root, network_id=bytes(32))
    path = root / "index-1.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(CorruptStateError, match="reindex"):
        IndexWriter.current(root, network_id=NETWORK)
    with (
        contextlib.closing(IndexReader(root)) as reader,
        pytest.raises(CorruptStateError, match="reindex"),
    ):
        reader.applied_size()


def test_there_is_no_answer_before_there_is_an_index(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no search index yet"):
        IndexReader(tmp_path).projects("pypi")


def test_a_query_that_costs_too_much_is_stopped(
    reader: IndexReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrsia_node.ledger.reader._STEPS_MAX", -1)
    monkeypatch.setattr("pyrsia_node.ledger.reader._STEPS_BETWEEN_CHECKS", 1)
    with pytest.raises(UnavailableError, match="too costly"):
        reader.search("six", as_of=SIZE)


@pytest.mark.parametrize(
    ("requirement", "project"),
    [
        ("six", "pkg:pypi/six"),
        ("Six >= 1.5 ; python_version < '3'", "pkg:pypi/six"),
        ("zope.interface[docs] (>=1)", "pkg:pypi/zope-interface"),
        ("six>=1.5.*", "pkg:pypi/six"),
        ("name @ https://example.invalid/x.whl", "pkg:pypi/name"),
        ("", None),
        ("!!", None),
        ("-x", None),
    ],
)
def test_the_project_of_a_requirement(requirement: str, project: str | None) -> None:
    assert dependency_project(requirement) == project
