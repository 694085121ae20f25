"""The id that adopting cuts out of a leaf is the one that reading the leaf gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.ledger.adopting import id_of
from pyrsia_node.model.transactions import Transaction, sign_transaction
from tests.strategies.model_values import NETWORK, signatures, transactions


@given(transactions, signatures)
def test_id_of_every_transaction_is_found_without_reading_it(
    body: Transaction, signature: bytes
) -> None:
    signed = sign_transaction(body, network_id=NETWORK, sign=lambda _message: signature)
    assert id_of(signed.encoded, network_id=NETWORK) == signed.id


@given(st.binary(max_size=300))
def test_bytes_without_a_signature_have_no_id(data: bytes) -> None:
    assert id_of(data, network_id=NETWORK) is None


@given(transactions)
def test_two_signatures_are_left_to_the_strict_reader(body: Transaction) -> None:
    signed = sign_transaction(body, network_id=NETWORK, sign=lambda _message: bytes(64))
    assert id_of(signed.encoded + signed.encoded, network_id=NETWORK) is None
