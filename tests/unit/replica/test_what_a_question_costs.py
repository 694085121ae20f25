"""A question of a few bytes that anybody may ask costs a few reads, however large the block is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus import wire
from consensus.types import ZERO_DIGEST, Certificate, VoteKind
from pyrsia_node.model.leaves import Header
from pyrsia_node.model.purl import Purl
from pyrsia_node.replica.catchup_wire import decode_head
from pyrsia_node.replica.serving import ChainAnswers
from pyrsia_node.replica.transcripts import Transcripts, encode_question
from tests.fakes.local_chain import LocalChain
from tests.fakes.memory_store import MemoryKeyValueStore
from tests.strategies import build_bodies as make

READS_MAX = 12
TRANSACTIONS = 60


class CountingStore(MemoryKeyValueStore):
    """A store that counts its reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def get(self, key: bytes) -> bytes | None:
        self.reads += 1
        return super().get(key)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def local(store: CountingStore) -> LocalChain:
    """A chain whose only block holds sixty requests."""
    local = LocalChain(4, store=store)
    local.commit(
        *(
            make.request(local.members[n % 4].id, purl=Purl.pypi("six", f"1.{n}"))
            for n in range(TRANSACTIONS)
        )
    )
    return local


def added(local: LocalChain) -> Certificate:
    """Return a nullification of view 0 of height 1."""
    final = wire.decode_certificate(local.chain.certificate(1), n=4)
    return replace(final, kind=VoteKind.NULLIFY, block_hash=ZERO_DIGEST)


async def test_the_newest_header_costs_a_few_reads(local: LocalChain, store: CountingStore) -> None:
    store.reads = 0
    head = decode_head(await ChainAnswers(local.chain).head(b""))
    assert store.reads <= READS_MAX
    assert head is not None
    assert Header.decode(head[0]).height == 1
    assert head[1] == local.chain.certificate(1)


def test_a_transcript_costs_a_few_reads(local: LocalChain, store: CountingStore) -> None:
    transcripts = Transcripts(store, local.chain)
    store.reads = 0
    found = transcripts.answer(encode_question(1))
    assert store.reads <= READS_MAX
    # Asked again, it is at hand until something is added.
    store.reads = 0
    assert transcripts.answer(encode_question(1)) == found
    assert store.reads == 0
    transcripts.keep(1, [added(local)])
    assert len(transcripts.answer(encode_question(1))) > len(found)


def test_a_certificate_costs_a_few_reads(local: LocalChain, store: CountingStore) -> None:
    store.reads = 0
    found = wire.decode_certificate(local.chain.certificate(1), n=4)
    assert store.reads <= READS_MAX
    assert found.height == 1
