"""Errors of the build side: who is at fault, in a form that a log entry can carry.

::

    BuildpipelinesError
    ├─ FormatError     a document or message does not fit its format
    ├─ ArchiveError    an archive is malformed or hostile; ``cause`` names the rule it broke
    └─ BuildFailure    a job ends without a result; ``outcome`` and ``cause`` go into the log

Decoders raise the first two alone; jobs turn both into the third. This package imports nothing of
the node, so the node's own error tree is not used here. Outcomes: docs/spec/leaves.md.
"""

from __future__ import annotations

from typing import Literal

Outcome = Literal["BUILD_FAILED", "SOURCE_UNAVAILABLE", "TIMEOUT", "REFUSED"]
"""Why a build has no result, in the words of an attestation."""

OUTCOMES: tuple[Outcome, ...] = ("BUILD_FAILED", "SOURCE_UNAVAILABLE", "TIMEOUT", "REFUSED")

CAUSE_CHARACTERS_MAX = 32
DETAIL_CHARACTERS_MAX = 4000


class BuildpipelinesError(Exception):
    """Any error that this package raises on purpose."""


class FormatError(BuildpipelinesError):
    """A document or a message is malformed; the text names what was wrong."""


class ArchiveError(BuildpipelinesError):
    """An archive is malformed or hostile."""

    def __init__(self, cause: str, detail: str) -> None:
        """Remember ``cause`` (at most 32 ASCII characters) and ``detail`` (for people)."""
        super().__init__(f"{cause}: {detail}")
        self.cause = printable_cause(cause)
        self.detail = detail


class BuildFailure(BuildpipelinesError):  # noqa: N818 - "failure" is the glossary's word
    """A job that ends without a result."""

    def __init__(self, outcome: Outcome, cause: str, detail: str) -> None:
        """Remember the outcome, its cause (cut to 32 ASCII characters) and a text for people."""
        super().__init__(f"{outcome} ({cause}): {detail}")
        self.outcome: Outcome = outcome
        self.cause = printable_cause(cause)
        self.detail = detail[:DETAIL_CHARACTERS_MAX]


def printable_cause(text: str) -> str:
    """Return ``text`` as an attestation may carry it: 1 to 32 printable ASCII characters."""
    kept = "".join(c if " " <= c <= "~" else "?" for c in text[:CAUSE_CHARACTERS_MAX]).strip()
    return kept or "unknown"
