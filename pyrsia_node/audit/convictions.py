"""Judges every piece of evidence in the log again: did the member sign what nobody may sign twice?

Written apart from the ledger's machine. A pair convicts if both statements hold under the member's
vote key of that height's set and no honest member signs both; the log needs no more than one pair a
member, crime and epoch. Specification: docs/spec/leaves.md, "Validity".
"""

from __future__ import annotations

from typing import Final

from consensus import ed25519, wire
from consensus.types import Digest, Height, View, VoteKind
from pyrsia_node.audit.blocks import Block
from pyrsia_node.audit.report import Report
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.evidence import Evidence, SignedStatement
from pyrsia_node.model.members import SetLeaf

NEVER_TOGETHER: Final = frozenset(
    {
        ("notarize", "notarize"),
        ("finalize", "finalize"),
        ("proposal", "proposal"),
        ("notarize", "finalize"),
        ("nullify", "finalize"),
    }
)
"""Kinds of two statements about different blocks of one view that no honest member signs both."""

_VOTES: Final = {kind.name.lower(): kind for kind in VoteKind}


class ConvictionAudit:
    """Follows the sets of a log and judges the evidence in its blocks."""

    def __init__(self, network_id: bytes, report: Report) -> None:
        """Judge the log of the network ``network_id``."""
        self._chain_id = Digest(network_id)
        self._report = report
        self._sets: list[tuple[int, SetLeaf]] = []
        self._convicted: set[tuple[str, str, str, str]] = set()

    def check(self, block: Block) -> None:
        """Judge the evidence of one block."""
        if not self._sets or self._sets[-1][1] != block.voters:
            self._sets.append((block.height, block.voters))
        for offset, value in enumerate(block.values[: block.transactions], start=1):
            if value.get("t") != "evidence":
                continue
            self._report.facts["evidence"] += 1
            if wrong := self._wrong(value, block.height):
                self._report.contradict("evidence", block.place_of(offset), wrong)
            else:
                self._report.counted["evidence"] += 1

    def _wrong(self, value: JsonObject, height: int) -> str:
        """Return why a piece of evidence proves nothing; empty if it convicts."""
        try:
            found = Evidence.from_json(
                {name: each for name, each in value.items() if name != "sigs"}
            )
        except InvalidInputError as error:
            return str(error)
        kinds = (found.first.kind, found.second.kind)
        told = f"{found.culprit} at height {found.height}, {kinds[0]} and {kinds[1]}"
        voters = self._voters_at(found.height)
        record = voters.record_of(found.culprit) if voters is not None else None
        if voters is None or found.height > height:
            return f"{told}: nobody has voted at that height yet"
        if record is None or voters.digest() != found.set:
            return f"{told}: the member had no vote in the set {found.set[:12]}… at that height"
        ordered = kinds if kinds in NEVER_TOGETHER else kinds[::-1]
        if ordered not in NEVER_TOGETHER or found.first.block == found.second.block:
            return f"{told}: an honest member may sign both"
        for statement in (found.first, found.second):
            signed = self._signed(found, statement)
            if not ed25519.verify(record.keys.vote, signed, statement.signature):
                return f"{told}: the member did not sign the {statement.kind}"
        key = (found.culprit, *ordered, found.set)
        if key in self._convicted:
            return f"{told}: the log convicts the member of this already"
        self._convicted.add(key)
        return ""

    def _voters_at(self, height: int) -> SetLeaf | None:
        known = [voters for first, voters in self._sets if first <= height]
        return known[-1] if known else None

    def _signed(self, found: Evidence, statement: SignedStatement) -> bytes:
        """Return the bytes that the member signed, as docs/spec/consensus-wire.md lays them out."""
        at = (Height(found.height), View(found.view))
        block, set_hash = (Digest(bytes.fromhex(each)) for each in (statement.block, found.set))
        if statement.kind == "proposal":
            return wire.proposal_bytes(*at, block, chain_id=self._chain_id, set_hash=set_hash)
        return wire.vote_bytes(
            _VOTES[statement.kind], *at, block, chain_id=self._chain_id, set_hash=set_hash
        )
