r"""A regular node's wish for a build, signed, and how a sponsor judges it.

The stream already tells who asks; the signature makes the wish attributable when the sponsor
passes it on or an operator reads it later. Signed bytes:
``b"pyrsia/wish/1\\0" | network id | canon(wish without "sig")``, by the node's p2p key.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.peer_id import key_of_peer_id
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.signing import Sign, Verify

WISH_TAG: Final = b"pyrsia/wish/1\0"
WISH_BYTES_MAX: Final = 4096
AGE_MS_MAX: Final = 10 * 60 * 1000
"""An older wish, or one from further ahead, is refused: it may be a replay."""

_MEMBERS: Final = frozenset({"t", "v", "purl", "class", "by", "time_ms", "nonce", "sig"})


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants which version rebuilt. ``time_class`` is "" when the sponsor may choose."""

    purl: Purl
    time_class: str
    by: str


def encode_wish(wish: Wish, *, network_id: bytes, now_ms: int, sign: Sign) -> bytes:
    """Return the signed wish."""
    value: JsonObject = {
        "t": "build_wish",
        "v": 1,
        "purl": str(wish.purl),
        "class": wish.time_class,
        "by": wish.by,
        "time_ms": now_ms,
        "nonce": secrets.token_hex(16),
    }
    signature = sign(WISH_TAG + network_id + canonical.dumps(value))
    return canonical.dumps({**value, "sig": signature.hex()})


def decode_wish(
    data: bytes, *, network_id: bytes, now_ms: int, sender: str, verify: Verify
) -> Wish:
    """Return the wish of ``sender``.

    Raises:
        InvalidInputError: malformed, of somebody else, stale, or not signed by ``sender``.
    """
    value = canonical.loads_object(data, bytes_max=WISH_BYTES_MAX)
    got = Fields(value, "build_wish", _MEMBERS)
    got.schema("build_wish")
    by = got.text("by", length_max=128)
    if by != sender:
        raise InvalidInputError(f"build wish of {by} was sent by {sender}")
    time_ms = got.integer("time_ms", low=0, high=canonical.INTEGER_MAX)
    if abs(now_ms - time_ms) > AGE_MS_MAX:
        raise InvalidInputError(
            f"build wish is dated {abs(now_ms - time_ms) // 1000} s off; check the clocks"
        )
    got.hex("nonce", size=16)
    unsigned: JsonObject = {name: each for name, each in value.items() if name != "sig"}
    message = WISH_TAG + network_id + canonical.dumps(unsigned)
    if not verify(key_of_peer_id(by), message, got.raw("sig", size=64)):
        raise InvalidInputError(f"build wish: signature of {by} does not hold")
    purl = Purl.parse(got.text("purl", length_max=512))
    if purl.version is None:
        raise InvalidInputError(f"build wish: {purl} names no version")
    return Wish(purl, got.one_of("class", ("", "S", "M", "L")), by)
