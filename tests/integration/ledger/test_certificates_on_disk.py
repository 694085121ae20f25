"""Certificates under ``log/certs``: whole bundles, cut bundles, restarts, damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrsia_node.ledger.certificates import (
    CertificateFiles,
    CertificateWriter,
    bundle_of,
    bundle_path,
    decode_certificates,
    parse_bundle_path,
)
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError, NotFoundError


class Heights:
    """Carried and own certificates differ, as those of a real chain do."""

    def certificate(self, height: int) -> bytes:
        return b"own %d" % height

    def carried_certificate(self, height: int) -> bytes:
        return b"carried %d" % height


def test_a_bundle_has_what_the_next_blocks_carry_and_newest_stands_apart(tmp_path: Path) -> None:
    CertificateWriter(tmp_path).catch_up(Heights(), height=4)
    files = CertificateFiles(tmp_path)
    bundle = decode_certificates(files.bundle(0, 3), width=3)
    assert bundle == (b"carried 1", b"carried 2", b"carried 3")
    assert files.newest() == b"own 4"


def test_narrower_bundles_are_cut_from_wider_files(tmp_path: Path) -> None:
    writer = CertificateWriter(tmp_path)
    for height in (2, 5, 9, 40):
        writer.catch_up(Heights(), height=height)
    files = CertificateFiles(tmp_path)
    for width in (1, 7, 39):
        assert len(decode_certificates(files.bundle(0, width), width=width)) == width
    with pytest.raises(NotFoundError):
        files.bundle(0, 40)
    assert len(list((tmp_path / bundle_path(0, 1)).parent.iterdir())) == 2


@pytest.mark.parametrize("height", [256, 257, 258, 600])
def test_a_writer_resumes_where_the_files_end(tmp_path: Path, height: int) -> None:
    CertificateWriter(tmp_path).catch_up(Heights(), height=height - 1)
    writer = CertificateWriter(tmp_path)
    writer.catch_up(Heights(), height=height)
    assert writer.height == height - 1
    files = CertificateFiles(tmp_path)
    for each in range(1, height):
        number, place = bundle_of(each)
        width = min(256, height - 1 - number * 256)
        found = decode_certificates(files.bundle(number, width), width=width)
        assert found[place] == b"carried %d" % each
    assert files.newest() == b"own %d" % height


def test_a_chain_without_a_block_has_no_certificates(tmp_path: Path) -> None:
    CertificateWriter(tmp_path).catch_up(Heights(), height=0)
    with pytest.raises(NotFoundError):
        CertificateFiles(tmp_path).newest()


def test_a_damaged_bundle_is_named_with_the_cure(tmp_path: Path) -> None:
    CertificateWriter(tmp_path).catch_up(Heights(), height=10)
    (tmp_path / bundle_path(0, 9)).write_bytes(b"\xff\xff")
    with pytest.raises(CorruptStateError, match=r"certs/000\.p/9 is damaged.*fsck --repair"):
        CertificateFiles(tmp_path).bundle(0, 3)


@pytest.mark.parametrize(
    "path", ["certs/1", "certs/../000", "certs/000.p/256", "certs/000.p/0", "tile/0/000", "certs/"]
)
def test_only_the_canonical_path_is_taken(path: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_bundle_path(path)


def test_paths_are_spelled_as_those_of_entries() -> None:
    assert bundle_path(1234067, 7) == "certs/x001/x234/067.p/7"
    assert parse_bundle_path("certs/x001/x234/067.p/7") == (1234067, 7)
