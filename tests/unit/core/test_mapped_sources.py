"""Pages of the mappings that count, and that every page fits a frame of the control link."""

from __future__ import annotations

import json

import pytest

from buildpipelines.spec.framing import FRAME_BYTES_MAX
from consensus.types import NodeId
from pyrsia_node.core.mapped_sources import sources_of
from pyrsia_node.ledger.machine.sources import SourceRecord
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.limits import MEMBERS_MAX, REASON_LENGTH_MAX
from pyrsia_node.model.mappings import (
    RECIPE_BYTES_MAX,
    REPOSITORY_LENGTH_MAX,
    TAG_LENGTH_MAX,
    SourceMapping,
)
from pyrsia_node.schema.sources import SOURCES_MAX, Sources, SourcesParams
from tests.fakes.local_chain import LocalChain
from tests.strategies import maven_bodies as maven


def mapped(count: int) -> LocalChain:
    """Return the chain of one member that has mapped so many artifacts."""
    local = LocalChain(1)
    by = local.members[0].id
    for number in range(count):
        mapping = maven.mapping(f"pkg:maven/a.b/c{number:03d}")
        local.commit(*local.approved(maven.add_source(by, mapping)))
    return local


def asked(local: LocalChain, **params: str) -> Sources:
    labels = {str(one.id): one.member.record.label for one in local.members}
    return sources_of(local.chain, labels, SourcesParams(**params))


def test_pages_neither_overlap_nor_skip_and_the_last_one_says_so() -> None:
    local = mapped(SOURCES_MAX + 1)
    first = asked(local)
    assert (len(first.sources), first.is_last) == (SOURCES_MAX, False)
    second = asked(local, after=first.sources[-1].pattern)
    assert ([each.pattern for each in second.sources], second.is_last) == (
        [f"pkg:maven/a.b/c{SOURCES_MAX:03d}"],
        True,
    )
    assert asked(local, after="pkg:maven/a.b/c001").is_last


def test_package_gets_its_mapping_or_none() -> None:
    local = mapped(2)
    (line,) = asked(local, purl="pkg:maven/a.b/c001@9").sources
    assert line.pattern == "pkg:maven/a.b/c001"
    assert [each.label for each in line.approved_by] == [local.members[0].member.record.label]
    assert asked(local, purl="pkg:maven/a.b/c009").sources == []
    assert asked(local, purl="pkg:pypi/six").sources == []
    with pytest.raises(InvalidInputError, match="purl"):
        asked(local, purl="six")


class Largest:
    """A chain whose every mapping is as large as one can be."""

    def sources(self) -> list[SourceRecord]:
        recipe = {"properties": ("x" * 250,) * 7}
        return [
            SourceRecord(
                SourceMapping(
                    f"pkg:maven/{'g' * 128}/{number:0128d}",
                    "git+https://a.example/".ljust(REPOSITORY_LENGTH_MAX, "b"),
                    "{version}".ljust(TAG_LENGTH_MAX, "t"),
                    recipe,
                ),
                2**53 - 1,
                "\U0001f600" * REASON_LENGTH_MAX,
                tuple(NodeId(f"12D3KooW{member:044d}".replace("0", "1")) for member in MEMBERS),
            )
            for number in range(SOURCES_MAX)
        ]


MEMBERS = range(MEMBERS_MAX)


def test_largest_page_fits_a_frame() -> None:
    labels = {str(each): "l" * 64 for each in Largest().sources()[0].approved_by}
    page = sources_of(Largest(), labels, SourcesParams())  # type: ignore[arg-type] # reads these alone
    assert len(page.sources) == SOURCES_MAX
    assert len(json.dumps(page.dump())) + RECIPE_BYTES_MAX < FRAME_BYTES_MAX
