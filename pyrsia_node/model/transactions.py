"""Transactions of rules 1: the union of all families, what is signed, and the one decoder.

This module says which schemas there are and who must sign; the families are beside it (``builds``,
``approvals``, ``membership``, ``statements``, ``mappings``, ``evidence``). What makes a transaction
*valid* depends on the state and is in ``pyrsia_node.ledger.machine``.
Specification: docs/spec/leaves.md, "Transactions".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from pyrsia_node.model import canonical
from pyrsia_node.model.approvals import Approve
from pyrsia_node.model.builds import (
    AttestBatch,
    AttestCommit,
    BuildRequest,
    Pipeline,
    RecipeValue,
    Result,
)
from pyrsia_node.model.canonical import JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.evidence import Evidence
from pyrsia_node.model.fields import Fields, schema_of
from pyrsia_node.model.items import (
    BUILT,
    FAILURES,
    LEVELS,
    BuiltItem,
    FailedItem,
    Item,
    parse_item,
)
from pyrsia_node.model.limits import LEAF_BYTES_MAX, REQUEST_BYTES_MAX
from pyrsia_node.model.mappings import AddSource
from pyrsia_node.model.members import parse_member_id
from pyrsia_node.model.membership import AddNode, RemoveNode, RotateKey, SetParam
from pyrsia_node.model.signing import SIGNATURE_BYTES, TRANSACTION_TAG, Sign, Verify
from pyrsia_node.model.sources import Source
from pyrsia_node.model.statements import Deprecate, Revoke, Vulnerable, Withdraw

__all__ = [
    "BUILT",
    "FAILURES",
    "LEVELS",
    "TRANSACTION_KINDS",
    "AddNode",
    "AddSource",
    "Approve",
    "AttestBatch",
    "AttestCommit",
    "BuildRequest",
    "BuiltItem",
    "Deprecate",
    "Evidence",
    "FailedItem",
    "Item",
    "Pipeline",
    "RecipeValue",
    "RemoveNode",
    "Result",
    "Revoke",
    "RotateKey",
    "SetParam",
    "SignedTransaction",
    "Source",
    "Transaction",
    "Vulnerable",
    "Withdraw",
    "decode_transaction",
    "parse_item",
    "sign_transaction",
]

Transaction = (
    BuildRequest
    | AttestCommit
    | AttestBatch
    | Result
    | Approve
    | AddNode
    | RemoveNode
    | RotateKey
    | SetParam
    | Evidence
    | Withdraw
    | Revoke
    | Deprecate
    | Vulnerable
    | AddSource
)

_READERS: Final[Mapping[str, Callable[[JsonObject], Transaction]]] = MappingProxyType(
    {
        each.kind: each.from_json
        for each in (
            *(BuildRequest, AttestCommit, AttestBatch, Result, Approve, AddNode, RemoveNode),
            *(RotateKey, SetParam, Evidence, Withdraw, Revoke, Deprecate, Vulnerable),
            AddSource,
        )
    }
)

_NETWORK_ID_BYTES: Final = 32

TRANSACTION_KINDS: Final = frozenset(_READERS)
"""Member ``t`` of every transaction of rules 1."""


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction with its one signature, its bytes, and its id in one network.

    Attributes:
        body: The transaction.
        signature: The author's, over ``signed_bytes``.
        encoded: The canonical bytes with ``sigs``: the leaf.
        signed_bytes: Tag, network id, canonical transaction without ``sigs``.
        id: SHA-256 of ``signed_bytes``: it does not depend on the signature's bytes.
    """

    body: Transaction
    signature: bytes
    encoded: bytes
    signed_bytes: bytes
    id: Sha256

    @property
    def network_id(self) -> bytes:
        """The network for which it was signed."""
        start = len(TRANSACTION_TAG)
        return self.signed_bytes[start : start + _NETWORK_ID_BYTES]

    def verify(self, key: bytes, verify: Verify) -> None:
        """Check the author's signature, and those that the body carries of others.

        Args:
            key: The author's ``tx`` key in the current set.
            verify: The signature check.

        Raises:
            VerificationError: One does not hold.
        """
        if not verify(key, self.signed_bytes, self.signature):
            raise VerificationError(
                f"transaction {self.id}: signature of {self.body.author} does not hold "
                f"under key {key.hex()}"
            )
        if isinstance(self.body, AddNode | RotateKey):
            self.body.verify_inside(self.network_id, verify)


def sign_transaction(body: Transaction, *, network_id: bytes, sign: Sign) -> SignedTransaction:
    """Return ``body`` signed by its author.

    Args:
        body: The transaction.
        network_id: The 32-byte id of the network for which it is meant.
        sign: Signs with the author's ``tx`` key.

    Raises:
        InvalidInputError: The transaction breaks a limit or a rule of its schema.
    """
    signed_bytes = TRANSACTION_TAG + network_id + canonical.dumps(body.to_json())
    sigs: list[JsonValue] = [{"by": body.author, "sig": sign(signed_bytes).hex()}]
    encoded = canonical.dumps({**body.to_json(), "sigs": sigs})
    return decode_transaction(encoded, network_id=network_id)


def decode_transaction(data: bytes, *, network_id: bytes) -> SignedTransaction:
    """Return the transaction that ``data`` spells; its signature is not yet checked.

    Raises:
        InvalidInputError: Not canonical, of no known schema, over a limit, or not signed by
            exactly its author.
    """
    value = canonical.loads_object(data, bytes_max=LEAF_BYTES_MAX)
    kind = schema_of(value)
    sigs = value.pop("sigs", None)
    read = _READERS.get(kind)
    if read is None:
        raise InvalidInputError(f"no transaction of rules 1 is of schema {kind!r:.40}")
    if kind == BuildRequest.kind and len(data) > REQUEST_BYTES_MAX:
        raise InvalidInputError(f"build_request of {len(data)} bytes exceeds {REQUEST_BYTES_MAX}")
    body = read(value)
    signed_bytes = TRANSACTION_TAG + network_id + _without(sigs, data, value)
    return SignedTransaction(
        body=body,
        signature=_signature(sigs, kind, body.author),
        encoded=data,
        signed_bytes=signed_bytes,
        id=sha256_of(signed_bytes),
    )


def _without(sigs: JsonValue | None, data: bytes, others: JsonObject) -> bytes:
    """Return the canonical bytes of a transaction without ``sigs``, cut from the whole.

    Members stand in order, so what follows ``sigs`` ends the bytes, and it is short: encoding a
    batch of a hundred items again would cost more than a quarter of reading it.
    """
    if sigs is None:
        return data
    behind: JsonObject = {name: each for name, each in others.items() if name > "sigs"}
    end = canonical.encode_members(behind)[1:]
    cut = canonical.encode_members({"sigs": sigs})[1:-1] + b","
    assert data.endswith(cut + end), "t and v stand behind sigs"
    return data[: -len(cut + end)] + end


def _signature(sigs: JsonValue | None, kind: str, author: str) -> bytes:
    if not isinstance(sigs, list) or len(sigs) != 1:
        raise InvalidInputError(f"{kind}: sigs is not an array of one signature")
    got = Fields(sigs[0], f"{kind}.sigs", frozenset({"by", "sig"}))
    if parse_member_id(got, "by") != author:
        raise got.refused("by", f"is not the author {author}")
    return got.raw("sig", size=SIGNATURE_BYTES)
