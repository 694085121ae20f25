"""A wrong setting is refused by name when the configuration is made."""

from __future__ import annotations

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.p2p.config import NetworkConfig

GENESIS = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("genesis", "0123"),
        ("genesis", GENESIS.upper()),
        ("role", "king"),
        ("listen", ("/dns/localhost/tcp/1",)),
        ("listen", ("localhost",)),
        ("announce", ("/ip4/0.0.0.0/tcp/4001",)),
        ("announce", ("/ip4/10.0.0.1/tcp/0",)),
        ("bootstrap", ("/ip4/10.0.0.1/tcp/4001",)),
    ],
)
def test_a_wrong_setting_is_refused(setting: str, value: object) -> None:
    settings: dict[str, object] = {"genesis": GENESIS, setting: value}
    with pytest.raises(InvalidInputError):
        NetworkConfig(**settings)  # type: ignore[arg-type]  # that is the point


def test_the_prefix_names_the_network() -> None:
    assert NetworkConfig(GENESIS).prefix == "/pyrsia/0123456789abcdef"
