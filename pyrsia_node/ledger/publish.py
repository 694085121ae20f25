"""From committed to published: collects cosignatures and moves ``log/checkpoint``.

A head is published when a quorum of its epoch cosigned it *and* this node has committed the same
head itself; cosignatures that arrive earlier wait. The file then holds this node's own log line and
every cosignature known; later ones are added, and the size never goes back.

Order of the durable steps, and what a crash leaves: (1) the chain commits, and with it the guard
that says what may be cosigned; (2) the member cosigns; (3) the tiles are in place; (4) the
checkpoint is replaced, durably. A crash between any two leaves an older checkpoint, whose tiles are
there; cosignatures that were only in memory are asked for again.

A valid cosignature of a head that this chain does not have is a *split view*: its maker stands
behind two histories. It is kept, with the signature, and reported (``ledger.split_views``).

Members cosign an unchanged head again from time to time; the published file then carries the newer
times, so that a reader can tell a quiet log from one that is kept from it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from pyrsia_node.ledger.split_views import SplitView, SplitViews
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    VerificationError,
)
from pyrsia_node.model.signing import Sign
from pyrsia_node.store.files import write_atomic
from pyrsia_node.tlog import checkpoint as heads
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.note import NOTE_BYTES_MAX, SignatureLine, VerifierKey
from pyrsia_node.tlog.trust import Trust, cosigner_keys

CHECKPOINT_FILE: Final = "checkpoint"
WAITING_MAX: Final = 16
"""Heads beyond our own tip for which a member's cosignatures are kept; its nearest stay.

Counted for each member, so that nobody can push out what others signed.
"""

ROOTS_MAX: Final = 256
"""Sizes whose root is at hand; more than heads are held."""

RECENT_MAX: Final = 64
"""Heads at or below the tip whose cosignatures are kept for those who ask."""


class HasSize(Protocol):
    """A head's size."""

    @property
    def size(self) -> int:
        """The tree size."""
        ...


class Heads(Protocol):
    """What the chain has committed."""

    @property
    def tip(self) -> HasSize:
        """The newest head."""
        ...

    def root_at(self, size: int) -> bytes:
        """Return the root where a block ends; raises NotFoundError where none does."""
        ...


@dataclass(frozen=True, slots=True)
class Publication:
    """A signed checkpoint that waits to be written; ``lines`` are the cosignatures in it."""

    checkpoint: Checkpoint
    lines: tuple[SignatureLine, ...]
    path: Path
    content: bytes

    def write(self) -> None:
        """Replace the file, durably. May run in a thread of its own."""
        write_atomic(self.path, self.content)


@dataclass(slots=True)
class _Head:
    """Verified cosignatures of one (size, root), by label; the newest of each member."""

    checkpoint: Checkpoint
    lines: dict[str, SignatureLine] = field(default_factory=dict)

    def signed(self) -> SignedCheckpoint:
        ordered = tuple(self.lines[label] for label in sorted(self.lines))
        return SignedCheckpoint(self.checkpoint, ordered)


class Cosigner:
    """Makes a member's cosignatures. Never of a smaller head, never of two roots of one size.

    The durable guard is the chain's own commit: pass only heads that it has committed.
    """

    def __init__(self, key: VerifierKey, signer: Sign) -> None:
        """Sign with ``signer`` as ``key`` (type 0x04, the member's label)."""
        self._key = key
        self._signer = signer
        self._last: Checkpoint | None = None

    def cosign(self, head: Checkpoint, *, time_s: int) -> SignedCheckpoint:
        """Return the head with this member's cosignature, made at Unix time ``time_s``.

        Raises:
            CorruptStateError: The head contradicts one that was cosigned before.
        """
        last = self._last
        if last is not None and (
            head.size < last.size or (head.size == last.size and head.root != last.root)
        ):
            raise CorruptStateError(
                f"asked to cosign size {head.size} root {head.root.hex()} after size "
                f"{last.size} root {last.root.hex()}"
            )
        self._last = head
        line = heads.cosign(head, self._key, self._signer, time_s=time_s)
        return SignedCheckpoint(head, (line,))


