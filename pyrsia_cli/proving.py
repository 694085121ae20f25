"""Nothing from the log is shown before this: each entry's proof against the user's own trust file.

A node that lies, or whose index was tampered with, gets a VerificationError with both values
instead of a line in a table. The ``Prover`` asks the node for certified changes of the member set
when a head is beyond those held; it keeps them in memory, and only ``trust update`` in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pyrsia_cli.api import NodeApi
from pyrsia_cli.settings import Settings, write_whole
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError, NotFoundError, VerificationError
from pyrsia_node.schema.http import Entry
from pyrsia_node.schema.leaf_content import files_of, purl_of, type_of
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.following import Following
from pyrsia_node.tlog.note import NOTE_BYTES_MAX
from pyrsia_node.tlog.proof import EntryProof
from pyrsia_node.tlog.tile import Tile
from pyrsia_node.tlog.trust import TRUST_BYTES_MAX, Trust, TrustFile

UPDATE_HINT: Final = "if members have changed: `pyrsia trust update`"


class HeadNotProvedError(VerificationError):
    """No quorum of the member sets that are held, or that the node proves, stands behind a head."""


class LogOfNode:
    """The tiles that a node serves; a ``tlog.tile.TileReader``. Nothing in them is believed."""

    def __init__(self, api: NodeApi) -> None:
        """Ask ``api``."""
        self._api = api

    def read_tiles(self, tiles: Sequence[Tile]) -> list[bytes]:
        """Return each tile's content; raises as ``NodeApi.get``."""
        return [self._api.get_text(f"/log/{tile.path()}") for tile in tiles]


def trust_path(settings: Settings, given: str = "") -> Path:
    """Return the trust file that the user named, or that the settings name.

    Raises:
        InvalidInputError: there is none.
    """
    path = given or settings.trust
    if not path:
        raise InvalidInputError(
            "whom do you trust? `pyrsia config trust NETWORK.trust` takes a trust file;"
            " `pyrsia config trust --from-node --network-id ID` takes the node's after comparing"
            " the network id that you got from elsewhere"
        )
    return Path(path)


def load_following(path: Path) -> Following:
    """Return what a trust file and the head beside it hold, checked again.

    Raises:
        InvalidInputError: a file cannot be read or is malformed.
        VerificationError: a signature in one does not hold.
    """
    head = _head_path(path)
    note = _read(head, NOTE_BYTES_MAX, what="head") if head.exists() else None
    data = _read(path, TRUST_BYTES_MAX, what="trust file")
    try:
        return Following.load(data, note)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from error


def save_following(path: Path, following: Following) -> None:
    """Replace the trust file, then the head beside it.

    A crash between the two leaves an older head under newer sets, which still holds.

    Raises:
        InvalidInputError: a file cannot be written.
    """
    write_whole(path, following.file.encode().decode())
    if following.note:
        write_whole(_head_path(path), following.note.decode())


def forget_foreign_head(path: Path) -> None:
    """Remove the head beside a trust file that was replaced by another network's."""
    try:
        load_following(path)
    except (InvalidInputError, VerificationError):
        _head_path(path).unlink(missing_ok=True)


def load_trust(settings: Settings, given: str = "") -> Trust:
    """Return the trust of the file that the user named, or that the settings name.

    Raises:
        InvalidInputError: there is none, or it cannot be read.
        VerificationError: a signature in it does not hold.
    """
    return load_following(trust_path(settings, given)).trust


def _head_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.head")


def _read(path: Path, bytes_max: int, *, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(bytes_max + 1)
    except OSError as error:
        raise InvalidInputError(f"{what} {path} cannot be read: {error.strerror}") from error


class Prover:
    """Proves what one node sends, and follows the changes of the member set that it proves.

    A change counts only with the certificate of the set before it, as for ``trust update``.
    """

    def __init__(self, api: NodeApi, path: Path) -> None:
        """Believe whom the trust file ``path`` names; take news from ``api``.

        Raises:
            InvalidInputError: the file cannot be read.
            VerificationError: a signature in it does not hold.
        """
        self._api = api
        self._path = path
        self._held = load_following(path)

    @property
    def trust(self) -> Trust:
        """Whom is believed now."""
        return self._held.trust

    def prove(self, entries: Sequence[Entry]) -> list[JsonObject]:
        """Check every entry's proof; return the leaves, parsed from the proved bytes themselves.

        Raises:
            HeadNotProvedError: nobody who counts stands behind the head.
            VerificationError: an entry lacks its proof, or a proof does not hold.
            UnavailableError: the node was asked for changes of the set, and does not answer.
        """
        return [_prove_one(entry, self._check) for entry in entries]

    def fetch(self, index: int) -> tuple[Entry, JsonObject]:
        """Ask the node for the entry at ``index``; return it and its leaf, proved.

        Raises:
            NotFoundError: the node has no such entry.
            HeadNotProvedError: as ``prove``.
            VerificationError: it is another entry, or as ``prove``.
            UnavailableError: the node does not answer.
        """
        entry = self._api.get(f"/api/v1/entries/{index}", Entry, {"proof": 1})
        if entry.index != index:
            raise VerificationError(f"asked for entry {index}, the node sent {entry.index}")
        [leaf] = self.prove([entry])
        return entry, leaf

    def _check(self, signed: SignedCheckpoint) -> None:
        try:
            self.trust.check(signed)
        except VerificationError as error:
            self._follow(signed, error)

    def _follow(self, signed: SignedCheckpoint, first: VerificationError) -> None:
        """Learn newer sets, from the file (`trust update` may have run) and from the node."""
        held = load_following(self._path)
        try:
            newer = held.with_newer(TrustFile.parse(self._api.get_text("/api/v1/trust")))
            newer.trust.check(signed)
        except (InvalidInputError, NotFoundError, VerificationError) as error:
            said = str(error)
            more = "" if said == str(first) else f"; asked for changes of the set: {said}"
            raise HeadNotProvedError(f"{first}{more}; {UPDATE_HINT}") from error
        self._held = newer


def prove(entries: Sequence[Entry], trust: Trust) -> list[JsonObject]:
    """Check every entry's proof under a trust that stays; as ``Prover.prove``, without network.

    Raises:
        VerificationError: an entry lacks its proof, or a proof does not hold.
    """
    return [_prove_one(entry, trust.check) for entry in entries]


def _prove_one(entry: Entry, check: Callable[[SignedCheckpoint], object]) -> JsonObject:
    if entry.proof is None:
        raise VerificationError(f"the node sent entry {entry.index} without its proof")
    proof = EntryProof.parse(entry.proof.encode())
    if proof.index != entry.index or proof.extra is None:
        raise VerificationError(f"the node sent a proof of {proof.index} for entry {entry.index}")
    proof.verify_leaf(proof.extra)
    check(proof.signed)
    leaf = canonical.loads_object(proof.extra, bytes_max=48_000)
    if leaf != entry.leaf:
        raise VerificationError(
            f"entry {entry.index} as the node shows it is not the leaf that the log holds"
        )
    _check_told(entry, leaf)
    return leaf


def _check_told(entry: Entry, leaf: JsonObject) -> None:
    """Refuse an entry whose members say something else than its own proved leaf."""
    told = {
        "type": (entry.type, type_of(leaf)),
        "purl": (entry.purl, purl_of(leaf) or entry.purl),
        "files": (entry.files, files_of(leaf)),
    }
    for name, (said, proved) in told.items():
        if said != proved:
            raise VerificationError(
                f"entry {entry.index}: the node says {name} {str(said)!r:.200}, its leaf"
                f" {str(proved)!r:.200}"
            )
