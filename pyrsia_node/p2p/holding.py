"""The methods ``holders`` and ``have``: what this node remembers, told to whoever asks."""

from __future__ import annotations

from typing import Final

import trio

from pyrsia_node.model.canonical import JsonObject, dumps, loads_object
from pyrsia_node.model.errors import InvalidInputError, PeerMisbehaviorError, UnavailableError
from pyrsia_node.p2p.holders import HOLDERS_PER_ARTIFACT_MAX, HoldersMemory, Holding
from pyrsia_node.p2p.identity import public_key_of
from pyrsia_node.p2p.requests import Asker
from pyrsia_node.ports import PeerId

_DIGEST_BYTES: Final = 32
_ANSWER_BYTES_MAX: Final = 8192
_ASK_S: Final = 3.0


def encode_holders(holdings: list[Holding]) -> bytes:
    """Return the answer of ``holders``."""
    told = holdings[:HOLDERS_PER_ARTIFACT_MAX]
    return dumps({"holders": [{"peer": one.peer, "complete": one.complete} for one in told]})


def decode_holders(answer: bytes) -> list[tuple[PeerId, bool]]:
    """Return the peers of an answer and whether each has the whole artifact.

    Raises:
        InvalidInputError: Malformed, too many, or a peer id that is none.
    """
    value = loads_object(answer, bytes_max=_ANSWER_BYTES_MAX)
    holders = value.get("holders")
    if value.keys() != {"holders"} or not isinstance(holders, list):
        raise InvalidInputError("holders: not a list of holders")
    if len(holders) > HOLDERS_PER_ARTIFACT_MAX:
        raise InvalidInputError(f"holders: more than {HOLDERS_PER_ARTIFACT_MAX}")
    found: list[tuple[PeerId, bool]] = []
    for one in holders:
        if not isinstance(one, dict) or one.keys() != {"peer", "complete"}:
            raise InvalidInputError("holders: each has a peer and whether it is complete")
        peer, complete = one["peer"], one["complete"]
        if not isinstance(peer, str) or not isinstance(complete, bool):
            raise InvalidInputError("holders: each has a peer and whether it is complete")
        public_key_of(peer)
        found.append((PeerId(peer), complete))
    return found


def encode_have(sha256: str, *, complete: bool) -> bytes:
    """Return the request of ``have``."""
    value: JsonObject = {"sha256": sha256, "complete": complete}
    return dumps(value)


def decode_have(request: bytes) -> tuple[str, bool]:
    """Return the artifact and whether it is complete; raises InvalidInputError."""
    value = loads_object(request, bytes_max=256)
    if value.keys() != {"sha256", "complete"}:
        raise InvalidInputError("have: exactly sha256 and complete")
    sha256, complete = value["sha256"], value["complete"]
    if not isinstance(sha256, str) or not isinstance(complete, bool):
        raise InvalidInputError("have: sha256 is a text and complete a truth value")
    digest_of(sha256)
    return sha256, complete


def digest_of(sha256: str) -> bytes:
    """Return the bytes of a lowercase hex SHA-256; raises InvalidInputError."""
    try:
        digest = bytes.fromhex(sha256)
    except ValueError:
        digest = b""
    if len(digest) != _DIGEST_BYTES or digest.hex() != sha256:
        raise InvalidInputError(f"{sha256!r:.80} is no lowercase hex SHA-256")
    return digest


class HolderExchange:
    """Remembers, tells and asks who holds an artifact."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self.memory = HoldersMemory()
        asker.serve("holders", self._tell, request_bytes_max=_DIGEST_BYTES)
        asker.serve("have", self._remember, request_bytes_max=256)

    async def ask(self, peer: PeerId, sha256: str) -> list[tuple[PeerId, bool]]:
        """Return whom ``peer`` remembers as holders; raises as ``PeerRequests.ask``."""
        answer = await self._asker.ask(
            peer,
            "holders",
            digest_of(sha256),
            timeout_s=_ASK_S,
            answer_bytes_max=_ANSWER_BYTES_MAX,
        )
        try:
            return decode_holders(answer)
        except InvalidInputError as error:
            raise PeerMisbehaviorError(peer, str(error)) from error

    async def tell(self, peer: PeerId, sha256: str, *, complete: bool) -> None:
        """Tell ``peer`` that this node has (part of) an artifact."""
        request = encode_have(sha256, complete=complete)
        await self._asker.ask(peer, "have", request, timeout_s=_ASK_S, answer_bytes_max=0)

    async def _tell(self, _peer: PeerId, request: bytes) -> bytes:
        if len(request) != _DIGEST_BYTES:
            raise InvalidInputError("holders: the request is 32 bytes")
        return encode_holders(self.memory.holders(request.hex(), now_s=trio.current_time()))

    async def _remember(self, peer: PeerId, request: bytes) -> bytes:
        sha256, complete = decode_have(request)
        if not self.memory.remember(sha256, peer, complete=complete, now_s=trio.current_time()):
            raise UnavailableError("too many artifacts of one holder are remembered")
        return b""