class Publisher:
    """Owns ``log/checkpoint``. Not for use from two tasks at once; nothing here waits."""

    def __init__(
        self,
        folder: Path,
        *,
        trust: Trust,
        chain: Heads,
        log_key: bytes,
        log_signer: Sign,
        evidence: Path | None = None,
    ) -> None:
        """Load what is published.

        Args:
            folder: The ``log`` folder; it must exist.
            trust: Whose cosignatures count.
            chain: What this node has committed.
            log_key: The public ``log`` key of this node.
            log_signer: Signs with it.
            evidence: Where split views are kept; None keeps them in memory.

        Raises:
            CorruptStateError: The published checkpoint is damaged or contradicts the chain.
        """
        self._path = folder / CHECKPOINT_FILE
        self._trust = trust
        self._chain = chain
        self._log_key = heads.log_key(trust.origin, log_key)
        self._log_signer = log_signer
        self._heads: dict[tuple[int, bytes], _Head] = {}
        self._roots: dict[int, bytes] = {}
        self._published: _Head | None = None
        self._written: tuple[SignatureLine, ...] = ()
        self._split_views = SplitViews(evidence)
        self._load()

    @property
    def split_views(self) -> list[SplitView]:
        """What members signed that contradicts the chain, oldest first."""
        return self._split_views.views

    @property
    def contradictions(self) -> SplitViews:
        """The same with its proofs."""
        return self._split_views

    @property
    def published(self) -> Checkpoint | None:
        """The published head, or None before the first."""
        return self._published.checkpoint if self._published else None

    @property
    def published_note(self) -> SignedCheckpoint | None:
        """The published head with every cosignature held, or None before the first."""
        return self._published.signed() if self._published else None

    @property
    def published_time_s(self) -> int:
        """Unix time at or after which a quorum stood behind the published head; 0 before it.

        The q-th newest of the cosignatures' times, so f liars cannot make an old head look fresh.
        """
        if self._published is None:
            return 0
        size = self._published.checkpoint.size
        needed = self._trust.epoch_at(size).members.quorum
        times = sorted(
            (int.from_bytes(line.payload[:8], "big") for line in self._published.lines.values()),
            reverse=True,
        )
        return times[needed - 1] if len(times) >= needed else 0

    @property
    def published_size(self) -> int:
        """The size of the published head; 0 before the first."""
        return self._published.checkpoint.size if self._published else 0

    def follow(self, trust: Trust) -> None:
        """Count the cosignatures of further epochs; ``trust`` continues the one given before."""
        known = self._trust.epochs
        assert trust.epochs[: len(known)] == known, "epochs are only ever added"
        self._trust = trust

    def add(self, signed: SignedCheckpoint) -> int:
        """Take the cosignatures of a head that a peer, or this node, sent.

        Lines of keys that are not the epoch's, and lines held already, are ignored unverified.

        Returns:
            How many members' lines are new, or newer than the ones held.

        Raises:
            InvalidInputError: The head is of another log.
            VerificationError: A member's line does not hold.
        """
        head = signed.checkpoint
        if head.origin != self._trust.origin:
            raise InvalidInputError(
                f"cosignature of log {head.origin!r:.120}, this is {self._trust.origin!r}"
            )
        held = self._heads.get((head.size, head.root), _Head(head))
        keys = {key.name: key for key in cosigner_keys(self._trust.epoch_at(head.size).members)}
        fresh = tuple(
            line
            for line in signed.signatures
            if line.name in keys
            and line.key_id == keys[line.name].key_id
            and held.lines.get(line.name) != line
        )
        if not fresh:
            return 0
        SignedCheckpoint(head, fresh).verified_by(keys.values())
        if self._contradicts(head):
            self._report(SignedCheckpoint(head, fresh))
            return 0
        if head.size < self.published_size:
            return 0
        added = _merge(held, fresh)
        self._heads[head.size, head.root] = held
        self._forget_surplus()
        return added

    def prepare(self, *, tiles_size: int) -> Publication | None:
        """Return what should be written: a newer head, or more cosignatures of the published one.

        The owner calls ``write`` on it, in a thread if it likes, then ``wrote`` here; meanwhile
        cosignatures may be added, and nothing else may be prepared.

        Args:
            tiles_size: Leaves whose tiles are in place; a larger head waits.
        """
        self._drop_contradicted()
        limit = min(tiles_size, self._chain.tip.size)
        candidates = [
            each
            for (size, _), each in self._heads.items()
            if self.published_size <= size <= limit and self._is_quorum(each)
        ]
        if not candidates:
            return None
        best = max(candidates, key=lambda each: each.checkpoint.size)
        lines = best.signed().signatures
        if best is self._published and lines == self._written:
            return None
        own = heads.sign(best.checkpoint, self._log_key, self._log_signer)
        content = SignedCheckpoint(best.checkpoint, (own, *lines)).encode()
        return Publication(best.checkpoint, lines, self._path, content)

    def wrote(self, publication: Publication) -> None:
        """Take note that a prepared checkpoint is in place."""
        head = publication.checkpoint
        self._published = self._heads.setdefault((head.size, head.root), _Head(head))
        self._written = publication.lines
        self._forget_surplus()

    def publish(self, *, tiles_size: int) -> Checkpoint | None:
        """Prepare, write and take note, all at once: two fsyncs.

        Returns:
            The head if its *size* is newly published, else None.
        """
        before = self.published_size
        publication = self.prepare(tiles_size=tiles_size)
        if publication is None:
            return None
        publication.write()
        self.wrote(publication)
        return publication.checkpoint if publication.checkpoint.size > before else None

    def note_with_cosignatures(self, size: int) -> bytes:
        """Return the committed head of ``size`` with every cosignature held.

        Raises:
            NotFoundError: None is held.
        """
        for (held_size, _), head in self._heads.items():
            if held_size == size and size <= self._chain.tip.size:
                return head.signed().encode()
        raise NotFoundError(f"no cosignature of size {size} is here")

    def cosigners(self, size: int) -> tuple[str, ...]:
        """Return the labels of the members whose cosignature of ``size`` is here."""
        labels = [head.lines for (held, _), head in self._heads.items() if held == size]
        return tuple(sorted({label for lines in labels for label in lines}))

    # ------------------------------------------------------------ inside

    def _load(self) -> None:
        signed = read_checkpoint(self._path)
        if signed is None:
            return
        try:
            self._trust.check(signed)
        except PyrsiaError as error:
            raise CorruptStateError(
                f"{self._path} does not hold ({error}): run 'pyrsia-node fsck --repair'"
            ) from None
        if self._contradicts(signed.checkpoint):
            raise CorruptStateError(
                f"{self._path} has root {signed.checkpoint.root.hex()} at size "
                f"{signed.checkpoint.size}, which the chain does not have: this data directory "
                "holds two histories; run 'pyrsia-node fsck'"
            )
        known = cosigner_keys(self._trust.epoch_at(signed.checkpoint.size).members)
        labels = {(key.name, key.key_id) for key in known}
        head = _Head(signed.checkpoint)
        _merge(head, tuple(s for s in signed.signatures if (s.name, s.key_id) in labels))
        self._heads[head.checkpoint.size, head.checkpoint.root] = head
        self._published, self._written = head, head.signed().signatures

    def _is_quorum(self, head: _Head) -> bool:
        needed = self._trust.epoch_at(head.checkpoint.size).members.quorum
        return len(head.lines) >= needed

    def _our_root(self, size: int) -> bytes | None:
        # Every cosignature asks again about all heads that are held; a committed root stays.
        found = self._roots.get(size)
        if found is not None:
            return found
        try:
            found = self._chain.root_at(size)
        except NotFoundError:
            return None
        if len(self._roots) >= ROOTS_MAX:
            self._roots.clear()
        self._roots[size] = found
        return found

    def _contradicts(self, head: Checkpoint) -> bool:
        """Tell whether this chain is as long as the head and has no such head."""
        return head.size <= self._chain.tip.size and self._our_root(head.size) != head.root

    def _drop_contradicted(self) -> None:
        """Report heads that waited for our commit and turned out to be another history's."""
        for key, head in list(self._heads.items()):
            if head is not self._published and self._contradicts(head.checkpoint):
                del self._heads[key]
                self._report(head.signed())

    def _report(self, theirs: SignedCheckpoint) -> None:
        size = theirs.checkpoint.size
        our_root = self._our_root(size)
        held = self._heads.get((size, our_root)) if our_root is not None else None
        ours = held if held is not None and held.lines else self._published
        self._split_views.add(
            theirs, ours=ours.signed() if ours is not None else None, our_root=our_root
        )

    def _forget_surplus(self) -> None:
        tip = self._chain.tip.size
        recent = sorted(key for key in self._heads if key[0] <= tip)
        for key in recent[: max(0, len(recent) - RECENT_MAX)]:
            if self._heads[key] is not self._published:
                del self._heads[key]
        waiting: dict[str, int] = {}
        for key in sorted(key for key in self._heads if key[0] > tip):
            lines = self._heads[key].lines
            for label in list(lines):
                waiting[label] = waiting.get(label, 0) + 1
                if waiting[label] > WAITING_MAX:
                    del lines[label]
            if not lines:
                del self._heads[key]


def read_checkpoint(path: Path) -> SignedCheckpoint | None:
    """Return the signed checkpoint in a file, unverified; None if there is no file.

    Raises:
        CorruptStateError: The file is no signed checkpoint.
    """
    try:
        with path.open("rb") as file:
            data = file.read(NOTE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    try:
        return SignedCheckpoint.parse(data)
    except (InvalidInputError, VerificationError) as error:
        raise CorruptStateError(
            f"{path} is damaged ({error}): run 'pyrsia-node fsck --repair'"
        ) from None


def _merge(head: _Head, lines: tuple[SignatureLine, ...]) -> int:
    """Keep each member's newest line; return how many are news."""
    news = 0
    for line in lines:
        held = head.lines.get(line.name)
        # The payload starts with the big-endian time, so byte order is time order.
        if held is None or held.payload[:8] < line.payload[:8]:
            head.lines[line.name] = line
            news += 1
    return news
