"""Holds the final certificate of every block against the set of its height.

Certificates are no leaves: they are published beside the log, as the next block carries them, and
that block's header names their hash. A publisher may keep them to itself; then who decided cannot
be checked, and the audit says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from consensus import ed25519
from consensus.types import Digest
from pyrsia_node.audit.blocks import Block
from pyrsia_node.audit.report import Report
from pyrsia_node.audit.source import LogSource
from pyrsia_node.ledger.blocks import check_certificate
from pyrsia_node.ledger.certificates import NEWEST, bundle_of, bundle_path, decode_certificates
from pyrsia_node.model.digest import ZERO_SHA256, sha256_of
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    VerificationError,
)
from pyrsia_node.tlog.tile import WIDTH
from pyrsia_node.tlog.tree import leaf_hash

MISSING: Final = "the publisher serves no certs/: who decided the blocks cannot be checked"


class CertificateAudit:
    """Reads and checks the certificates of a log of known height, block by block."""

    def __init__(self, source: LogSource, height: int, report: Report) -> None:
        """Read from ``source``; ``height`` is the one that the checkpoint ends with."""
        self._source = source
        self._height = height
        self._report = report
        self._number = -1
        self._bundle: tuple[bytes, ...] = ()
        self._before = b""
        self._has_ended = False
        """Whether no further certificate can be looked for: said in the report."""
        self._named = 0
        """The height that the newest certificate names."""

    def check(self, block: Block) -> bytes | None:
        """Return the block's certificate if it is there, sound or not; None if it is not."""
        self._check_carried(block)
        data = self._read(block.height)
        self._before = data or b""
        if data is not None:
            self._verify(block, data)
        return data

    def _check_carried(self, block: Block) -> None:
        """Hold the hash that the header names against the certificate before."""
        if block.height > 1 and not self._before:
            return  # it was not there: said already
        expected = sha256_of(self._before) if self._before else ZERO_SHA256
        if block.header.parent_cert != expected:
            self._report.contradict(
                "certificates",
                block.place,
                f"parent_cert is {block.header.parent_cert}, the certificate of height "
                f"{block.height - 1} that is served has {expected}",
            )

    def _verify(self, block: Block, data: bytes) -> None:
        place = f"certificate of height {block.height}"
        try:
            check_certificate(
                data,
                height=block.height,
                block_hash=Digest(leaf_hash(block.leaves[0])),
                voters=block.voters.to_consensus(),
                chain_id=Digest(bytes.fromhex(block.header.network)),
                verify=ed25519.verify,
            )
        except (InvalidInputError, VerificationError) as error:
            self._report.contradict("certificates", place, str(error))
            return
        self._report.counted["certificates"] += 1

    def _read(self, height: int) -> bytes | None:
        if self._has_ended:
            return None
        if height > self._height:  # the last header was damaged, or made up
            self._has_ended = True
            self._report.contradict(
                "certificates",
                f"height {height}",
                f"the log goes on, though the last header in it names height {self._height}",
            )
            return None
        number, place = bundle_of(height)
        if height == self._height:
            return self._newest(height) or self._overtaken(height)
        width = min(WIDTH, self._height - 1 - number * WIDTH)
        return self._loaded(number, width, place)

    def _loaded(self, number: int, width: int, place: int) -> bytes | None:
        if number != self._number or len(self._bundle) < width:
            self._number = number
            self._bundle = self._load(number, width)
        return self._bundle[place] if place < len(self._bundle) else None

    def _newest(self, height: int) -> bytes | None:
        """Return the newest block's certificate if it is still that of ``height``."""
        found = self._guarded(NEWEST, self._source.newest_certificate)
        self._named = height if found is None else int.from_bytes(found[1:9], "big")
        return found if self._named == height else None

    def _overtaken(self, height: int) -> bytes | None:
        """Return the certificate from the bundle: the next block, if there is one, carries it."""
        number, place = bundle_of(height)
        found = self._loaded(number, place + 1, place)
        if found is None and self._named != height:
            self._report.contradict(
                "certificates",
                NEWEST,
                f"names height {self._named}, and the certificate of height {height} is nowhere",
            )
        return found

    def _load(self, number: int, width: int) -> tuple[bytes, ...]:
        path = bundle_path(number, width)
        data = self._guarded(path, lambda: self._source.certificates(number, width))
        if data is None:
            return ()
        try:
            return decode_certificates(data, width=width)
        except InvalidInputError as error:
            self._report.contradict("certificates", path, str(error))
            return ()

    def _guarded(self, path: str, read: Callable[[], bytes]) -> bytes | None:
        try:
            return read()
        except NotFoundError:
            self._has_ended = True
            self._report.leave_out("certificates", f"{MISSING} ({path} is not there)")
        except CorruptStateError as error:
            self._report.contradict("certificates", path, str(error).partition(": run ")[0])
        return None
