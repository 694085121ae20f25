"""Which bytes a name means: the first entry that no published file contradicts, for ever."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from pyrsia_node.artifacts.resolver import Resolver, Standing
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.model.documents import Contradiction
from pyrsia_node.model.errors import NotFoundError
from tests.fakes.published_log import PublishedLog, document, file_entry

WHEEL = "six-1.17.0-py3-none-any.whl"
SDIST = "six-1.17.0.tar.gz"
PURL = "pkg:pypi/six@1.17.0"
FIRST = file_entry(WHEEL, b"first")
SECOND = file_entry(WHEEL, b"second")
BUILT = file_entry(WHEEL, b"our build", origin="built")
SOURCE = file_entry(SDIST, b"source", claim="mirrored")
AGAINST = (Contradiction(WHEEL, FIRST.sha256),)


class ListedIndex:
    """An index that says what the test wants."""

    def __init__(self, rows: dict[str, list[int]]) -> None:
        self.rows = rows

    def applied_size(self) -> int:
        return 1 << 40

    def accepted(self, ecosystem: str, name: str, *, as_of: int | None = None) -> Sequence[int]:
        assert ecosystem == "pypi"
        return self.rows.get(name, [])

    def projects(self, ecosystem: str, *, as_of: int | None = None) -> Sequence[str]:
        return sorted(self.rows)

    def statements(self, ecosystem: str, name: str, *, as_of: int | None = None) -> Sequence[int]:
        return []

    def revocations(self, digests: Iterable[str], *, as_of: int | None = None) -> Sequence[int]:
        return []


@pytest.fixture
def published(tmp_path: Path) -> Iterator[PublishedLog]:
    log = PublishedLog(tmp_path / "node")
    yield log
    log.close()


def resolver(
    published: PublishedLog, rows: dict[str, list[int]], *, opt_in: bool = False
) -> Resolver:
    log = VerifiedLog(published.root / "log", published.trust)
    return Resolver(log, ListedIndex(rows), ecosystem="pypi", serve_contradicting=opt_in)


def test_project_is_the_union_of_all_entries_of_all_versions(published: PublishedLog) -> None:
    rows = [
        published.accept(document(PURL, FIRST, SOURCE)),
        published.accept(
            document("pkg:pypi/six@1.9.0", file_entry("six-1.9.0-py3-none-any.whl", b"old"))
        ),
    ]
    project = resolver(published, {"six": rows}).project("six")
    assert sorted(project.files) == [WHEEL, SDIST, "six-1.9.0-py3-none-any.whl"]
    assert project.versions() == ["1.9.0", "1.17.0"]
    assert project.files[WHEEL].artifact.sha256 == FIRST.sha256


def test_first_entry_wins_for_ever_and_the_later_one_is_shown_as_a_conflict(
    published: PublishedLog,
) -> None:
    rows = [published.accept(document(PURL, FIRST)), published.accept(document(PURL, SECOND))]
    for order in (rows, rows[::-1], rows * 2):
        project = resolver(published, {"six": order}).project("six")
        assert project.files[WHEEL].file == FIRST
        assert [(w.standing, w.file) for w in project.withheld] == [(Standing.CONFLICT, SECOND)]


def test_same_bytes_again_are_no_conflict(published: PublishedLog) -> None:
    rows = [
        published.accept(document(PURL, FIRST)),
        published.accept(document(PURL, FIRST, SOURCE)),
    ]
    project = resolver(published, {"six": rows}).project("six")
    assert project.withheld == []
    assert project.files[WHEEL].proved.index == rows[0]
    assert project.files[SDIST].proved.index == rows[1]


def test_contradicting_build_is_shown_and_not_served(published: PublishedLog) -> None:
    rows = [published.accept(document(PURL, BUILT, SOURCE, contradicts=AGAINST))]
    project = resolver(published, {"six": rows}).project("six")
    assert list(project.files) == [SDIST]
    (withheld,) = project.withheld
    assert (withheld.standing, withheld.contradicted_by) == (
        Standing.CONTRADICTING,
        FIRST.sha256,
    )
    assert project.names(WHEEL)


def test_contradicting_build_is_served_where_the_operator_opted_in(
    published: PublishedLog,
) -> None:
    rows = [published.accept(document(PURL, BUILT, contradicts=AGAINST))]
    project = resolver(published, {"six": rows}, opt_in=True).project("six")
    assert project.files[WHEEL].file == BUILT
    assert project.files[WHEEL].contradicted_by == FIRST.sha256


@pytest.mark.parametrize("opt_in", [False, True])
def test_entry_that_contradicts_nothing_wins_over_one_that_does(
    published: PublishedLog, *, opt_in: bool
) -> None:
    rows = [
        published.accept(document(PURL, BUILT, contradicts=AGAINST)),
        published.accept(document(PURL, FIRST)),
    ]
    project = resolver(published, {"six": rows}, opt_in=opt_in).project("six")
    assert project.files[WHEEL].file == FIRST
    assert [w.standing for w in project.withheld] == [Standing.CONTRADICTING]


def test_index_rows_that_lie_change_nothing(published: PublishedLog) -> None:
    six = published.accept(document(PURL, FIRST))
    idna = published.accept(
        document("pkg:pypi/idna@3.10", file_entry("idna-3.10-py3-none-any.whl", b"idna"))
    )
    # Rows about other packages, no packages, headers, and leaves that do not exist.
    lying = resolver(published, {"six": [0, 1, 2, idna, six, six + 1000], "ghost": [six]})
    project = lying.project("six")
    assert list(project.files) == [WHEEL]
    assert project.files[WHEEL].file == FIRST
    with pytest.raises(NotFoundError, match="pypi ghost"):
        lying.project("ghost")


def test_new_entry_shows_once_its_checkpoint_is_published(published: PublishedLog) -> None:
    rows: dict[str, list[int]] = {"six": []}
    names = resolver(published, rows)
    with pytest.raises(NotFoundError):
        names.project("six")
    rows["six"].append(published.accept(document(PURL, FIRST)))
    assert list(names.project("six").files) == [WHEEL]
