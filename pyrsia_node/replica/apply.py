"""Applies a decision that somebody sent: certificate and block are checked before anything is kept.

Used by members that catch up and by every node that only follows. The block is executed again,
never taken on trust, so a colluding quorum that signs an invalid block is noticed here.
"""

from __future__ import annotations

from consensus import wire
from consensus.errors import DecodeError
from consensus.types import Certificate
from pyrsia_node.ledger.chain import Chain, Committed
from pyrsia_node.model.errors import InvalidInputError, VerificationError


def apply_decision(
    chain: Chain, encoded: bytes, *, is_proved: bool = False
) -> tuple[Committed, Certificate] | None:
    """Verify an encoded decision under the tip's set and commit it; None if it is not next.

    With ``is_proved`` the header and both certificates are known to hold (``replica.proving``);
    the transactions are executed all the same.

    Raises:
        InvalidInputError: malformed bytes.
        VerificationError: the certificate or the block does not hold.
    """
    tip = chain.tip
    try:
        # The height first: consensus may have committed this block while the peer sent it, and a
        # set that the block changed is not the one that signed it.
        if wire.certificate_height(wire.split_decision(encoded)[1]) != tip.height + 1:
            return None
        decision = wire.decode_decision(encoded, n=len(tip.members.members))
    except DecodeError as error:
        raise InvalidInputError(f"decision: {error}") from error
    certificate = decision.certificate
    packed = wire.encode_certificate(certificate, n=len(tip.members.members))
    committed = chain.commit(decision.block, packed, is_proved=is_proved)
    if committed.tip.height != certificate.height:
        # The chain answers for its own tip again without a look at the certificate; a peer that
        # hangs the tip's block on a made-up certificate has brought nothing.
        raise VerificationError(
            f"decision: certificate of height {certificate.height}, block of height"
            f" {committed.tip.height}"
        )
    return committed, certificate
