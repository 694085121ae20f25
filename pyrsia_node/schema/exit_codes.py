"""What a process of ours says by its exit code: the error tree for shells and supervisors."""

from __future__ import annotations

from typing import Final

from pyrsia_node.model.errors import (
    CorruptStateError,
    DiskError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)

OK: Final = 0
OTHER: Final = 1
INVALID: Final = 2
VERIFICATION: Final = 3
NOT_FOUND: Final = 4
UNAVAILABLE: Final = 5
CORRUPT: Final = 6
ORPHANED: Final = 7
"""The supervisor is gone, and an orderly stop took too long."""

REFUSALS: Final = frozenset({INVALID, VERIFICATION, NOT_FOUND, CORRUPT})
"""Starting again would end the same way: somebody has to change something first."""


def exit_code_of(error: BaseException) -> int:
    """Return the exit code for an error; of a group, the code of the first that is ours."""
    match error:
        case BaseExceptionGroup():
            codes = [exit_code_of(each) for each in error.exceptions]
            return next((code for code in codes if code != OTHER), OTHER)
        case InvalidInputError():
            return INVALID
        case VerificationError():
            return VERIFICATION
        case NotFoundError():
            return NOT_FOUND
        case UnavailableError() | DiskError():
            return UNAVAILABLE
        case CorruptStateError():
            return CORRUPT
        case _:
            return OTHER
