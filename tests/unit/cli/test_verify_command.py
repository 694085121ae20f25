"""``pyrsia verify``: offline, by exit code, from files alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.main import cli
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.documents import Contradiction
from pyrsia_node.model.errors import PyrsiaError, VerificationError
from pyrsia_node.tlog.trust import TrustFile
from tests.strategies.identities import genesis_of, identities
from tests.strategies.small_logs import WHEEL, SmallLog, accepted, document, wheel

FOUR = identities(4)
GENESIS = genesis_of(FOUR)
NAME = "six-1.17.0-py3-none-any.whl"
OTHER = sha256_of(b"what the upstream publishes")
DOC = document("pkg:pypi/six@1.17.0", wheel(NAME))
CONTRADICTED = dataclasses.replace(DOC, contradicts=(Contradiction(NAME, OTHER),))
LOG = SmallLog(GENESIS.origin, (b"0", accepted(DOC, FOUR), accepted(CONTRADICTED, FOUR)))


def verify(folder: Path, entry: int, *options: str, content: bytes = WHEEL) -> Result:
    file, bundle, trust = folder / NAME, folder / "six.tlog-proof", folder / "net.trust"
    file.write_bytes(content)
    bundle.write_bytes(LOG.proof(entry, LOG.signed(FOUR[:3])).encode())
    trust.write_bytes(TrustFile(GENESIS.encode()).encode())
    words = ["verify", str(file), "--bundle", str(bundle), "--trust", str(trust), *options]
    settings = {"PYRSIA_CONFIG": str(folder / "none.toml")}
    return CliRunner(env=settings).invoke(cli, words)


def test_file_that_the_log_vouches_for_is_verified(tmp_path: Path) -> None:
    result = verify(tmp_path, 1)
    assert result.exit_code == 0, result.output
    assert "verified" in result.output
    assert "node-" in result.output, "who cosigned is shown"


def test_other_bytes_are_refused_with_both_digests(tmp_path: Path) -> None:
    result = verify(tmp_path, 1, content=b"other")
    assert isinstance(result.exception, VerificationError)
    assert sha256_of(b"other") in str(result.exception)
    assert sha256_of(WHEEL) in str(result.exception)


@pytest.mark.parametrize(
    "demand", [("--purl", "pkg:pypi/six@1.16.0"), ("--name", "six-1.16.0-py3-none-any.whl")]
)
def test_another_package_or_name_than_demanded_is_refused(
    tmp_path: Path, demand: tuple[str, str]
) -> None:
    assert isinstance(verify(tmp_path, 1, *demand).exception, VerificationError)


def test_contradiction_is_shown_and_refused_where_strict(tmp_path: Path) -> None:
    shown = verify(tmp_path, 2, "--format", "json")
    assert shown.exit_code == 0, shown.output
    assert OTHER in shown.output
    assert verify(tmp_path, 1, "--strict").exit_code == 0
    refused = verify(tmp_path, 2, "--strict")
    assert isinstance(refused.exception, PyrsiaError)
    assert OTHER in str(refused.exception)
