"""Split views that this node saw: kept on disk, one file each, until somebody takes them away.

A file is a ``tlog.split_view.SplitViewProof``: this node's head and the one that contradicts it, as
complete as was to be had. It is written once per contradicting head, before the alarm is raised,
and again when the missing headers came; a crash leaves the old file or the new one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError
from pyrsia_node.store.files import write_atomic
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.note import SignatureLine
from pyrsia_node.tlog.split_view import SPLIT_VIEW_BYTES_MAX, SplitViewProof

_LOG: Final = logging.getLogger("pyrsia.ledger.split_views")

SPLIT_VIEWS_MAX: Final = 16
"""Contradicting heads that are kept; one is proof enough, the rest only name more culprits.

Beyond it a head is kept only if somebody cosigned it who is not named yet, so that one traitor can
neither fill a disk with heads of its own making nor keep those of a quorum out.
"""

_PREFIX: Final = "split-view-"


@dataclass(frozen=True, slots=True)
class SplitView:
    """A member's signature under a head that contradicts the chain of this node.

    ``our_root`` is the root that the chain has at that size, None where no block ends there.
    """

    label: str
    theirs: SignedCheckpoint
    our_root: bytes | None


class SplitViews:
    """What contradicted this node's chain. The list never shrinks while the node runs."""

    def __init__(self, folder: Path | None) -> None:
        """Load what ``folder`` holds; without a folder everything stays in memory.

        Raises:
            CorruptStateError: A file is no split view; names it.
        """
        self._folder = folder
        self._proofs: dict[tuple[int, bytes], SplitViewProof | None] = {}
        self.views: list[SplitView] = []
        if folder is not None and folder.is_dir():
            for path in sorted(folder.glob(f"{_PREFIX}*.json")):
                self._load(path)

    @property
    def proofs(self) -> list[SplitViewProof]:
        """The proofs, complete or not."""
        return [each for each in self._proofs.values() if each is not None]

    def incomplete(self) -> list[SplitViewProof]:
        """Return those that still lack the headers that heads of different sizes need."""
        return [
            each
            for each in self.proofs
            if each.headers is None and each.heads[0].checkpoint.size != _theirs(each).size
        ]

    def add(
        self, theirs: SignedCheckpoint, *, ours: SignedCheckpoint | None, our_root: bytes | None
    ) -> None:
        """Keep a head that contradicts the chain; each member that signed it is news once.

        Args:
            theirs: The head, with member lines that were verified.
            ours: A head of this node with all cosignatures held, of the same size if possible.
            our_root: What the chain has at that size.
        """
        head = theirs.checkpoint
        fresh = self._fresh(theirs)
        if not fresh or not self._has_room(theirs):
            return
        key = (head.size, head.root)
        before = self._proofs.get(key)
        if before is not None:
            lines = {line.name: line for line in (*before.heads[1].signatures, *theirs.signatures)}
            whole = SignedCheckpoint(head, tuple(lines[name] for name in sorted(lines)))
            self._keep(SplitViewProof((before.heads[0], whole), before.headers))
        elif ours is not None:
            self._keep(SplitViewProof((ours, theirs)))
        else:
            self._proofs[key] = None
        for line in fresh:
            self._tell(SplitView(line.name, SignedCheckpoint(head, (line,)), our_root))

    def complete(self, proof: SplitViewProof) -> None:
        """Keep a proof that was judged, instead of what was there about the same head.

        Nothing happens if it tells nothing new.
        """
        theirs = proof.heads[1]
        fresh = self._fresh(theirs)
        is_missing = self.known(theirs.checkpoint) in self.incomplete()
        if not (fresh or is_missing) or not self._has_room(theirs):
            return
        self._keep(proof)
        for line in fresh:
            view = SignedCheckpoint(theirs.checkpoint, (line,))
            self._tell(SplitView(line.name, view, _our_root(proof)))

    def known(self, head: Checkpoint) -> SplitViewProof | None:
        """Return what is kept about a contradicting head."""
        return self._proofs.get((head.size, head.root))

    def _fresh(self, theirs: SignedCheckpoint) -> list[SignatureLine]:
        """Return the lines of those who are not known yet to have signed this head."""
        known = {each.label for each in self.views if each.theirs.checkpoint == theirs.checkpoint}
        return [line for line in theirs.signatures if line.name not in known]

    def _has_room(self, theirs: SignedCheckpoint) -> bool:
        head = theirs.checkpoint
        if (head.size, head.root) in self._proofs or len(self._proofs) < SPLIT_VIEWS_MAX:
            return True
        named = {each.label for each in self.views}
        return any(line.name not in named for line in theirs.signatures)

    def _keep(self, proof: SplitViewProof) -> None:
        """Keep a proof, on disk first."""
        head = _theirs(proof)
        if self._folder is not None:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            write_atomic(self._folder / file_name(head), proof.encode())
        self._proofs[head.size, head.root] = proof

    def _tell(self, view: SplitView) -> None:
        head = view.theirs.checkpoint
        _LOG.error(
            "split view: %s cosigned size %d root %s, the chain has %s",
            view.label,
            head.size,
            head.root.hex(),
            view.our_root.hex() if view.our_root else "no block that ends there",
        )
        self.views.append(view)

    def _load(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                proof = SplitViewProof.decode(file.read(SPLIT_VIEW_BYTES_MAX + 1))
        except InvalidInputError as error:
            raise CorruptStateError(
                f"{path} is damaged ({error}): keep a copy, then take it away"
            ) from None
        head = _theirs(proof)
        self._proofs[head.size, head.root] = proof
        for line in proof.heads[1].signatures:
            self._tell(SplitView(line.name, SignedCheckpoint(head, (line,)), _our_root(proof)))


def _theirs(proof: SplitViewProof) -> Checkpoint:
    return proof.heads[1].checkpoint


def _our_root(proof: SplitViewProof) -> bytes | None:
    ours = proof.heads[0].checkpoint
    return ours.root if ours.size == _theirs(proof).size else None


def file_name(head: Checkpoint) -> str:
    """Return the name of the file that keeps the proof about a contradicting head."""
    return f"{_PREFIX}{head.size}-{sha256_of(head.text().encode())[:16]}.json"
