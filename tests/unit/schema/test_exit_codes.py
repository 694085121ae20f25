"""Each error of the tree has one exit code, also when trio wraps it in groups."""

from __future__ import annotations

import pytest

from pyrsia_node.model import errors
from pyrsia_node.schema import exit_codes
from pyrsia_node.schema.exit_codes import exit_code_of


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidInputError("x"), 2),
        (errors.VerificationError("x"), 3),
        (errors.NotFoundError("x"), 4),
        (errors.UnavailableError("x"), 5),
        (errors.CorruptStateError("x"), 6),
        (errors.PeerMisbehaviorError("p", "x"), 1),
        (AssertionError("x"), 1),
    ],
)
def test_error_has_its_code_alone_and_in_nested_groups(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code
    nested = ExceptionGroup("outer", [ValueError("y"), ExceptionGroup("inner", [error])])
    assert exit_code_of(nested) == code


def test_what_may_succeed_later_is_no_refusal() -> None:
    assert exit_codes.UNAVAILABLE not in exit_codes.REFUSALS
    assert exit_codes.OTHER not in exit_codes.REFUSALS
    assert exit_codes.CORRUPT in exit_codes.REFUSALS
