"""Nothing from the log is shown before this: each entry's proof against the user's own trust file.

A node that lies, or whose index was tampered with, gets a VerificationError with both values
instead of a line in a table. No network is used here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyrsia_cli.settings import Settings
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.schema.http import Entry
from pyrsia_node.tlog.proof import EntryProof
from pyrsia_node.tlog.trust import TRUST_BYTES_MAX, Trust, TrustFile


def load_trust(settings: Settings, given: str = "") -> Trust:
    """Return the trust file that the user named, or that the settings name.

    Raises:
        InvalidInputError: there is none, or it cannot be read.
        VerificationError: a signature in it does not hold.
    """
    path = given or settings.trust
    if not path:
        raise InvalidInputError(
            "whom do you trust? `pyrsia config trust NETWORK.trust` takes a trust file;"
            " `pyrsia config trust --from-node --network-id ID` takes the node's after comparing"
            " the network id that you got from elsewhere"
        )
    try:
        with Path(path).open("rb") as file:
            data = file.read(TRUST_BYTES_MAX + 1)
    except OSError as error:
        raise InvalidInputError(f"trust file {path} cannot be read: {error.strerror}") from error
    return Trust.establish(TrustFile.parse(data))


def prove(entries: Sequence[Entry], trust: Trust) -> list[JsonObject]:
    """Check every entry's proof; return the leaves, parsed from the proved bytes themselves.

    Raises:
        VerificationError: an entry lacks its proof, or a proof does not hold.
    """
    return [_prove_one(entry, trust) for entry in entries]


def _prove_one(entry: Entry, trust: Trust) -> JsonObject:
    if entry.proof is None:
        raise VerificationError(f"the node sent entry {entry.index} without its proof")
    proof = EntryProof.parse(entry.proof.encode())
    if proof.index != entry.index or proof.extra is None:
        raise VerificationError(f"the node sent a proof of {proof.index} for entry {entry.index}")
    proof.verify_leaf(proof.extra)
    trust.check(proof.signed)
    leaf = canonical.loads_object(proof.extra, bytes_max=48_000)
    if leaf != entry.leaf:
        raise VerificationError(
            f"entry {entry.index} as the node shows it is not the leaf that the log holds"
        )
    return leaf
