"""The words of the search language that node and command share: fields, statuses, types.

What each means: docs/reference/search.md. The node reads queries by it, the command completes
them.
"""

from __future__ import annotations

from typing import Final

OUTCOMES: Final = ("accepted", "diverged", "expired", "failed")
"""Types of the leaves that end a build request."""

CLAIMS: Final = ("external", "mirrored", "rebuilt")
"""What a request and its files claim: see docs/spec/leaves.md, "Claims and sources"."""

STATEMENTS: Final = ("deprecate", "revoke", "vulnerable", "withdraw")
"""Types of the leaves that say what to think of packages, entries or bytes."""

STATUSES: Final = (*OUTCOMES, "open", "deprecated", "revoked", "vulnerable", "withdrawn")
"""Where a request stands, and what statements say of an accepted entry.

``accepted``, ``revoked`` and ``withdrawn`` exclude each other; ``deprecated`` and ``vulnerable``
only advise and come on top.
"""

UNIT_TYPES: Final = frozenset(
    {
        *OUTCOMES,
        *STATEMENTS,
        *("add_node", "approve", "evidence", "remove_node", "rotate_key", "set_param"),
        *("add_source", "build_request", "late_divergence", "set"),
    }
)
"""Types of the leaves that a search finds."""

FIELDS: Final = {
    "author": "words of the author's name",
    "builder": "a member, by label or id, built it",
    "claim": "rebuilt, mirrored or external",
    "commit": "built from this source commit",
    "dep": "depends on this project",
    "file": "a file of this name",
    "height": "in this block, or blocks N..M",
    "licence": "words of the licence",
    "license": "words of the licence",
    "name": "words of the name",
    "neededby": "what this package depends on",
    "pkg": "a package, a version, or all that begin so",
    "repo": "homepage or repository, and all below",
    "sha256": "a file, source, result or request",
    "since": "block time from here on",
    "status": "where it stands",
    "type": "what kind of leaf it is",
    "until": "block time up to here",
}
"""What may stand before a colon."""
