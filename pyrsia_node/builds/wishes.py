r"""A regular node's wish for a build, signed, and how a sponsor judges it.

The stream already tells who asks; the signature makes the wish attributable when the sponsor
passes it on or an operator reads it later. Signed bytes:
``b"pyrsia/wish/1\\0" | network id | canon(wish without "sig")``, by the node's p2p key.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from pyrsia_node.builds.images import platforms_of
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject, JsonValue
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.oci_terms import OciDigest
from pyrsia_node.model.peer_id import key_of_peer_id
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.signing import Sign, Verify
from pyrsia_node.schema.mirroring import PLATFORMS_MAX

WISH_TAG: Final = b"pyrsia/wish/1\0"
WISH_BYTES_MAX: Final = 4096
AGE_MS_MAX: Final = 10 * 60 * 1000
"""An older wish, or one from further ahead, is refused: it may be a replay."""

EVERY_S_MAX: Final = 30 * 86_400
"""Longest pause, in seconds, between two looks at a tag that is followed."""

_MEMBERS: Final = frozenset({"t", "v", "purl", "class", "by", "time_ms", "nonce", "sig"})
OPTIONS_BYTES_MAX: Final = 2_000
"""Canonical bytes of the options of a wish."""

OPTIONS_MAX: Final = 16
"""Options of a wish."""

_OPTIONAL: Final = frozenset({"every_s", "options", "pinned", "platforms"})
_TEXT_LENGTH_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Wish:
    """Who wants which version rebuilt. ``time_class`` is "" when the sponsor may choose.

    Of an image: ``platforms``, () for all; ``pinned``, the digest that the tag must be, or "". Of
    one to be rebuilt: ``options``, a canonical JSON object with its ``context`` and more; of a
    Maven artifact its ``source`` and more (``schema.maven_builds``).
    ``every_s`` is None in a wish for a build; in one to follow a tag it is the pause between looks,
    0 to end it.
    """

    purl: Purl
    time_class: str
    by: str
    platforms: tuple[str, ...] = ()
    pinned: str = ""
    every_s: int | None = None
    options: str = ""

    def optional(self) -> JsonObject:
        """Return the members that stand in a wish only if they say something."""
        members: JsonObject = {}
        if self.platforms:
            members["platforms"] = list(self.platforms)
        if self.pinned:
            members["pinned"] = self.pinned
        if self.options:
            members["options"] = canonical.loads_object(
                self.options.encode(), bytes_max=OPTIONS_BYTES_MAX
            )
        if self.every_s is not None:
            members["every_s"] = self.every_s
        return members


def encode_wish(wish: Wish, *, network_id: bytes, now_ms: int, sign: Sign) -> bytes:
    """Return the signed wish.

    Raises:
        InvalidInputError: It names more platforms than fit.
    """
    value: JsonObject = {
        **wish.optional(),
        "t": "build_wish",
        "v": 1,
        "purl": str(wish.purl),
        "class": wish.time_class,
        "by": wish.by,
        "time_ms": now_ms,
        "nonce": secrets.token_hex(16),
    }
    signature = sign(WISH_TAG + network_id + canonical.dumps(value))
    encoded = canonical.dumps({**value, "sig": signature.hex()})
    if len(encoded) > WISH_BYTES_MAX:
        raise InvalidInputError(f"build wish of {len(encoded)} bytes exceeds {WISH_BYTES_MAX}")
    return encoded


def decode_wish(
    data: bytes, *, network_id: bytes, now_ms: int, sender: str, verify: Verify
) -> Wish:
    """Return the wish of ``sender``.

    Raises:
        InvalidInputError: malformed, of somebody else, stale, or not signed by ``sender``.
    """
    value = canonical.loads_object(data, bytes_max=WISH_BYTES_MAX)
    got = Fields(value, "build_wish", _MEMBERS | (_OPTIONAL & value.keys()))
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
    return Wish(
        purl=purl,
        time_class=got.one_of("class", ("", "S", "M", "L")),
        by=by,
        platforms=_platforms(got) if "platforms" in value else (),
        pinned=str(OciDigest.parse(_text(got, "pinned"))) if "pinned" in value else "",
        options=encode_options(got.mapping("options", count_max=OPTIONS_MAX))
        if "options" in value
        else "",
        every_s=got.integer("every_s", low=0, high=EVERY_S_MAX) if "every_s" in value else None,
    )


def _platforms(got: Fields) -> tuple[str, ...]:
    found = got.texts("platforms", count_max=PLATFORMS_MAX, length_max=_TEXT_LENGTH_MAX)
    return tuple(platforms_of({"platforms": found}))


def _text(got: Fields, name: str) -> str:
    return got.text(name, length_max=_TEXT_LENGTH_MAX)


def encode_options(options: JsonObject) -> str:
    """Return options as a record keeps them; the worker judges what they say.

    Raises:
        InvalidInputError: They hold more than texts, integers and lists of texts, or too much.
    """
    for name, value in options.items():
        texts = value if isinstance(value, list) else [value]
        if type(value) is not int and not all(isinstance(each, str) for each in texts):
            raise InvalidInputError(
                f"options: {name!r:.40} is neither text nor integer nor a list of texts"
            )
    data = canonical.dumps(options)
    if len(data) > OPTIONS_BYTES_MAX:
        raise InvalidInputError(f"options of {len(data)} bytes exceed {OPTIONS_BYTES_MAX}")
    return data.decode()


def decode_options(options: str) -> dict[str, str | int | tuple[str, ...]]:
    """Return the options of a record, as the worker takes them."""
    if not options:
        return {}
    found = canonical.loads_object(options.encode(), bytes_max=OPTIONS_BYTES_MAX)
    return {name: _option(value) for name, value in found.items()}


def _option(value: JsonValue) -> str | int | tuple[str, ...]:
    if isinstance(value, list):
        return tuple(map(str, value))
    return value if type(value) is int else str(value)
