"""Counts the approvals behind every operation that needs a quorum, from the leaves alone.

Written apart from the ledger's machine, over plain JSON: approvals are kept by (operation,
subject), an operation needs those of a quorum of the members of its block's set, none expired,
none signed before the operation happened last; and the set leaf must be exactly the old set with
that one change.
Specification: docs/spec/leaves.md, "Approvals".
"""

from __future__ import annotations

from typing import Final, cast

from pyrsia_node.audit.blocks import Block
from pyrsia_node.audit.report import Report
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject, JsonValue
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.signing import MEMBER_TAG, OPERATION_TAG

SET_OPERATIONS: Final = frozenset({"add_node", "remove_node", "rotate_key"})
APPROVED: Final = SET_OPERATIONS | {"set_param", "withdraw", "revoke", "add_source"}
_SUBMISSION: Final = frozenset({"t", "v", "by", "nonce", "sigs"})
"""Members that say who submitted an operation and how: not what was approved."""


class ApprovalAudit:
    """Follows approvals and what they allowed, block by block."""

    def __init__(self, network_id: bytes, report: Report) -> None:
        """Follow the log of the network ``network_id``."""
        self._network = network_id
        self._report = report
        self._given: dict[tuple[str, str], dict[str, int]] = {}
        self._happened: dict[tuple[str, str], int] = {}

    def check(self, block: Block) -> None:
        """Follow one block."""
        changes: list[JsonObject] = []
        for offset, value in enumerate(block.values[: block.transactions], start=1):
            kind = value.get("t")
            if kind == "approve":
                self._take(value)
            elif kind in APPROVED:
                self._check_operation(block, offset, value)
                self._report.facts[str(kind)] += 1
                if kind in SET_OPERATIONS:
                    changes.append(value)
        self._check_set(block, changes)
        self._forget(block.height)

    def _take(self, value: JsonObject) -> None:
        key = (str(value.get("op")), str(value.get("subject")))
        if cast("int", value["since"]) >= self._happened.get(key, 0):
            self._given.setdefault(key, {})[str(value.get("by"))] = cast("int", value["expiry"])

    def _check_operation(self, block: Block, offset: int, value: JsonObject) -> None:
        kind = str(value["t"])
        key = (kind, self._subject(value))
        given = self._given.pop(key, {})
        self._happened[key] = block.height
        members = {record.id for record in block.voters.members}
        counted = [m for m, expiry in given.items() if m in members and expiry >= block.height]
        needed = block.voters.quorum
        if len(counted) < needed:
            self._report.contradict(
                "sets",
                block.place_of(offset),
                f"{kind} has the approvals of {len(counted)} members of its set, needs {needed}",
            )
        else:
            self._report.counted["sets"] += 1

    def _subject(self, value: JsonObject) -> str:
        """Return the digest that members approve."""
        record = value.get("record")
        if isinstance(record, dict):
            bare = {name: each for name, each in record.items() if name != "sigs"}
            return sha256_of(MEMBER_TAG + canonical.dumps(bare))
        content = {name: each for name, each in value.items() if name not in _SUBMISSION}
        content["op"] = value["t"]
        return sha256_of(OPERATION_TAG + self._network + canonical.dumps(content))

    def _check_set(self, block: Block, changes: list[JsonObject]) -> None:
        """Hold the next set against the one before and the operations between."""
        if not changes and block.next_set is block.voters:
            return
        expected = _members_of(block.voters.encode())
        for value in changes:
            _apply(expected, value)
        found = _members_of(block.next_set.encode())
        if found != expected:
            odd = sorted(
                name for name in {*found, *expected} if found.get(name) != expected.get(name)
            )
            self._report.contradict(
                "sets",
                block.place,
                f"the next set is not what its operations make of the set: {', '.join(odd)}",
            )

    def _forget(self, height: int) -> None:
        for key, given in list(self._given.items()):
            live = {member: expiry for member, expiry in given.items() if expiry > height}
            if live:
                self._given[key] = live
            else:
                del self._given[key]


def _members_of(set_leaf: bytes) -> dict[str, JsonValue]:
    value = canonical.loads_object(set_leaf, bytes_max=len(set_leaf))
    return {str(each["id"]): each for each in cast("list[JsonObject]", value["members"])}


def _apply(members: dict[str, JsonValue], value: JsonObject) -> None:
    if value["t"] == "remove_node":
        members.pop(str(value.get("node")), None)
        return
    record = value.get("record")
    if isinstance(record, dict):
        members[str(record.get("id"))] = {
            name: each for name, each in record.items() if name != "sigs"
        }
