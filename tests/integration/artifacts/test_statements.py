"""What statements in the log do to the files that a node offers: real log, real index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from consensus.types import NodeId
from pyrsia_node.artifacts.resolver import Project, Resolver, Standing
from pyrsia_node.artifacts.statements import Statements
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.statements import Deprecate, Revoke, Vulnerable, Withdraw
from tests.fakes.published_log import PublishedLog, document, file_entry

WHEEL = "six-1.17.0-py3-none-any.whl"
SDIST = "six-1.17.0.tar.gz"
SIX = Purl.pypi("six", "1.17.0")
FIRST = file_entry(WHEEL, b"first")
SECOND = file_entry(WHEEL, b"second")
SOURCE = file_entry(SDIST, b"source", claim="mirrored")
NONCE = "00" * 16


@pytest.fixture
def published(tmp_path: Path) -> Iterator[PublishedLog]:
    log = PublishedLog(tmp_path / "node")
    yield log
    log.close()


@pytest.fixture
def member(published: PublishedLog) -> NodeId:
    return published.local.members[0].id


def six(published: PublishedLog, *, opt_in: bool = False) -> Project:
    reader = IndexReader(published.root)
    try:
        log = VerifiedLog(published.root / "log", published.trust)
        return Resolver(log, reader, ecosystem="pypi", serve_revoked=opt_in).project("six")
    finally:
        reader.close()


def withdraw(by: NodeId, entry: int) -> Withdraw:
    return Withdraw(by, SIX, entry, "built from another source", NONCE)


def revoke(by: NodeId, sha256: Sha256, purl: Purl = SIX) -> Revoke:
    return Revoke(by, purl, sha256, "steals credentials", NONCE)


def test_withdrawn_entry_gives_its_names_to_the_next_one(
    published: PublishedLog, member: NodeId
) -> None:
    first = published.accept(document(str(SIX), FIRST, SOURCE))
    published.accept(document(str(SIX), SECOND))
    published.state(withdraw(member, first))
    project = six(published)
    assert project.files[WHEEL].file == SECOND
    assert project.files[WHEEL].standing is Standing.SERVED
    # Nobody else names the source: it stays, marked, and says why.
    source = project.files[SDIST]
    assert source.standing is Standing.WITHDRAWN
    assert source.closed is not None
    assert "built from another source" in source.closed.text
    assert [(w.file, w.standing) for w in project.withheld] == [(FIRST, Standing.WITHDRAWN)]


def test_withdrawal_of_a_later_entry_leaves_the_first_alone(
    published: PublishedLog, member: NodeId
) -> None:
    published.accept(document(str(SIX), FIRST))
    second = published.accept(document(str(SIX), SECOND))
    published.state(withdraw(member, second))
    project = six(published)
    assert project.files[WHEEL].standing is Standing.SERVED
    assert [(w.file, w.standing) for w in project.withheld] == [(SECOND, Standing.WITHDRAWN)]


def test_revoked_bytes_keep_their_name_from_others(published: PublishedLog, member: NodeId) -> None:
    published.accept(document(str(SIX), FIRST))
    published.accept(document(str(SIX), SECOND))
    published.state(revoke(member, FIRST.sha256))
    project = six(published)
    assert (project.files[WHEEL].file, project.files[WHEEL].standing) == (FIRST, Standing.REVOKED)
    assert [(w.file, w.standing) for w in project.withheld] == [(SECOND, Standing.CONFLICT)]


def test_bytes_are_revoked_in_whichever_package_they_are_listed(
    published: PublishedLog, member: NodeId
) -> None:
    published.accept(document(str(SIX), FIRST))
    published.state(revoke(member, FIRST.sha256, Purl.pypi("other", "1.0")))
    assert six(published).files[WHEEL].standing is Standing.REVOKED


def test_advice_closes_nothing_and_speaks_of_its_version_alone(
    published: PublishedLog, member: NodeId
) -> None:
    published.accept(document(str(SIX), FIRST))
    published.state(Vulnerable(member, SIX, "CVE-2024-3094", "backdoor", NONCE))
    published.state(Deprecate(member, Purl.pypi("six"), "Python 2 is gone", None, NONCE))
    other = Purl.pypi("six", "1.16.0")
    published.state(Vulnerable(member, other, "CVE-2000-1", "old", NONCE))
    file = six(published).files[WHEEL]
    assert (file.standing, file.closed) == (Standing.SERVED, None)
    kinds = [each.body.kind for each in file.advice]
    assert kinds == ["vulnerable", "deprecate"]


def test_statement_shows_once_its_checkpoint_is_published_and_not_as_of_before(
    published: PublishedLog, member: NodeId
) -> None:
    published.accept(document(str(SIX), FIRST))
    before = published.local.chain.tip.size
    leaf = published.state(revoke(member, FIRST.sha256))
    reader = IndexReader(published.root)
    log = VerifiedLog(published.root / "log", published.trust)
    said = Statements(log, reader, ecosystem="pypi")
    assert said.revoked([FIRST.sha256], size=before) == {}
    assert said.revoked([FIRST.sha256], size=log.head().size)[FIRST.sha256].index == leaf
    reader.close()


def test_rows_that_lie_revoke_nothing(published: PublishedLog, member: NodeId) -> None:
    entry = published.accept(document(str(SIX), FIRST))
    leaf = published.state(revoke(member, SECOND.sha256))

    class Lying:
        def statements(self, *_: object, **__: object) -> Sequence[int]:
            return [0, 1, 2, entry, leaf, leaf + 1000]

        revocations = statements

    log = VerifiedLog(published.root / "log", published.trust)
    said = Statements(log, Lying(), ecosystem="pypi")
    size = log.head().size
    assert said.revoked([FIRST.sha256], size=size) == {}
    assert said.about("idna", size=size).advice == ()
    assert said.about("six", size=size).withdrawn == {}
