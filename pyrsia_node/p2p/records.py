"""Signed node records: where a node is reached and which certificate its data listener has. Pure.

A node signs its own record with the key that is its peer id, so anybody may pass records on and
nobody can change one. Of two records of a node the one with the greater ``seq`` counts.
Specification: docs/spec/peer-protocols.md "Node record".
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, dumps, loads_object
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.p2p.addresses import parse_address
from pyrsia_node.p2p.hello import ROLES
from pyrsia_node.p2p.identity import is_signed_by, peer_id_of, public_key_of, public_key_of_seed
from pyrsia_node.p2p.identity import sign as sign_bytes
from pyrsia_node.ports import PeerId

RECORD_BYTES_MAX: Final = 4096
RECORDS_MAX: Final = 4096
ADDRESSES_MAX: Final = 8
TEXT_CHARACTERS_MAX: Final = 256

_CONTEXT: Final = b"pyrsia/node/1\0"
_HEX: Final = re.compile(r"[0-9a-f]{64}")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}")
_LABEL: Final = re.compile(r"[a-z0-9.-]{1,64}")
_MEMBERS: Final = frozenset(
    {
        *("t", "v", "peer_id", "network", "seq", "label", "role"),
        *("addresses", "data_url", "fingerprint", "sig"),
    }
)


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """What a node says of itself. ``data_url`` and ``fingerprint`` are empty or both set.

    ``raw`` is the signed canonical form, which is passed on as it is.
    """

    peer: PeerId
    network: str
    seq: int
    label: str
    role: str
    addresses: tuple[str, ...]
    data_url: str
    fingerprint: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """The parts of a record that a node chooses."""

    label: str
    role: str
    addresses: tuple[str, ...]
    data_url: str
    fingerprint: str


def make_record(seed32: bytes, *, network: str, seq: int, facts: NodeFacts) -> NodeRecord:
    """Return the signed record of the node that holds ``seed32``.

    Raises:
        InvalidInputError: A value is outside its bounds; the text names it.
    """
    body: JsonObject = {
        "t": "node",
        "v": 1,
        "peer_id": peer_id_of(public_key_of_seed(seed32)),
        "network": network,
        "seq": seq,
        "label": facts.label,
        "role": facts.role,
        "addresses": list(facts.addresses),
        "data_url": facts.data_url,
        "fingerprint": facts.fingerprint,
    }
    signature = sign_bytes(seed32, _CONTEXT + dumps(body)).hex()
    return parse_record(dumps({**body, "sig": signature}), network=network)


def parse_record(raw: bytes, *, network: str) -> NodeRecord:
    """Return a record whose form and signature hold.

    Raises:
        InvalidInputError: Malformed, out of bounds, or of another network.
        VerificationError: The signature is not the node's.
    """
    value = loads_object(raw, bytes_max=RECORD_BYTES_MAX)
    if value.keys() != _MEMBERS:
        raise InvalidInputError(f"a node record has exactly the members {sorted(_MEMBERS)}")
    if value["t"] != "node" or value["v"] is True or value["v"] != 1:
        raise InvalidInputError("not a node record of version 1")
    peer = PeerId(_text(value, "peer_id"))
    public_key = public_key_of(peer)
    record = NodeRecord(
        peer=peer,
        network=_text(value, "network", lambda text: text == network),
        seq=_sequence(value),
        label=_text(value, "label", _LABEL.fullmatch),
        role=_text(value, "role", lambda text: text in ROLES),
        addresses=_addresses(value),
        data_url=_text(value, "data_url", _is_url),
        fingerprint=_text(value, "fingerprint", lambda text: not text or _HEX.fullmatch(text)),
        raw=raw,
    )
    signature = _text(value, "sig", _SIGNATURE.fullmatch)
    body = {name: part for name, part in value.items() if name != "sig"}
    if not is_signed_by(
        public_key, message=_CONTEXT + dumps(body), signature=bytes.fromhex(signature)
    ):
        raise VerificationError(f"node record of {peer}: signature {signature} is not by its key")
    return record


class RecordStore:
    """The newest record of each node, bounded; the least recently renewed goes first."""

    def __init__(self, *, records_max: int = RECORDS_MAX) -> None:
        self._records_max = records_max
        self._records: OrderedDict[PeerId, NodeRecord] = OrderedDict()
        self._raws: set[bytes] = set()

    def add(self, record: NodeRecord, *, is_kept: Callable[[PeerId], bool]) -> bool:
        """Keep a record if it is news.

        Args:
            record: A verified record.
            is_kept: Whether a node's record must not be given up (members, connected peers).

        Returns:
            Whether it replaced an older one or was the first of its node.
        """
        known = self._records.get(record.peer)
        if known is not None and known.seq >= record.seq:
            return False
        if known is not None:
            self._remove(record.peer)
        self._records[record.peer] = record
        self._raws.add(record.raw)
        while len(self._records) > self._records_max:
            victims = (peer for peer in self._records if not is_kept(peer))
            self._remove(next(victims, record.peer))
        return record.peer in self._records

    def _remove(self, peer: PeerId) -> None:
        self._raws.remove(self._records.pop(peer).raw)

    def has(self, raw: bytes) -> bool:
        """Return whether exactly these bytes are a record kept here."""
        return raw in self._raws

    def get(self, peer: PeerId) -> NodeRecord | None:
        """Return a node's newest record."""
        return self._records.get(peer)

    def all(self) -> list[NodeRecord]:
        """Return every record, the least recently renewed first."""
        return list(self._records.values())

    def __len__(self) -> int:
        return len(self._records)


def _text(value: JsonObject, name: str, is_right: Callable[[str], object] = lambda _: True) -> str:
    text = value[name]
    if not isinstance(text, str) or len(text) > TEXT_CHARACTERS_MAX or not is_right(text):
        raise InvalidInputError(f"node record: {name} is not as specified: {text!r:.80}")
    return text


def _sequence(value: JsonObject) -> int:
    seq = value["seq"]
    if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq <= INTEGER_MAX:
        raise InvalidInputError(f"node record: seq is not as specified: {seq!r:.80}")
    return seq


def _addresses(value: JsonObject) -> tuple[str, ...]:
    addresses = value["addresses"]
    if not isinstance(addresses, list) or len(addresses) > ADDRESSES_MAX:
        raise InvalidInputError(f"node record: addresses are at most {ADDRESSES_MAX}")
    for address in addresses:
        if not isinstance(address, str):
            raise InvalidInputError("node record: an address is a text")
        parse_address(address)
    return tuple(map(str, addresses))


def _is_url(text: str) -> bool:
    if not text:
        return True
    if not (text.isascii() and text.isprintable()) or " " in text:
        return False
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    return parts.scheme in ("https", "http") and bool(parts.hostname) and plain and port != 0
