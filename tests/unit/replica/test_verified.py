"""What held is not checked again; what did not hold is, and memory stays bounded."""

from __future__ import annotations

from pyrsia_node.replica.verified import REMEMBERED_MAX, VerifiedOnce


class Checks:
    """Says that a signature holds where it repeats the message."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, _key: bytes, message: bytes, signature: bytes, /) -> bool:
        self.count += 1
        return message == signature


def test_signature_that_held_is_checked_once_and_for_exactly_its_bytes() -> None:
    checks = Checks()
    once = VerifiedOnce(checks)
    assert all(once(b"key", b"m", b"m") for _ in range(5))
    assert checks.count == 1
    assert not once(b"key", b"m", b"x")
    assert once(b"other", b"m", b"m")
    assert not once(b"key", b"x", b"m")
    assert checks.count == 4


def test_what_did_not_hold_is_never_remembered() -> None:
    checks = Checks()
    once = VerifiedOnce(checks)
    assert not any(once(b"key", b"m", b"x") for _ in range(5))
    assert checks.count == 5


def test_memory_is_bounded_and_keeps_the_newest() -> None:
    checks = Checks()
    once = VerifiedOnce(checks)
    messages = [number.to_bytes(4, "big") for number in range(3 * REMEMBERED_MAX)]
    for message in messages:
        assert once(b"key", message, message)
    assert len(once._newer) + len(once._older) <= REMEMBERED_MAX
    before = checks.count
    for message in messages[-REMEMBERED_MAX // 2 :]:
        assert once(b"key", message, message)
    assert checks.count == before
