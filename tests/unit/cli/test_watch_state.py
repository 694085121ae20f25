"""The state of a watch: written after delivery, never taken for another's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyrsia_cli.delivery import Event, Webhook, sign
from pyrsia_cli.watch_state import WatchState
from pyrsia_node.model.errors import InvalidInputError, UnavailableError


def opened(path: Path, *, origin: str = "net/log", query: str = "six") -> WatchState:
    return WatchState.open(path, origin=origin, query=query)


def test_state_comes_back_and_never_goes_backwards(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    state = opened(path)
    assert state.cursor is None
    state.advance(-1)
    state.advance(41)
    state.advance(7)
    assert opened(path).cursor == 41


def test_state_of_another_watch_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    opened(path).advance(3)
    for other in ({"origin": "other/log"}, {"query": "attrs"}):
        with pytest.raises(InvalidInputError, match="the state of another watch"):
            opened(path, **other)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | st.dictionaries(
        st.sampled_from(["cursor", "origin", "query", "more"]),
        st.sampled_from([-2, 1.5, True, None, "net/log", "six", 2**70, []]),
    ).map(lambda value: json.dumps(value).encode())
)
def test_only_our_error_escapes_from_a_damaged_state(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, match="state"):
        opened(path)


def test_signature_is_the_hmac_of_the_body() -> None:
    # RFC 4231, test case 2.
    assert sign(b"what do ya want for nothing?", b"Jefe") == (
        "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_address_of_a_webhook_is_checked_and_a_closed_port_is_unavailable() -> None:
    for wrong in ("ftp://x/", "hook", "http://", "file:///etc/passwd"):
        with pytest.raises(InvalidInputError, match="http"):
            Webhook(wrong, "net/log", None)
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9/"):
        Webhook("http://127.0.0.1:9/", "net/log", None)(Event(1, {"index": 1}))
