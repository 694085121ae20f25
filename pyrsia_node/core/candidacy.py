"""A candidate's part: it shows its record, and that it holds the keys and knows the log.

Members who want a candidate ask it for both (``candidacy`` in docs/spec/peer-protocols.md). The
record is the one that ``member.record`` holds; the proof is signed anew at each question, over the
head of the chain as the candidate has it at that moment.
"""

from __future__ import annotations

from typing import Final

from consensus.ed25519 import verify
from pyrsia_node.core.opened import Opened
from pyrsia_node.model import canonical
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError, PeerMisbehaviorError, PyrsiaError
from pyrsia_node.model.fields import Fields
from pyrsia_node.model.members import SignedMember, sign_member
from pyrsia_node.model.membership import AddNode, JoinProof, sign_join
from pyrsia_node.ports import PeerId, PeerRequests
from pyrsia_node.store.keys import KeyUse, NodeKeys

METHOD: Final = "candidacy"
ANSWER_BYTES_MAX: Final = 8_000
ASK_TIMEOUT_S: Final = 5.0


class Candidacy:
    """Answers ``candidacy`` for this node."""

    def __init__(self, opened: Opened) -> None:
        """Speak for the node that ``opened`` belongs to."""
        self._opened = opened

    def serve_on(self, requests: PeerRequests) -> None:
        """Register the method."""
        requests.serve(METHOD, self._answer, request_bytes_max=0)

    def record(self) -> SignedMember:
        """Return this node's signed member record.

        Raises:
            InvalidInputError: The configuration says that this node does not want to vote.
        """
        node = self._opened.config.node
        if node.role != "authorized":
            raise InvalidInputError(
                f"{node.label} is no candidate: its node.toml says role = {node.role!r}"
            )
        keys = self._opened.keys
        return sign_member(node.label, keys.member_keys(), keys.member_signers())

    async def _answer(self, _peer: PeerId, _payload: bytes) -> bytes:
        record = self.record()
        proof = join_proof(self._opened, record, self._opened.keys)
        return canonical.dumps({"proof": proof.to_json(), "record": record.to_json()})


def join_proof(opened: Opened, member: SignedMember, keys: NodeKeys) -> JoinProof:
    """Return the proof that the holder of ``keys`` knows the chain up to its tip."""
    tip = opened.chain.tip
    return sign_join(
        member.record,
        network_id=opened.chain.genesis.network_id,
        height=tip.height,
        size=tip.size,
        root=Sha256(tip.root.hex()),
        sign=keys.signer(KeyUse.TX),
    )


async def ask_candidate(
    requests: PeerRequests, peer: PeerId, *, network_id: bytes
) -> tuple[SignedMember, JoinProof]:
    """Return a candidate's record and proof, their signatures checked.

    Raises:
        UnavailableError: It does not answer.
        InvalidInputError: It is no candidate.
        PeerMisbehaviorError: What it sent does not hold, or is another node's.
    """
    data = await requests.ask(
        peer, METHOD, b"", timeout_s=ASK_TIMEOUT_S, answer_bytes_max=ANSWER_BYTES_MAX
    )
    try:
        value = canonical.loads_object(data, bytes_max=ANSWER_BYTES_MAX)
        got = Fields(value, "candidacy", frozenset({"proof", "record"}))
        member = SignedMember.from_json(got.value("record"), "candidacy.record")
        proof = JoinProof.from_json(got.value("proof"), "candidacy.proof")
        AddNode(member.record.id, member, proof).verify_inside(network_id, verify)
    except PyrsiaError as error:
        raise PeerMisbehaviorError(peer, f"sent no candidacy that holds: {error}") from error
    if str(member.record.id) != peer:
        raise PeerMisbehaviorError(peer, f"sent the record of {member.record.id}")
    return member, proof
