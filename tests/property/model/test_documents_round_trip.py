"""Every encoder has an inverse, and only our error escapes from any decoder."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.ed25519 import verify
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.documents import Document
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.model.genesis import DEFAULT_PARAMS, Genesis
from pyrsia_node.model.leaves import Header, Outcome, decode_outcome, encode_outcome
from pyrsia_node.model.members import SetLeaf, SignedMember
from pyrsia_node.model.signing import TRANSACTION_TAG
from pyrsia_node.model.transactions import Transaction, decode_transaction, sign_transaction
from tests.strategies import model_values as model
from tests.strategies.identities import Identity, genesis_of, identities

NETWORK = model.NETWORK
BY_ID: dict[str, Identity] = {one.id: one for one in identities(5)}


@given(model.documents())
def test_document_reads_back_as_written(document: Document) -> None:
    value = canonical.loads(document.encode(), bytes_max=36_000)
    assert Document.from_json(value) == document


@given(model.transactions)
def test_signed_transaction_reads_back_and_verifies(body: Transaction) -> None:
    author = BY_ID[body.author]
    signed = sign_transaction(body, network_id=NETWORK, sign=author.sign["tx"])
    again = decode_transaction(signed.encoded, network_id=NETWORK)
    assert again == signed
    assert again.body == body
    again.verify(author.member.record.keys.tx, verify)
    assert canonical.dumps(canonical.loads(signed.encoded, bytes_max=48_000)) == signed.encoded
    # The reader cuts these out of the whole; they are what the specification says is signed.
    assert again.signed_bytes == TRANSACTION_TAG + NETWORK + canonical.dumps(body.to_json())


@given(model.transactions)
def test_transaction_of_one_network_means_nothing_in_another(body: Transaction) -> None:
    author = BY_ID[body.author]
    signed = sign_transaction(body, network_id=NETWORK, sign=author.sign["tx"])
    elsewhere = decode_transaction(signed.encoded, network_id=bytes(32))
    assert elsewhere.id != signed.id
    with pytest.raises(VerificationError):
        elsewhere.verify(author.member.record.keys.tx, verify)


@given(model.headers)
def test_header_reads_back_as_written(header: Header) -> None:
    assert Header.decode(header.encode()) == header


@given(model.outcomes)
def test_outcome_reads_back_as_written(outcome: Outcome) -> None:
    assert decode_outcome(encode_outcome(outcome)) == outcome


VALID: dict[str, tuple[st.SearchStrategy[JsonObject], Callable[[bytes], object]]] = {
    "transaction": (
        model.transactions.map(
            lambda body: (
                sign_transaction(
                    body, network_id=NETWORK, sign=BY_ID[body.author].sign["tx"]
                ).encoded
            )
        ).map(lambda data: canonical.loads_object(data, bytes_max=48_000)),
        lambda data: decode_transaction(data, network_id=NETWORK).encoded,
    ),
    "document": (
        model.documents().map(lambda document: document.to_json()),
        lambda data: Document.from_json(canonical.loads(data, bytes_max=48_000)).encode(),
    ),
    "header": (
        model.headers.map(lambda header: canonical.loads_object(header.encode(), bytes_max=9_999)),
        lambda data: Header.decode(data).encode(),
    ),
    "outcome": (
        model.outcomes.map(lambda outcome: outcome.to_json()),
        lambda data: encode_outcome(decode_outcome(data)),
    ),
    "genesis": (
        st.just(canonical.loads_object(genesis_of(identities(4)).encode(), bytes_max=48_000)),
        lambda data: Genesis.decode(data).encode(),
    ),
    "set": (
        st.just(
            canonical.loads_object(genesis_of(identities(4)).set_leaf().encode(), bytes_max=48_000)
        ),
        lambda data: SetLeaf.decode(data).encode(),
    ),
    "member": (
        st.just(identities(1)[0].member.to_json()),
        lambda data: SignedMember.decode(data).encode(),
    ),
}


@pytest.mark.parametrize("kind", sorted(VALID))
@given(st.data())
def test_only_our_error_escapes_and_what_passes_is_written_back(
    kind: str, data: st.DataObject
) -> None:
    valid, rewrite = VALID[kind]
    mutated = canonical.dumps(data.draw(model.almost_valid(data.draw(valid))))
    try:
        again = rewrite(mutated)
    except InvalidInputError:
        return
    assert again == mutated


@pytest.mark.parametrize("kind", sorted(VALID))
@given(raw=st.binary(max_size=80))
def test_garbage_is_refused_with_our_error(kind: str, raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        VALID[kind][1](raw)


def test_parameters_of_the_default_network_round_trip() -> None:
    genesis = genesis_of(identities(4))
    assert Genesis.decode(genesis.encode()) == genesis
    assert genesis.params == DEFAULT_PARAMS
