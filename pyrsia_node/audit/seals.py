"""Counts promises of sealed requests again, plainly. Nothing of the ledger is imported.

A sealed request takes promises until its ``unsealed`` leaf; from then on only members that promised
count, and each first item must be the one that was promised.
Specification: docs/spec/leaves.md, "Sealed requests".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final, cast

from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject, JsonValue

_TAG: Final = b"pyrsia/commit/1\0"


@dataclass(slots=True)
class Seal:
    """The promises of one sealed request.

    ``opened`` is the block time at which the request opened; ``ends`` until when the slower ones
    are waited for, once k have promised; ``is_broken`` says that its ``unsealed`` leaf stands.
    """

    opened: int
    class_ms: int
    commits: dict[str, str] = field(default_factory=dict)
    ends: int | None = None
    is_broken: bool = False

    def is_due(self, now: int) -> bool:
        """Tell whether nobody is waited for any more at a block time."""
        return not self.is_broken and self.ends is not None and self.ends <= now

    def is_opened_by(self, item: JsonObject, *, voter: str, network_id: bytes) -> bool:
        """Tell whether a member's first item is the one that it promised."""
        bare: JsonObject = {name: value for name, value in item.items() if name != "salt"}
        salt = bytes.fromhex(cast("str", item.get("salt", "")))
        text = canonical.dumps({"item": bare, "voter": voter})
        promised = hashlib.sha256(_TAG + network_id + salt + text).hexdigest()
        return self.is_broken and self.commits.get(voter) == promised

    def amounts_to(
        self, head: JsonObject, members: list[str], k: int, purl: str, now: int
    ) -> JsonObject | None:
        """Return the leaf that the promises give at block time ``now``; None if there is none yet.

        Args:
            head: What every leaf about the request has.
            members: Who could answer and is a member still, sorted.
            k: Equal answers that accept.
            purl: What the request is about.
            now: The block time.
        """
        promised: list[JsonValue] = [m for m in members if m in self.commits]
        silent: list[JsonValue] = [m for m in members if m not in self.commits]
        if len(members) < k:
            return {**head, "t": "failed", "purl": purl, "causes": []}
        if now >= self.opened + self.class_ms:
            return {**head, "t": "expired", "purl": purl, "silent": silent}
        if len(promised) < k:
            return None
        if self.ends is None:
            took = max(now - self.opened, self.class_ms // 16)
            latest = self.opened + self.class_ms - self.class_ms // 4
            self.ends = min(now + took, latest)
        if silent and now < self.ends:
            return None
        return {**head, "t": "unsealed", "committed": promised}
