"""Which mappings are valid, and which one counts for a package."""

from __future__ import annotations

import dataclasses

import pytest

from consensus.types import NodeId
from pyrsia_node.ledger.machine import records
from pyrsia_node.ledger.machine.context import NotYetValidError
from pyrsia_node.ledger.machine.sources import all_sources, source_for
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.mappings import SourceMapping
from pyrsia_node.model.purl import Purl
from tests.fakes.block_runner import NETWORK, BlockRunner
from tests.strategies import maven_bodies as maven
from tests.strategies.build_bodies import PURL as SIX
from tests.strategies.member_bodies import approve

ARTIFACT = maven.mapping()
GROUP = maven.mapping("pkg:maven/commons-codec/*")
SIBLING = Purl.maven("commons-codec", "another", "1.0")


@pytest.fixture
def runner() -> BlockRunner:
    return BlockRunner(4)


def order(runner: BlockRunner, mapping: SourceMapping, *, nonce: int = 0) -> int:
    """Let everybody approve a mapping and one member submit it; return its leaf."""
    first = len(runner.leaves)
    bodies = runner.approved(maven.add_source(runner.members[0], mapping, nonce=nonce))
    runner.run(*bodies)
    return first + len(bodies)


def counted(runner: BlockRunner, purl: Purl = maven.PURL) -> SourceMapping | None:
    found = source_for(runner.state, purl)
    return None if found is None else found.mapping


def test_one_member_maps_nothing(runner: BlockRunner) -> None:
    statement = maven.add_source(runner.members[0])
    runner.run(
        *(approve(each, statement, NETWORK, expiry=50) for each in runner.members[:2]),
    )
    with pytest.raises(NotYetValidError, match="2 of 3 approvals"):
        runner.run(statement)
    assert counted(runner) is None


def test_a_quorum_maps_a_source_and_the_state_says_who_it_was(runner: BlockRunner) -> None:
    statement = maven.add_source(runner.members[0])
    yes = [approve(each, statement, NETWORK, expiry=50) for each in runner.members[:3]]
    runner.run(*yes, statement)
    [found] = all_sources(runner.state)
    assert found.mapping == ARTIFACT
    assert found.approved_by == runner.members[:3]
    assert found.reason == statement.reason
    assert b'"add_source"' in runner.leaves[found.leaf]
    assert source_for(runner.state, maven.PURL) == found


def test_approvals_of_one_mapping_carry_no_other(runner: BlockRunner) -> None:
    statement = maven.add_source(runner.members[0])
    runner.run(*(approve(each, statement, NETWORK, expiry=50) for each in runner.members))
    for changed in (
        dataclasses.replace(statement, reason="another"),
        *(
            dataclasses.replace(statement, mapping=dataclasses.replace(ARTIFACT, **change))
            for change in (
                {"pattern": "pkg:maven/commons-codec/*"},
                {"repository": "git+https://git.example/thief/codec"},
                {"tag": "v{version}"},
                {"recipe": {"jdk": 8}},
            )
        ),
    ):
        with pytest.raises(NotYetValidError, match="0 of 3 approvals"):
            runner.run(changed)


def test_longest_pattern_counts_whichever_came_last(runner: BlockRunner) -> None:
    order(runner, ARTIFACT)
    order(runner, GROUP)
    assert counted(runner) == ARTIFACT
    assert counted(runner, SIBLING) == GROUP
    assert counted(runner, Purl.maven("commons-codec.more", "commons-codec", "1.15")) is None
    assert counted(runner, Purl.maven("commons", "codec", "1.15")) is None
    assert counted(runner, SIX) is None


def test_of_one_pattern_the_newest_counts(runner: BlockRunner) -> None:
    order(runner, ARTIFACT)
    moved = dataclasses.replace(ARTIFACT, repository="git+https://git.example/new/codec")
    leaf = order(runner, moved)
    assert counted(runner) == moved
    [found] = all_sources(runner.state)
    assert found.leaf == leaf


def test_an_empty_repository_takes_a_pattern_back_and_the_next_longest_counts(
    runner: BlockRunner,
) -> None:
    order(runner, GROUP)
    order(runner, ARTIFACT)
    order(runner, SourceMapping(ARTIFACT.pattern, ""))
    assert counted(runner) == GROUP
    order(runner, SourceMapping(GROUP.pattern, ""))
    assert counted(runner) is None
    assert not list(runner.state.scan(records.SOURCE_PREFIX.encode()))
    with pytest.raises(InvalidInputError, match="no source is mapped for"):
        order(runner, SourceMapping(GROUP.pattern, ""), nonce=1)


def test_what_was_taken_back_can_be_mapped_again(runner: BlockRunner) -> None:
    order(runner, ARTIFACT)
    order(runner, SourceMapping(ARTIFACT.pattern, ""))
    order(runner, ARTIFACT, nonce=1)
    assert counted(runner) == ARTIFACT


def test_who_left_neither_maps_nor_counts(runner: BlockRunner) -> None:
    gone: NodeId = runner.members[3]
    statement = maven.add_source(runner.members[0])
    yes = [approve(each, statement, NETWORK, expiry=50) for each in (gone, *runner.members[:2])]
    runner.run(*yes)
    runner.run(*runner.remove(gone))
    with pytest.raises(NotYetValidError, match="2 of 3 approvals"):
        runner.run(statement)
    with pytest.raises(InvalidInputError, match="so it maps no source"):
        runner.run(maven.add_source(gone))


def test_record_of_a_mapping_reads_back(runner: BlockRunner) -> None:
    full = dataclasses.replace(ARTIFACT, recipe={"jdk": 17, "goals": ("a", "b"), "newline": "lf"})
    order(runner, full)
    assert counted(runner) == full
