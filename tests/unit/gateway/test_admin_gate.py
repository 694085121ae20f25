"""Calls that change something need the token and a client on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyrsia_node.gateway.admin import AdminGate, is_loopback
from pyrsia_node.gateway.errors import ForbiddenError
from pyrsia_node.model.errors import UnavailableError

TOKEN = "0123456789abcdef-secret"


@pytest.fixture
def gate(tmp_path: Path) -> AdminGate:
    path = tmp_path / "admin.token"
    path.write_text(TOKEN + "\n")
    path.chmod(0o600)
    return AdminGate(path)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_right_token_from_this_machine_passes(gate: AdminGate, address: str) -> None:
    gate.check(authorization=f"Bearer {TOKEN}", address=address)
    gate.check(authorization=f"bearer  {TOKEN} ", address=address)


@pytest.mark.parametrize(
    "given", [None, "", TOKEN, "Bearer", "Bearer wrong", f"Basic {TOKEN}", "Bearer é"]
)
def test_anything_else_for_a_token_is_refused(gate: AdminGate, given: str | None) -> None:
    with pytest.raises(ForbiddenError) as caught:
        gate.check(authorization=given, address="127.0.0.1")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("address", [None, "", "10.0.0.1", "192.0.2.1", "fe80::1", "localhost"])
def test_other_machines_are_refused_even_with_the_token(
    gate: AdminGate, address: str | None
) -> None:
    assert not is_loopback(address)
    with pytest.raises(ForbiddenError, match="own machine"):
        gate.check(authorization=f"Bearer {TOKEN}", address=address)


def test_token_that_others_may_read_is_no_token(tmp_path: Path) -> None:
    path = tmp_path / "admin.token"
    path.write_text(TOKEN)
    path.chmod(0o640)
    with pytest.raises(UnavailableError, match="0600"):
        AdminGate(path).check(authorization=f"Bearer {TOKEN}", address="::1")


def test_missing_or_short_token_is_named(tmp_path: Path) -> None:
    gate = AdminGate(tmp_path / "admin.token")
    with pytest.raises(UnavailableError, match="pyrsia-node init"):
        gate.check(authorization="Bearer x", address="::1")
    (tmp_path / "admin.token").touch(mode=0o600)
    with pytest.raises(UnavailableError, match="shorter"):
        gate.check(authorization="Bearer ", address="::1")
