"""Whose cosignatures count, kept in step with the chain, and written where the gateway reads it.

The core believes the set changes that it executed itself, so following them needs no search: each
is header, certificate and set leaf as they stand in its own chain. ``log/trust`` tells the gateway
and everybody who asks for a trust file; they verify it from the genesis on.

Order of the durable steps: the chain commits, then ``log/trust`` is replaced, then a checkpoint of
the new epoch may be published. A crash between them leaves a trust file that lacks a change whose
checkpoints nobody has published yet; the next start writes it before anything else.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from pyrsia_node.core.opened import Opened
from pyrsia_node.ledger.handover import set_changes
from pyrsia_node.ledger.publish import Cosigner
from pyrsia_node.store.files import write_atomic
from pyrsia_node.store.keys import KeyUse
from pyrsia_node.tlog.checkpoint import cosigner_key
from pyrsia_node.tlog.trust import TRUST_BYTES_MAX, Trust, TrustFile

_LOG = logging.getLogger("pyrsia.core.trust_keeper")

WARNED_AT: Final = 0.75
"""How full of what readers take a trust file is when people are told."""


class TrustFileOnDisk:
    """The file from which the gateway, and everybody who asks this node, learns of set changes.

    A file that readers would refuse is not written: with the one before they go on believing what
    they believed so far, and refuse heads of the epochs that it lacks.
    """

    def __init__(self, path: Path) -> None:
        """Write to ``path``."""
        self._path = path
        self._bytes = 0

    @property
    def words(self) -> str:
        """What an operator must know of its length, or ""."""
        if self._bytes < WARNED_AT * TRUST_BYTES_MAX:
            return ""
        end = "no reader follows the newest set" if self._bytes > TRUST_BYTES_MAX else "it goes on"
        return (
            f"the proof of all changes of the set has {self._bytes:,} bytes of the "
            f"{TRUST_BYTES_MAX:,} that readers take: {end}; found the network anew "
            "(docs/guides/recover.md)"
        )

    def write(self, file: TrustFile) -> None:
        """Write the file durably, if it is another one and readers take it."""
        content = file.encode()
        self._bytes = len(content)
        if self.words:
            _LOG.warning("%s: %s", self._path, self.words)
        if self._bytes > TRUST_BYTES_MAX:
            return
        if not self._path.exists() or self._path.read_bytes() != content:
            write_atomic(self._path, content)


class TrustKeeper:
    """The trust of the chain's tip, and this node's cosigner in each epoch."""

    def __init__(self, opened: Opened) -> None:
        """Establish the trust of the committed chain and write it down."""
        self._opened = opened
        self._file = TrustFile(opened.chain.genesis.encode(), tuple(set_changes(opened.chain)))
        self.trust = Trust.establish(self._file)
        self._cosigners: dict[str, Cosigner] = {}
        self._disk = TrustFileOnDisk(opened.layout.trust)
        self._disk.write(self._file)

    @property
    def words(self) -> str:
        """What an operator must know of the trust file, or ""."""
        return self._disk.words

    def follow(self) -> bool:
        """Take in what the newest block changed; True if it changed the set."""
        chain = self._opened.chain
        known = self.trust.current.epoch
        if chain.tip.set_leaf.epoch == known:
            return False
        changes = set_changes(chain, first_epoch=known + 1)
        self._file = TrustFile(self._file.genesis, (*self._file.changes, *changes))
        self.trust = self.trust.extended(*changes)
        self._disk.write(self._file)
        return True

    def cosigner(self, size: int) -> Cosigner | None:
        """Return what cosigns heads of ``size`` for this node.

        None where this node is no member of the set that signs them, or another key of it is.
        """
        keys = self._opened.keys
        public = keys.public(KeyUse.COSIGN)
        record = self.trust.epoch_at(size).members.record_of(self._opened.me)
        if record is None or record.keys.cosign != public:
            return None
        if record.label not in self._cosigners:
            key = cosigner_key(record.label, public)
            self._cosigners[record.label] = Cosigner(key, keys.signer(KeyUse.COSIGN))
        return self._cosigners[record.label]
