"""Transactions for members in one process to order."""

from __future__ import annotations

from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import sign_transaction
from tests.fakes.member_network import MemberNetwork
from tests.strategies.build_bodies import request
from tests.strategies.identities import GENESIS_TIME_MS


def order(network: MemberNetwork, number: int, *, sponsor: int = 0) -> bytes:
    """Return a signed request, one of many that differ."""
    author = network.members[sponsor]
    body = request(
        author.id,
        purl=Purl.pypi("six", f"1.{number}"),
        until=GENESIS_TIME_MS + 12 * 3_600_000,
        nonce=number,
    )
    signed = sign_transaction(body, network_id=network.genesis.network_id, sign=author.sign["tx"])
    return signed.encoded
