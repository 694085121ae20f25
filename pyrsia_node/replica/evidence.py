"""Keeps evidence against members, and brings it into the log.

Each piece is durable before anything else happens to it, so a crash loses none. It leaves as an
``evidence`` transaction of this node: pending transactions reach every member, and from the block
that holds it everybody. There is at most one piece a member, crime and set, so a traitor cannot
fill a disk with its crimes.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from consensus.contradiction import (
    Contradiction,
    contradiction_of,
    decode_contradiction,
    encode_contradiction,
)
from consensus.ed25519 import Sign
from consensus.effects import ReportEvidence
from consensus.errors import DecodeError
from consensus.types import MemberSet, NodeId
from pyrsia_node.ledger.machine.evidence import evidence_of
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError, PyrsiaError
from pyrsia_node.model.transactions import sign_transaction
from pyrsia_node.ports import KeyValueStore

_LOG = logging.getLogger("pyrsia.replica.evidence")

RETRY_S: Final = 10.0
"""Pause before what could not be submitted is submitted again."""

_PREFIX: Final = b"replica/evidence/"


class EvidenceLocker:
    """Evidence that this node holds, logged or not."""

    def __init__(self, store: KeyValueStore) -> None:
        """Keep it in ``store``."""
        self._store = store

    def add(self, proof: Contradiction) -> bool:
        """Keep a proof whose signatures hold; durable on return. False if one like it is here."""
        key = b"/".join(
            (
                _PREFIX + proof.culprit.encode("ascii"),
                proof.crime.value.encode("ascii"),
                proof.set_hash.hex().encode("ascii"),
            )
        )
        if self._store.get(key) is not None:
            return False
        self._store.write([(key, encode_contradiction(proof))], sync=True)
        return True

    def all(self) -> list[Contradiction]:
        """Return what is held, by culprit and crime.

        Raises:
            CorruptStateError: a row is no evidence.
        """
        try:
            return [decode_contradiction(data) for _, data in self._store.scan(_PREFIX)]
        except DecodeError as error:
            raise CorruptStateError(f"evidence in the store: {error}") from error


@dataclass(frozen=True, slots=True)
class Reporting:
    """As whom evidence is reported: ``submit`` takes a transaction signed by ``sign``."""

    me: NodeId
    network_id: bytes
    sign: Sign
    submit: Callable[[bytes], Awaitable[None]]


class EvidenceReporter:
    """Takes in what the replica finds, and sees to it that the log gets it."""

    def __init__(self, locker: EvidenceLocker, reporting: Reporting) -> None:
        """Keep in ``locker``, report as ``reporting`` says."""
        self._locker = locker
        self._reporting = reporting
        self._unreported = locker.all()
        self._wake = trio.Event()

    def found(self, report: ReportEvidence, members: MemberSet) -> None:
        """Keep what the replica found at a height of ``members``."""
        self.keep(contradiction_of(report.culprit, members.set_hash, report.first, report.second))

    def keep(self, proof: Contradiction) -> None:
        """Keep a proof whose signatures hold."""
        if not self._locker.add(proof):
            return
        _LOG.error(
            "EVIDENCE against %s: %s at height %d, view %d",
            proof.culprit,
            proof.crime.value,
            proof.height,
            proof.view,
        )
        self._unreported.append(proof)
        self._wake.set()

    async def run(self) -> None:
        """Report for ever. Evidence of an earlier life is reported again: the log takes one."""
        while True:
            self._wake = trio.Event()
            for proof in list(self._unreported):
                if await self._report(proof):
                    self._unreported.remove(proof)
            # What is left waits for a while: this node is no member now, or its mempool is full.
            with trio.move_on_after(RETRY_S if self._unreported else float("inf")):
                await self._wake.wait()

    async def _report(self, proof: Contradiction) -> bool:
        """Submit one piece; False where it has to be tried again."""
        reporting = self._reporting
        signed = sign_transaction(
            evidence_of(proof, by=reporting.me),
            network_id=reporting.network_id,
            sign=reporting.sign,
        )
        try:
            await reporting.submit(signed.encoded)
        except InvalidInputError as error:
            # Ordinary: another member was first. What no node can report is shown all the same.
            _LOG.info("evidence against %s is not needed in the log: %s", proof.culprit, error)
        except CorruptStateError:
            raise
        except PyrsiaError as error:
            _LOG.debug("evidence waits: %s", error)
            return False
        return True
