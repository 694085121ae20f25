"""What a gateway serves by while its node joins: entries that peers show, each proved before use.

The core finds them and says what the snapshot closed; here the head is held against the sets that
``log/trust`` proves from the genesis, and every leaf against the head. One ``Resolver`` is made for
each package asked for, over exactly the leaves that were proved for it, so the rules of what is
served are those of every day. Its answers are never kept: more may turn up with the history.
Design: docs/design/catchup.md, "Serving while joining".
"""

from __future__ import annotations

import base64
import binascii
import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pyrsia_node.artifacts.resolver import EntryIndex, Resolver
from pyrsia_node.artifacts.statements import ProvedStatement, Statements
from pyrsia_node.artifacts.verified_log import Head, ProvedEntry, ProvedLeaf, ProvedLog, as_accepted
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.schema.joining import (
    ENTRIES_ASKED_MAX,
    ClosedPage,
    FoundLeaves,
    JoiningState,
    PlacedLeaves,
)
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.placed import PlacedLeaf
from pyrsia_node.tlog.trust import TRUST_BYTES_MAX, Trust, TrustFile

LEAVES_KEPT: Final = 4096
"""Proved leaves that are kept in memory."""


class JoiningCore(Protocol):
    """What is asked of the core; every call fails on a core that does not join."""

    async def joining(self) -> JoiningState:
        """Return the head."""
        ...

    async def closed(self, after: str) -> ClosedPage:
        """Return what the snapshot says is closed, in order of key."""
        ...

    async def find(self, ecosystem: str, name: str) -> FoundLeaves:
        """Return where a package's leaves stand: hints."""
        ...

    async def entries(self, leaves: Sequence[int]) -> PlacedLeaves:
        """Return leaves with their proofs, a prefix of what is asked."""
        ...


@dataclass(frozen=True, slots=True)
class _Part:
    """A log of a few proved leaves: what a ``Resolver`` reads instead of tiles."""

    believed: Head
    network_id: bytes
    leaves: Mapping[int, ProvedLeaf]

    def head(self) -> Head:
        return self.believed

    def leaf(self, index: int) -> ProvedLeaf:
        if index not in self.leaves:
            raise NotFoundError(f"entry {index} was not proved for this answer")
        return self.leaves[index]

    def accepted(self, index: int) -> ProvedEntry:
        return as_accepted(self.leaf(index))


@dataclass(frozen=True, slots=True)
class _PartIndex:
    """Where the leaves of one package stand, as the core found them."""

    name: str
    entries: tuple[int, ...]
    said: tuple[int, ...]
    closed: Mapping[str, int]

    def applied_size(self) -> int:
        return 0  # so that no answer counts as settled

    def accepted(self, _ecosystem: str, _name: str, *, as_of: int | None = None) -> Sequence[int]:
        del as_of
        return self.entries

    def projects(self, _ecosystem: str, *, as_of: int | None = None) -> Sequence[str]:
        del as_of
        return [self.name]

    def statements(self, _ecosystem: str, _name: str, *, as_of: int | None = None) -> Sequence[int]:
        del as_of
        return self.said

    def revocations(self, digests: Iterable[str], *, as_of: int | None = None) -> Sequence[int]:
        del as_of
        found = (self.closed.get(f"revoked/{each}") for each in digests)
        return sorted(leaf for leaf in found if leaf is not None)


