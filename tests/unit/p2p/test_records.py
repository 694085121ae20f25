"""Node records: who may say what, and which of two counts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyrsia_node.model.canonical import JsonValue, dumps, loads_object
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.p2p.identity import peer_id_of, public_key_of_seed
from pyrsia_node.p2p.records import (
    RECORD_BYTES_MAX,
    NodeFacts,
    NodeRecord,
    RecordStore,
    make_record,
    parse_record,
)

NETWORK = "ab" * 32
FACTS = NodeFacts(
    "berlin-1", "authorized", ("/ip4/10.1.2.3/tcp/4001",), "https://10.1.2.3:8443", "cd" * 32
)


def record(node: int = 1, seq: int = 1, facts: NodeFacts = FACTS) -> NodeRecord:
    return make_record(bytes([node]) * 32, network=NETWORK, seq=seq, facts=facts)


def test_a_record_says_what_its_node_said() -> None:
    made = record()
    assert parse_record(made.raw, network=NETWORK) == made
    assert made.peer == peer_id_of(public_key_of_seed(bytes([1]) * 32))
    assert (made.label, made.role, made.addresses) == (FACTS.label, FACTS.role, FACTS.addresses)


@pytest.mark.parametrize("name", ["label", "role", "addresses", "data_url", "fingerprint", "seq"])
def test_no_part_can_be_changed_by_another(name: str) -> None:
    other = record(seq=2, facts=NodeFacts("b", "regular", (), "http://b", ""))
    value = loads_object(record().raw, bytes_max=RECORD_BYTES_MAX)
    value[name] = loads_object(other.raw, bytes_max=RECORD_BYTES_MAX)[name]
    with pytest.raises(VerificationError, match="signature"):
        parse_record(dumps(value), network=NETWORK)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("t", "member"),
        ("v", 2),
        ("v", True),
        ("peer_id", "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"),
        ("network", "cd" * 32),
        ("seq", -1),
        ("seq", True),
        ("label", ""),
        ("label", "Berlin"),
        ("label", "x" * 65),
        ("role", "king"),
        ("addresses", ["10.1.2.3:4001"]),
        ("addresses", ["/ip4/10.1.2.3/tcp/4001"] * 9),
        ("addresses", [1]),
        ("data_url", "ftp://host"),
        ("data_url", "https://user:word@host"),
        ("data_url", "https://host/?q"),
        ("data_url", "https://"),
        ("data_url", "https://host:99999"),
        ("data_url", "https://host/ x"),
        ("data_url", "https://[::1"),
        ("data_url", "https://" + "x" * 300),
        ("fingerprint", "cd"),
        ("sig", "00"),
    ],
)
def test_a_value_out_of_bounds_is_refused(name: str, wrong: JsonValue) -> None:
    value = loads_object(record().raw, bytes_max=RECORD_BYTES_MAX)
    value[name] = wrong
    with pytest.raises(InvalidInputError):
        parse_record(dumps(value), network=NETWORK)


def test_members_are_exactly_those_specified() -> None:
    value = loads_object(record().raw, bytes_max=RECORD_BYTES_MAX)
    for wrong in ({**value, "more": 1}, {k: v for k, v in value.items() if k != "label"}):
        with pytest.raises(InvalidInputError, match="exactly the members"):
            parse_record(dumps(wrong), network=NETWORK)


def test_facts_out_of_bounds_cannot_be_signed() -> None:
    with pytest.raises(InvalidInputError):
        record(facts=replace(FACTS, label="No Label"))


def test_the_greater_sequence_number_counts() -> None:
    store = RecordStore()
    assert store.add(record(seq=5), is_kept=lambda _: False)
    assert not store.add(record(seq=4), is_kept=lambda _: False)
    assert not store.add(record(seq=5), is_kept=lambda _: False)
    assert store.add(record(seq=6), is_kept=lambda _: False)
    assert [one.seq for one in store.all()] == [6]
    assert store.has(record(seq=6).raw)
    assert not store.has(record(seq=5).raw)


def test_a_full_store_gives_up_the_oldest_that_need_not_be_kept() -> None:
    store = RecordStore(records_max=2)
    member = record(1).peer
    for node in (1, 2, 3):
        assert store.add(record(node), is_kept=lambda peer: peer == member)
    assert {one.peer for one in store.all()} == {member, record(3).peer}
    assert len(store) == 2


def test_a_store_full_of_kept_records_takes_no_stranger() -> None:
    store = RecordStore(records_max=2)
    kept = {record(1).peer, record(2).peer}
    for node in (1, 2):
        store.add(record(node), is_kept=lambda peer: peer in kept)
    assert not store.add(record(3), is_kept=lambda peer: peer in kept)
    assert {one.peer for one in store.all()} == kept
