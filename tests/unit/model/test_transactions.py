"""Transactions: what their schemas refuse, before any state is looked at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.documents import Contradiction, Document, FileEntry, Metadata
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.limits import BATCH_ITEMS_MAX, LEAF_BYTES_MAX
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import (
    AttestBatch,
    BuildRequest,
    BuiltItem,
    FailedItem,
    Pipeline,
    Result,
    Source,
    Transaction,
    decode_transaction,
    parse_item,
    sign_transaction,
)
from tests.strategies.identities import identities

ONE, TWO = identities(2)
NETWORK = bytes(32)
DIGESTS = tuple(sha256_of(bytes([number])) for number in range(4))

REQUEST = BuildRequest(
    sponsor=ONE.id,
    purl=Purl.parse("pkg:pypi/six@1.17.0"),
    claim="rebuilt",
    source=Source("sdist", "six-1.17.0.tar.gz", DIGESTS[0], 34_031),
    pipeline=Pipeline("pypi", 1, DIGESTS[1]),
    toolchain=DIGESTS[2],
    lock=DIGESTS[3],
    recipe={"epoch": 315532800, "strict": True, "constraints": ("wheel==0.45",)},
    time_class="S",
    until=1_700_000_600_000,
    nonce="00" * 16,
)
METADATA = Metadata("six", "1.17.0", "", "", "MIT", "", "", (), (), "", ())
FILE = FileEntry(
    "six-1.17.0.whl", 11_050, DIGESTS[0], DIGESTS[1], "application/zip", "rebuilt", "built"
)
DOCUMENT = Document(REQUEST.purl, (FILE,), (), METADATA)
BATCH = AttestBatch(
    ONE.id, 1, (FailedItem(DIGESTS[0], "TIMEOUT", "600 s"),), {"arch": "x86_64", "cores": 2}
)


def encoded(body: Transaction) -> bytes:
    return sign_transaction(body, network_id=NETWORK, sign=ONE.sign["tx"]).encoded


def changed(body: Transaction, change: Callable[[JsonObject], JsonObject | None]) -> bytes:
    value = canonical.loads_object(encoded(body), bytes_max=LEAF_BYTES_MAX)
    return canonical.dumps(change(value) or value)


def put(name: str, member: JsonValue, /) -> Callable[[JsonObject], JsonObject]:
    return lambda value: {**value, name: member}


SIG: JsonObject = {"by": ONE.id, "sig": "00" * 64}


@pytest.mark.parametrize(
    ("body", "change", "why"),
    [
        (REQUEST, put("t", "add_server"), "no transaction of rules 1"),
        (REQUEST, put("t", 1), "names no schema"),
        (REQUEST, put("v", 2), "schema"),
        (REQUEST, put("x", 1), r"unknown \[x\]"),
        (REQUEST, lambda v: {k: e for k, e in v.items() if k != "lock"}, r"missing \[lock\]"),
        (REQUEST, put("purl", "pkg:pypi/six"), "names no version"),
        (REQUEST, put("purl", "pkg:pypi/Six@1.17.0"), "PEP 503"),
        (REQUEST, put("claim", "trusted"), "claim is not one of"),
        (REQUEST, put("class", "XL"), "class is not one of"),
        (REQUEST, put("until", [1]), "until is not an integer"),
        (REQUEST, lambda value: {**value, "until": True}, "until is not an integer"),
        (REQUEST, put("until", -1), "until is -1"),
        (REQUEST, put("nonce", "AA" * 16), "nonce"),
        (REQUEST, put("sponsor", "me"), "peer id"),
        (REQUEST, put("recipe", {"a": {}}), "is an object"),
        (REQUEST, put("recipe", {"a": [1]}), "list of texts"),
        (REQUEST, put("recipe", {"é".encode().hex() + " ": 1}), "field name"),
        (REQUEST, put("recipe", {"a": "x" * 8_000}), "exceeds 8000"),
        (REQUEST, put("sigs", []), "one signature"),
        (REQUEST, put("sigs", [SIG, SIG]), "one signature"),
        (REQUEST, put("sigs", [{"by": TWO.id, "sig": "00" * 64}]), "is not the author"),
        (REQUEST, put("sigs", [{"by": ONE.id, "sig": "00"}]), "sig is not 128"),
        (REQUEST, put("sigs", {}), "one signature"),
        (BATCH, put("seq", 0), "seq is 0"),
        (BATCH, put("items", []), "items has 0"),
        (BATCH, put("items", [BATCH.items[0].to_json()] * 2), "one request twice"),
        (BATCH, put("items", [{"outcome": "BUILT"}]), "missing"),
        (BATCH, put("items", [1]), "not an object"),
        (BATCH, put("env", {"a": True}), "neither text nor integer"),
        (BATCH, put("env", {" ": 1}), "field name"),
        (BATCH, put("env", {"a": "x" * 4_000}), "exceeds 4000"),
    ],
)
def test_transaction_that_breaks_its_schema_is_refused_by_name(
    body: Transaction, change: Callable[[JsonObject], JsonObject], why: str
) -> None:
    with pytest.raises(InvalidInputError, match=why):
        decode_transaction(changed(body, change), network_id=NETWORK)


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({"outcome": "BUILT", "level": 3}, "level is 3"),
        ({"outcome": "BUILT", "own": [DIGESTS[0]]}, "own has 1"),
        ({"outcome": "BUILT", "own": [DIGESTS[0], DIGESTS[0], "x"]}, "not a digest"),
        ({"outcome": "BUILT", "result": "00"}, "result"),
        ({"outcome": "BUILT", "explained": "00"}, "explained"),
        ({"outcome": "BUILT", "explained": ""}, "explained"),
    ],
)
def test_built_item_that_breaks_its_schema_is_refused(item: JsonObject, why: str) -> None:
    good = BuiltItem(DIGESTS[0], DIGESTS[1], 0, (DIGESTS[0], DIGESTS[1], DIGESTS[2])).to_json()
    with pytest.raises(InvalidInputError, match=why):
        decode_transaction(changed(BATCH, put("items", [{**good, **item}])), network_id=NETWORK)


def test_item_without_a_result_explains_nothing() -> None:
    item: JsonObject = {"cause": "x", "outcome": "TIMEOUT", "req": DIGESTS[0]}
    with pytest.raises(InvalidInputError, match=r"unknown \[explained\]"):
        parse_item({**item, "explained": DIGESTS[1]})


@pytest.mark.parametrize("cause", ["x" * 33, "é", 'a"b', "a\\b", "a\nb"])
def test_cause_is_at_most_32_plain_characters(cause: str) -> None:
    item: JsonObject = {"cause": cause, "outcome": "TIMEOUT", "req": DIGESTS[0]}
    with pytest.raises(InvalidInputError, match="cause"):
        decode_transaction(changed(BATCH, put("items", [item])), network_id=NETWORK)


def test_request_names_what_two_open_ones_must_not_share() -> None:
    other = dataclasses.replace(REQUEST, sponsor=TWO.id, nonce="11" * 16, until=1, time_class="L")
    assert other.uniqueness() == REQUEST.uniqueness()
    assert dataclasses.replace(REQUEST, lock=DIGESTS[0]).uniqueness() != REQUEST.uniqueness()


def test_id_does_not_depend_on_the_bytes_of_the_signature() -> None:
    signed = sign_transaction(REQUEST, network_id=NETWORK, sign=ONE.sign["tx"])
    resigned = changed(REQUEST, put("sigs", [{"by": ONE.id, "sig": "01" * 64}]))
    assert decode_transaction(resigned, network_id=NETWORK).id == signed.id


def test_largest_batch_fits_a_leaf() -> None:
    items = tuple(
        BuiltItem(sha256_of(bytes([n])), DIGESTS[0], 0, (DIGESTS[0], DIGESTS[1], DIGESTS[2]))
        for n in range(BATCH_ITEMS_MAX)
    )
    batch = AttestBatch(ONE.id, 2**53 - 1, items, {"k": "x" * 3_990})
    assert len(encoded(batch)) <= LEAF_BYTES_MAX
    with pytest.raises(InvalidInputError, match="110"):
        sign_transaction(
            dataclasses.replace(batch, items=(*items, FailedItem(DIGESTS[3], "REFUSED", ""))),
            network_id=NETWORK,
            sign=ONE.sign["tx"],
        )


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (dataclasses.replace(DOCUMENT, files=()), "files has 0"),
        (dataclasses.replace(DOCUMENT, files=(FILE, FILE)), "sorted and distinct"),
        (dataclasses.replace(DOCUMENT, purl=Purl.parse("pkg:pypi/six")), "no version"),
        (
            dataclasses.replace(DOCUMENT, files=(dataclasses.replace(FILE, name="../six"),)),
            "file name",
        ),
        (
            dataclasses.replace(DOCUMENT, files=(dataclasses.replace(FILE, claim="mirrored"),)),
            "not upstream",
        ),
        (
            dataclasses.replace(DOCUMENT, contradicts=(Contradiction("x.whl", DIGESTS[1]),)),
            "no built file",
        ),
        (
            dataclasses.replace(DOCUMENT, contradicts=(Contradiction(FILE.name, FILE.sha256),)),
            "no built file",
        ),
        (
            dataclasses.replace(
                DOCUMENT,
                metadata=dataclasses.replace(METADATA, author="Benjamin <b@example.com>"),
            ),
            "e-mail",
        ),
        (
            dataclasses.replace(
                DOCUMENT, metadata=dataclasses.replace(METADATA, requires=("x" * 7_990,) * 5)
            ),
            "exceeds 36000",
        ),
    ],
)
def test_document_that_says_what_it_must_not_is_refused(document: Document, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        encoded(Result(ONE.id, DIGESTS[0], document))


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "a\0", "é", "-a"])
def test_file_name_is_never_a_path(name: str) -> None:
    document = dataclasses.replace(DOCUMENT, files=(dataclasses.replace(FILE, name=name),))
    with pytest.raises(InvalidInputError, match="file name"):
        encoded(Result(ONE.id, Sha256(DIGESTS[0]), document))
