"""Sizes that are rules of the network: changing one is a change of the protocol.

Most are consensus rules, so a proposer cannot bypass them and a voter cannot be lenient.
Why they fit together is shown by ``test_no_derived_leaf_can_exceed_the_limit``.
Specification: docs/spec/leaves.md, "Limits".
"""

from __future__ import annotations

from typing import Final

LEAF_BYTES_MAX: Final = 48_000
"""A leaf, as the ``extra`` line of an offline proof, must stay below 65,536 bytes of base64."""

DOC_BYTES_MAX: Final = 36_000
"""Canonical DOC; the rest of the leaf is for the attestors' names."""

REQUEST_BYTES_MAX: Final = 8_000
"""Canonical build request with its signature."""

BATCH_ITEMS_MAX: Final = 110
"""Items of one attest batch: 110 of the largest leave 4 kB of a leaf for the environment."""

ENVIRONMENT_BYTES_MAX: Final = 4_000
"""Canonical ``env`` of an attest batch."""

MEMBERS_MAX: Final = 88
"""Members of a set: both the ``set`` leaf with the longest labels and the ACCEPTED leaf of the
largest doc have room for so many. 88 = 3f + 1 with f = 29."""

LABEL_LENGTH_MAX: Final = 64
"""Characters of a member's label, which is the key name in its cosignatures."""

MEMBER_ID_LENGTH_MAX: Final = 52
"""Characters of a peer id of an Ed25519 key in base58."""

CAUSE_LENGTH_MAX: Final = 32
"""Characters of the cause of a build that gave no result."""

UNTIL_AHEAD_MS_MAX: Final = 24 * 3_600_000
"""How far ``until`` of a request may lie after the time of the block that orders it."""

ATTEMPT_WINDOW_MS: Final = 24 * 3_600_000
"""Window in which requests of one sponsor for one purl are counted."""

ATTEMPTS_MAX: Final = 3
"""Requests of one sponsor for one purl that may open within ``ATTEMPT_WINDOW_MS``."""

REASON_LENGTH_MAX: Final = 500
"""Characters of the reason in a statement about an entry."""

SEEN_SLACK_MS: Final = 10 * 60_000
"""How far ``seen`` of an item may lie before its request opened, or after the time of its block."""
