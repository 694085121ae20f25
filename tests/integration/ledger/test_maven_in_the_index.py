"""Maven artifacts and mappings in the search index: found by what people know of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrsia_node.ledger.index import IndexWriter, reindex
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.model.documents import Document
from pyrsia_node.model.mappings import SourceMapping
from pyrsia_node.model.purl import Purl
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.strategies import maven_bodies as maven
from tests.strategies.small_logs import document, wheel

TOOL = Purl.maven("org.example", "tool", "2.0")
BRIDGE = Purl.pypi("bridge", "1.0")
CODEC_PROJECT = "pkg:maven/commons-codec/commons-codec"
GROUP = maven.mapping("pkg:maven/commons-codec/*")
NEEDS = (f"{CODEC_PROJECT}@1.15 compile", "pkg:maven/junit/junit test optional", "six>=1")


class Story:
    """A chain with a rebuilt artifact, an external one, a Python package and mappings."""

    def __init__(self) -> None:
        self.local = LocalChain()
        self.members = [member.id for member in self.local.members]
        needs = f"{CODEC_PROJECT}\nsix"
        self.leaf = {
            "group": self.map_source(GROUP, nonce=0),
            "artifact": self.map_source(maven.mapping(), nonce=1),
            "codec": self.accept(maven.document(), claim="rebuilt"),
            "tool": self.accept(
                maven.document(purl=TOOL, claim="external", requires=NEEDS), claim="external"
            ),
            "bridge": self.accept(
                document(str(BRIDGE), wheel("bridge-1.0-py3-none-any.whl", b"b"), requires=needs)
            ),
            "back": self.map_source(SourceMapping(GROUP.pattern, ""), nonce=2),
        }

    def map_source(self, mapping: SourceMapping, *, nonce: int) -> int:
        statement = maven.add_source(self.members[0], mapping, reason="Found Here", nonce=nonce)
        committed = self.local.commit(*self.local.approved(statement))
        return committed.first_leaf + len(self.members) + 1

    def accept(self, doc: Document, *, claim: str = "") -> int:
        chain, sponsor = self.local.chain, self.members[0]
        number = chain.last_seq(sponsor) + 1
        if claim:
            body = maven.request(sponsor, purl=doc.purl, claim=claim, nonce=number)
        else:
            body = make.request(sponsor, purl=doc.purl, nonce=number)
        req = self.local.commit(body).transaction_ids[0]
        said = [make.batch(m, number, make.built(req, doc)) for m in self.members[:3]]
        self.local.commit(*said, make.result(sponsor, req, doc))
        return chain.tip.size - 1


STORY = Story()
SIZE = STORY.local.chain.tip.size


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with IndexWriter.current(tmp_path, network_id=STORY.local.network_id) as writer:
        writer.catch_up(STORY.local.chain, size=SIZE)
    return tmp_path


@pytest.fixture
def reader(root: Path) -> Iterator[IndexReader]:
    opened = IndexReader(root)
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("commons-codec:commons-codec", ["codec", "artifact"]),
        ("commons-codec:commons-codec:1.15", ["codec"]),
        ("pkg:maven/commons-codec/*", ["back", "codec", "artifact", "group"]),
        ("org.example:tool", ["tool"]),
        ("org.example:Tool", []),
        ("type:add_source", ["back", "artifact", "group"]),
        ("type:add_source repo:git.example/commons", ["artifact", "group"]),
        ("type:add_source codec", ["back", "artifact", "group"]),
        ('"found here"', ["back", "artifact", "group"]),
        ("repo:git.example", ["tool", "codec", "artifact", "group"]),
        (f"commit:{maven.COMMIT[:12]}", ["codec"]),
        ("dep:commons-codec:commons-codec", ["bridge", "tool"]),
        (f"dep:{CODEC_PROJECT}", ["bridge", "tool"]),
        ("dep:junit:junit", ["tool"]),
        ("dep:six", ["bridge", "tool"]),
        ("neededby:org.example:tool:2.0", ["codec"]),
        ("neededby:bridge", ["codec"]),
        ("claim:external", ["tool"]),
        ("claim:rebuilt", ["bridge", "codec"]),
        ("claim:mirrored", []),
        ("-claim:rebuilt type:accepted", ["tool"]),
        ("claim:external status:accepted", ["tool"]),
        ("file:commons-codec-1.15.jar", ["codec"]),
    ],
)
@pytest.mark.parametrize("few_max", [0, 2000])
def test_maven_is_found(
    reader: IndexReader,
    query: str,
    names: list[str],
    few_max: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pyrsia_node.ledger.term_lists.FEW_MAX", few_max)  # both ways to ask
    page, is_complete = reader.search(query, as_of=SIZE)
    assert is_complete
    by_leaf = {leaf: name for name, leaf in STORY.leaf.items()}
    assert [by_leaf.get(leaf, str(leaf)) for leaf in page.hits] == names


@pytest.mark.parametrize("version", [None, "1.15"])
def test_mappings_are_among_what_the_log_says_of_a_package(
    reader: IndexReader, version: str | None
) -> None:
    purl = Purl.maven("commons-codec", "commons-codec", version)
    found = set(reader.about(purl, as_of=SIZE).leaves)
    assert {STORY.leaf[each] for each in ("group", "artifact", "codec", "back")} <= found
    sibling = reader.about(Purl.maven("commons-codec", "another", version), as_of=SIZE)
    assert sibling.leaves == (STORY.leaf["group"], STORY.leaf["back"])
    earlier = reader.about(purl, as_of=STORY.leaf["artifact"])
    assert earlier.leaves == (STORY.leaf["group"],)


def test_index_is_the_same_after_a_reindex(root: Path) -> None:
    network_id = STORY.local.network_id
    with IndexWriter.current(root, network_id=network_id) as writer:
        before = writer.dump_sha256()
    reindex(root, STORY.local.chain, size=SIZE, network_id=network_id)
    with IndexWriter.current(root, network_id=network_id) as writer:
        assert writer.dump_sha256() == before
