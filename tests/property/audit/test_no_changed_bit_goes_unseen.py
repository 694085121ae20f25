"""Whatever bit of a published log is changed, the audit contradicts it, and only reports do so."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from pyrsia_node.audit.auditor import audit
from pyrsia_node.audit.report import Report
from pyrsia_node.audit.source import DirectorySource
from pyrsia_node.ledger import certificates
from pyrsia_node.ledger.publish import CHECKPOINT_FILE
from pyrsia_node.tlog.tile import Tile
from tests.fakes.audited_log import AuditedLog

FLIPS: Final = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Damaged:
    """A log of which one file has one bit changed; remembers which files were read."""

    def __init__(self, source: DirectorySource, path: str = "", *, at: int = 0) -> None:
        self._source, self._path, self._at = source, path, at
        self.read: dict[str, int] = {}

    @property
    def name(self) -> str:
        return self._source.name

    def checkpoint(self) -> bytes:
        return self._seen(CHECKPOINT_FILE, self._source.checkpoint())

    def tile(self, tile: Tile) -> bytes:
        return self._seen(tile.path(), self._source.tile(tile))

    def certificates(self, number: int, width: int) -> bytes:
        data = self._source.certificates(number, width)
        return self._seen(certificates.bundle_path(number, width), data)

    def newest_certificate(self) -> bytes:
        return self._seen(certificates.NEWEST, self._source.newest_certificate())

    def _seen(self, path: str, data: bytes) -> bytes:
        self.read[path] = len(data)
        if path != self._path:
            return data
        changed = bytearray(data)
        changed[self._at // 8] ^= 1 << (self._at % 8)
        return bytes(changed)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> AuditedLog:
    return AuditedLog(tmp_path_factory.mktemp("audited") / "node")


@pytest.fixture(scope="module")
def files(made: AuditedLog) -> dict[str, int]:
    """What an audit reads, with its length."""
    source = Damaged(DirectorySource(made.root))
    assert audit(source, network_id=made.network_id).holds
    return source.read


def report_of(made: AuditedLog, files: dict[str, int], path: str, place: float) -> Report:
    at = int(place * files[path] * 8)
    source = Damaged(DirectorySource(made.root), path, at=at)
    return audit(source, network_id=made.network_id)


PLACES = st.floats(min_value=0, max_value=1, exclude_max=True)


@FLIPS
@given(data=st.data(), place=PLACES)
def test_every_bit_of_tiles_entries_and_certificates_counts(
    made: AuditedLog, files: dict[str, int], data: st.DataObject, place: float
) -> None:
    path = data.draw(st.sampled_from(sorted(set(files) - {CHECKPOINT_FILE})))
    assert not report_of(made, files, path, place).holds


@FLIPS
@given(place=PLACES)
def test_every_bit_of_the_checkpoint_costs_a_cosigner_or_the_whole(
    made: AuditedLog, files: dict[str, int], place: float
) -> None:
    text, _, lines = (made.log / CHECKPOINT_FILE).read_bytes().partition(b"\n\n")
    # The log's own line comes first. Under another name or key id it is a stranger's: no loss.
    first = len(text) + 2
    whose = range(first, first + len(lines.rpartition(b"/log ")[0] + b"/log ") + 6)
    assume(int(place * files[CHECKPOINT_FILE]) not in whose)
    report = report_of(made, files, CHECKPOINT_FILE, place)
    assert not report.holds or len(report.cosigned_by) < 4


def test_the_files_are_all_that_is_published_for_the_head(
    made: AuditedLog, files: dict[str, int]
) -> None:
    size = made.story.chain.tip.size
    published = {
        path.relative_to(made.log).as_posix() for path in made.log.rglob("*") if path.is_file()
    }
    older = {path for path in published if ".p/" in path and path not in files}
    assert published - older == set(files)
    assert all(f".p/{size}" not in path for path in older)


def test_a_folder_is_left_as_it_was(made: AuditedLog, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in made.log.rglob("*") if path.is_file()}
    audit(DirectorySource(made.root), network_id=made.network_id)
    assert {path: path.read_bytes() for path in made.log.rglob("*") if path.is_file()} == before
