"""Images in the search index: found by name, tag, digest, platform and base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrsia_node.builds.logged_images import LoggedImages
from pyrsia_node.ledger.index import IndexWriter
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.statements import Withdraw
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.strategies import image_bodies as image
from tests.strategies import member_bodies as change


class Story:
    """A chain in which one tag is an image, then another, and then the first one again."""

    def __init__(self) -> None:
        self.local = LocalChain()
        self.members = [member.id for member in self.local.members]
        self.entries = [self.import_image(variant) for variant in ("a", "b", "a")]

    def import_image(self, variant: str) -> int:
        """Import an image under the tag; return the leaf of its entry."""
        chain, document = self.local.chain, image.document(variant)
        sponsor = self.members[0]
        number = chain.last_seq(sponsor) + 1
        body = image.request(sponsor, variant=variant, nonce=number)
        request = self.local.commit(body).transaction_ids[0]
        said = image.seen(request, document)
        self.local.commit(*(make.batch(m, number, said) for m in self.members[:3]))
        view = chain.request(request)
        assert view is not None
        if view.is_open:
            self.local.commit(make.result(self.members[0], request, document))
        return chain.tip.size - 1

    def withdraw(self, entry: int) -> None:
        """Have the network withdraw an entry."""
        chain = self.local.chain
        body = Withdraw(self.members[0], image.PURL, entry, "bad", "0f" * 16)
        since = chain.tip.height
        yes = [
            change.approve(m, body, self.local.network_id, since=since, expiry=since + 10)
            for m in self.members
        ]
        self.local.commit(*yes, body)


@pytest.fixture
def story() -> Story:
    return Story()


def indexed(story: Story, root: Path) -> Path:
    """Write the index of the chain as it is."""
    chain = story.local.chain
    with IndexWriter.current(root, network_id=story.local.network_id) as writer:
        writer.catch_up(chain, size=chain.tip.size)
    return root


@pytest.fixture
def reader(story: Story, tmp_path: Path) -> Iterator[IndexReader]:
    opened = IndexReader(indexed(story, tmp_path))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("query", "which"),
    [
        ("pkg:docker/docker.io/library/alpine", (2, 1, 0)),
        ("pkg:docker/docker.io/library/alpine@3.20", (2, 1, 0)),
        ("pkg:docker/docker.io/library/alpine@3.19", ()),
        ("pkg:docker/docker.io/library/*", (2, 1, 0)),
        (f"sha256:{make.digest('layer b')}", (1,)),
        (f"sha256:{image.root('a')}", (2, 0)),
        ("dep:pkg:docker/docker.io/library/scratch", (2, 1, 0)),
        ("dep:pkg:pypi/pkg", ()),
        ("alpine", (2, 1, 0)),
        ("amd64", (2, 1, 0)),
        ("minimal -amd64", ()),
    ],
)
def test_image_is_found(
    story: Story, reader: IndexReader, query: str, which: tuple[int, ...]
) -> None:
    page, is_complete = reader.search(query, as_of=story.local.chain.tip.size)
    assert is_complete
    assert list(page.hits) == [story.entries[each] for each in which]


def test_tag_is_its_newest_entry_as_of_any_size(story: Story, reader: IndexReader) -> None:
    for entry in story.entries:
        assert reader.newest_accepted(image.PURL, as_of=entry + 1) == [entry]
    assert reader.newest_accepted(image.PURL, as_of=story.entries[0]) == []
    assert reader.newest_accepted(image.by_digest("a"), as_of=10_000) == []


def test_core_knows_what_a_tag_is_and_that_its_entry_was_withdrawn(
    story: Story, tmp_path: Path
) -> None:
    logged = LoggedImages(indexed(story, tmp_path), story.local.chain)
    found = logged.newest(image.PURL)
    assert found is not None
    assert (found.leaf, found.digest) == (story.entries[2], f"sha256:{image.root('a')}")
    assert not found.is_closed
    view = story.local.chain.request(found.request)
    assert view is not None
    assert view.outcome_leaf == found.leaf
    story.withdraw(story.entries[2])
    indexed(story, tmp_path)
    closed = logged.newest(image.PURL)
    assert closed is not None
    assert (closed.leaf, closed.is_closed) == (story.entries[2], True)
    assert logged.newest(Purl.parse("pkg:docker/docker.io/library/other@1")) is None
    logged.close()


def test_without_an_index_nothing_is_known(story: Story, tmp_path: Path) -> None:
    logged = LoggedImages(tmp_path / "none", story.local.chain)
    assert logged.newest(image.PURL) is None