class JoiningLog:
    """Makes resolvers out of what the core of a joining node finds."""

    def __init__(
        self,
        core: JoiningCore,
        trust_file: Path,
        *,
        genesis: bytes,
        ecosystem: str,
        serve_contradicting: bool = False,
        serve_revoked: bool = False,
        is_by_version: bool = False,
    ) -> None:
        """Ask ``core``; options as for ``Resolver``.

        Args:
            core: The link to it.
            trust_file: ``log/trust``, which the core writes before it shows a head.
            genesis: The network's genesis: what is believed without proof.
            ecosystem: The purl type.
            serve_contradicting: As for ``Resolver``.
            serve_revoked: As for ``Resolver``.
            is_by_version: As for ``Resolver``.
        """
        self._is_by_version = is_by_version
        self._core = core
        self._trust_file = trust_file
        self._network_id = Trust.establish(TrustFile(genesis)).genesis.network_id
        self._ecosystem = ecosystem
        self._options = (serve_contradicting, serve_revoked)
        self._head: Head | None = None
        self._closed: dict[str, int] = {}
        self._leaves: OrderedDict[int, ProvedLeaf] = OrderedDict()

    async def resolver(self, name: str) -> Resolver:
        """Return what resolves one package.

        Raises:
            UnavailableError: This node does not join, or no peer helps now.
            VerificationError: What the core shows does not hold.
        """
        part, index = await self.part(name)
        contradicting, revoked = self._options
        return Resolver(
            part,
            index,
            ecosystem=self._ecosystem,
            serve_contradicting=contradicting,
            serve_revoked=revoked,
            is_by_version=self._is_by_version,
        )

    async def part(self, name: str) -> tuple[ProvedLog, EntryIndex]:
        """Return a log of exactly the leaves that were proved for one package, and its index.

        Raises:
            UnavailableError: This node does not join, or no peer helps now.
            VerificationError: What the core shows does not hold.
        """
        head = await self._believed()
        found = await self._core.find(self._ecosystem, name)
        await self._prove(head, [*found.entries, *found.statements])
        closing = [self._closed.get(f"revoked/{each}") for each in self._digests(found.entries)]
        await self._prove(head, [leaf for leaf in closing if leaf is not None])
        index = _PartIndex(name, tuple(found.entries), tuple(found.statements), self._closed)
        part = _Part(head, self._network_id, dict(self._leaves))
        while len(self._leaves) > LEAVES_KEPT:
            self._leaves.popitem(last=False)
        return part, index

    async def revocation(self, sha256: Sha256) -> ProvedStatement | None:
        """Return what revoked these bytes before the snapshot, whichever package they are of.

        Raises:
            UnavailableError: This node does not join, or no peer helps now.
            VerificationError: What the core shows does not hold.
        """
        head = await self._believed()
        leaf = self._closed.get(f"revoked/{sha256}")
        if leaf is None:
            return None
        await self._prove(head, [leaf])
        index = _PartIndex("", (), (), self._closed)
        part = _Part(head, self._network_id, {leaf: self._leaves[leaf]})
        statements = Statements(part, index, ecosystem=self._ecosystem)
        found = statements.revoked([sha256], size=head.size).get(sha256)
        if found is None:
            raise VerificationError(f"entry {leaf} does not revoke {sha256}, as the core says")
        return found

    async def _believed(self) -> Head:
        """Return the head that the core shows, checked, with all that the snapshot closed."""
        data = (await self._core.joining()).note.encode()
        if self._head is not None and self._head.data == data:
            return self._head
        signed = SignedCheckpoint.parse(data)
        head = Head(signed, self._trust().check(signed), data)
        closed: dict[str, int] = {}
        is_last = False
        while not is_last:
            page = await self._core.closed(max(closed, default=""))
            closed |= {each.key: each.leaf for each in page.closed}
            is_last = page.is_last or not page.closed
        self._head, self._closed = head, closed
        self._leaves.clear()
        return head

    def _trust(self) -> Trust:
        try:
            with self._trust_file.open("rb") as file:
                data = file.read(TRUST_BYTES_MAX + 1)
        except OSError as error:
            raise UnavailableError(f"{self._trust_file} cannot be read: {error}") from error
        return Trust.establish(TrustFile.parse(data), network_id=self._network_id)

    async def _prove(self, head: Head, leaves: Iterable[int]) -> None:
        """Have leaves proved that are not known yet."""
        waiting = sorted({leaf for leaf in leaves if leaf not in self._leaves})
        while waiting:
            answer = await self._core.entries(waiting[:ENTRIES_ASKED_MAX])
            placed = [_decode(text) for text in answer.placed]
            if not placed or [each.index for each in placed] != waiting[: len(placed)]:
                raise VerificationError("the core shows other entries than were asked for")
            for each in placed:
                header = each.check(size=head.size, root=head.root)
                proved = ProvedLeaf(each.index, each.data, header.height, header.time_ms)
                self._leaves[each.index] = proved
            del waiting[: len(placed)]

    def _digests(self, entries: Iterable[int]) -> set[str]:
        digests: set[str] = set()
        for index in entries:
            try:
                document = as_accepted(self._leaves[index]).entry.document
            except VerificationError:
                continue  # a wrong hint; the resolver passes it over as well
            digests |= {file.sha256 for file in document.files}
        return digests


class Resolvers:
    """What resolves a name: the log of this node, or what peers prove while it joins."""

    def __init__(self, own: Resolver, joining: JoiningLog | None = None) -> None:
        """Resolve by ``own``; ``joining`` answers until this node has the log itself."""
        self.own = own
        self._joining = joining

    async def of(self, name: str) -> Resolver:
        """Return what resolves one package.

        Raises:
            UnavailableError: No peer helps now.
            VerificationError: What the core shows does not hold.
        """
        if self._joining is None:
            return self.own
        if self.own.is_ready():
            self._joining = None
            return self.own
        try:
            return await self._joining.resolver(name)
        except InvalidInputError:
            return self.own  # the core does not join; the log's own words say what is missing

    async def revocation(self, sha256: Sha256) -> ProvedStatement | None:
        """Return what revoked these bytes, whichever package they are of; raises as :meth:`of`."""
        if self._joining is not None and not self.own.is_ready():
            with contextlib.suppress(InvalidInputError):
                return await self._joining.revocation(sha256)
        return self.own.revocation(sha256)


def _decode(text: str) -> PlacedLeaf:
    try:
        return PlacedLeaf.decode(base64.b64decode(text, validate=True))
    except binascii.Error as error:
        raise InvalidInputError(f"placed leaf is no base64: {error}") from error
