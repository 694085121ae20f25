"""The gateway believes heads of later member sets once ``log/trust`` proves those sets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.model.errors import UnavailableError
from pyrsia_node.store.files import write_atomic
from pyrsia_node.tlog.trust import SetChange, Trust, TrustFile
from tests.fakes.published_log import PublishedLog, document, file_entry
from tests.strategies.identities import identities, identity
from tests.strategies.set_changes import ChangingSet

FILE = file_entry("six-1.17.0-py2.py3-none-any.whl", b"the bytes of a wheel")
DOC = document("pkg:pypi/six@1.17.0", FILE)
LATER = document("pkg:pypi/six@1.18.0", file_entry("six-1.18.0-py3-none-any.whl", b"newer"))


@pytest.fixture
def published(tmp_path: Path) -> Iterator[PublishedLog]:
    log = PublishedLog(tmp_path / "node")
    log.accept(DOC)
    yield log
    log.close()


def opened(published: PublishedLog) -> VerifiedLog:
    """Return what a gateway opens at its start: it knows the genesis alone."""
    return VerifiedLog(published.root / "log", published.trust)


def change_all_keys(published: PublishedLog) -> int:
    """Give every member new keys, then accept something under them; return the new size."""
    local = published.local
    for number, member in enumerate([one.id for one in local.members]):
        local.commit(*local.rotate(member, identity(500 + number)))
    published.accept(LATER)
    return local.chain.tip.size


def tell(published: PublishedLog, changes: list[SetChange]) -> None:
    genesis = published.local.genesis.encode()
    write_atomic(published.root / "log" / "trust", TrustFile(genesis, tuple(changes)).encode())


def test_running_gateway_follows_sets_as_they_change(published: PublishedLog) -> None:
    log = opened(published)
    before = log.head()
    size = change_all_keys(published)
    assert log.head() == before, "nobody has proved the new sets yet"
    tell(published, set_changes(published.local.chain))
    published.publish()
    assert log.head().size == size
    assert log.head().cosigned.epoch == 4
    assert Trust.establish(TrustFile.parse(log.trust_text())).current.epoch == 4


def test_gateway_that_starts_after_changes_follows_them_from_the_genesis(
    published: PublishedLog,
) -> None:
    size = change_all_keys(published)
    with pytest.raises(UnavailableError, match="no checkpoint can be believed"):
        opened(published).head()
    tell(published, set_changes(published.local.chain))
    for _ in range(2):  # each start anew
        assert opened(published).head().size == size


def test_trust_file_that_leaves_out_an_epoch_is_not_believed(
    published: PublishedLog, caplog: pytest.LogCaptureFixture
) -> None:
    change_all_keys(published)
    changes = set_changes(published.local.chain)
    for missing in range(3):
        tell(published, [*changes[:missing], *changes[missing + 1 :]])
        with caplog.at_level(logging.ERROR), pytest.raises(UnavailableError):
            opened(published).head()
        assert "log/trust is not believed" in caplog.text
        caplog.clear()


def test_trust_file_of_another_history_does_not_replace_sets_that_were_proved(
    published: PublishedLog, caplog: pytest.LogCaptureFixture
) -> None:
    size = change_all_keys(published)
    tell(published, set_changes(published.local.chain))
    log = opened(published)
    assert log.head().size == size
    # The first members, who have handed over, agree on another successor and sign for it.
    other = ChangingSet.start(identities(4))
    assert other.genesis == published.local.genesis
    tell(published, [other.change((*identities(4)[1:], identity(900)))])
    published.publish()
    with caplog.at_level(logging.ERROR):
        assert log.head().cosigned.epoch == 4
    assert "contradicts epochs that were proved before" in caplog.text
