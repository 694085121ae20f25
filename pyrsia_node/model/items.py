"""Items: what one member says of one request in its attest batches.

A built item names a document and the roots of the member's own build; any other says why there is
none. Of a mirrored image a member also says what it *saw* at its own upstream, and when.
Specification: docs/spec/leaves.md, "Transactions".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.limits import CAUSE_LENGTH_MAX
from pyrsia_node.model.oci_terms import OciDigest

LEVELS: Final = (0, 1, 2)
"""Equality levels: same bytes; same after container rules; same after named metadata rules."""

BUILT: Final = "BUILT"
"""Outcome of an item that names a result."""

MOVED: Final = "MOVED"
"""Outcome of an item without a result: its upstream says that the tag is another digest by now."""

FAILURES: Final = ("BUILD_FAILED", MOVED, "REFUSED", "SOURCE_UNAVAILABLE", "TIMEOUT")
"""Outcomes of an item without a result."""

SALT_BYTES: Final = 16
"""Length of the salt that hides an item until it is shown."""

_CAUSE: Final = re.compile(rf"[A-Za-z0-9 ._:/()+,=-]{{0,{CAUSE_LENGTH_MAX}}}")
_DIGEST_LENGTH_MAX: Final = 7 + 128


@dataclass(frozen=True, slots=True)
class BuiltItem:
    """A member built the request: ``result`` names the doc whose files are equal at ``level``.

    ``own`` are the roots of its own build at the three levels. ``salt``, in hex, stands in the item
    that opens a commit, and is empty in every other. ``seen_ms`` is when the member saw, by its own
    clock, that a tag was this result; None where nothing was seen. ``explained`` is the digest of
    the member's own comparison with what is published (docs/design/maven.md, "Explained"); it
    decides nothing, and is None where nobody compared.
    """

    request: Sha256
    result: Sha256
    level: int
    own: tuple[Sha256, Sha256, Sha256]
    salt: str = ""
    seen_ms: int | None = None
    explained: Sha256 | None = None

    def to_json(self) -> JsonObject:
        """Return the item."""
        explained: JsonObject = {} if self.explained is None else {"explained": self.explained}
        return {
            **_optional_members(self.salt, self.seen_ms),
            **explained,
            "level": self.level,
            "outcome": BUILT,
            "own": list(self.own),
            "req": self.request,
            "result": self.result,
        }


@dataclass(frozen=True, slots=True)
class FailedItem:
    """A member got no result. ``outcome`` is one of ``FAILURES``; ``cause`` a few words.

    ``salt`` and ``seen_ms`` as in ``BuiltItem``. MOVED alone names in ``moved`` the digest that the
    tag was instead, as ``ALGORITHM:HEX``, and always says when.
    """

    request: Sha256
    outcome: str
    cause: str
    salt: str = ""
    seen_ms: int | None = None
    moved: str = ""

    def to_json(self) -> JsonObject:
        """Return the item."""
        return {
            **_optional_members(self.salt, self.seen_ms),
            **moved_member(self.moved),
            "cause": self.cause,
            "outcome": self.outcome,
            "req": self.request,
        }


Item = BuiltItem | FailedItem


def parse_item(value: JsonValue) -> Item:
    """Return the item that the object spells.

    Raises:
        InvalidInputError: Not a legal item.
    """
    found = value if isinstance(value, dict) else {}
    optional = frozenset({"salt", "seen"} & found.keys())
    if found.get("outcome") != BUILT:
        return _failed_item(value, optional)
    explained = frozenset({"explained"} & found.keys())
    got = Fields(value, "attest_batch.items", _BUILT_MEMBERS | optional | explained)
    level0, level1, level2 = got.digests("own", count=len(LEVELS))
    return BuiltItem(
        request=got.sha256("req"),
        result=got.sha256("result"),
        level=got.integer("level", low=min(LEVELS), high=max(LEVELS)),
        own=(level0, level1, level2),
        salt=_salt(got, optional),
        seen_ms=_seen(got, optional),
        explained=got.sha256("explained") if explained else None,
    )


def moved_member(moved: str) -> JsonObject:
    """Return the member that tells what a tag was instead; nothing if it did not move."""
    return {"moved": moved} if moved else {}


def parse_moved(got: Fields) -> str:
    """Return member ``moved``: a digest as registries write it; raises InvalidInputError."""
    text = got.text("moved", length_max=_DIGEST_LENGTH_MAX)
    return str(OciDigest.parse(text))


def _failed_item(value: JsonValue, optional: frozenset[str]) -> FailedItem:
    found = value if isinstance(value, dict) else {}
    moved = frozenset({"moved", "seen"}) if found.get("outcome") == MOVED else frozenset()
    got = Fields(value, "attest_batch.items", _FAILED_MEMBERS | optional | moved)
    return FailedItem(
        request=got.sha256("req"),
        outcome=got.one_of("outcome", FAILURES),
        cause=got.matching("cause", _CAUSE, "up to 32 plain ASCII characters"),
        salt=_salt(got, optional),
        seen_ms=_seen(got, optional | moved),
        moved=parse_moved(got) if moved else "",
    )


def _salt(got: Fields, optional: frozenset[str]) -> str:
    return got.hex("salt", size=SALT_BYTES) if "salt" in optional else ""


def _seen(got: Fields, optional: frozenset[str]) -> int | None:
    return got.integer("seen", low=0, high=INTEGER_MAX) if "seen" in optional else None


def _optional_members(salt: str, seen_ms: int | None) -> JsonObject:
    members: JsonObject = {"salt": salt} if salt else {}
    if seen_ms is not None:
        members["seen"] = seen_ms
    return members


_BUILT_MEMBERS: Final = frozenset({"level", "outcome", "own", "req", "result"})
_FAILED_MEMBERS: Final = frozenset({"cause", "outcome", "req"})
