"""Admins say where a package's source is: nothing counts before a quorum, then every node knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.sources import SourceLine, Sources
from tests.integration.core.town import Town, town
from tests.strategies import maven_bodies as maven

MAPPING = maven.mapping()
CONTENT: dict[str, object] = {**MAPPING.members(), "reason": "named by its pom"}


async def listed(nodes: Town, label: str, **params: object) -> list[SourceLine]:
    return Sources.parse(await nodes.links[label].call("sources", params)).sources


async def until_listed(nodes: Town, label: str, count: int) -> list[SourceLine]:
    while len(found := await listed(nodes, label)) != count:
        await trio.sleep(0.02)
    return found


async def test_a_mapping_counts_on_every_node_once_a_quorum_approved_it(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        await nodes.enter("south")
        await nodes.admit("south", "north")
        await nodes.enter("reader", role="regular")
        taken = await nodes.propose("north", "add_source", **CONTENT)
        assert taken.title == (
            "source of pkg:maven/commons-codec/commons-codec:"
            " git+https://git.example/commons/codec.git, tag rel/commons-codec-{version}"
        )
        while not (await nodes.members("south")).motions:
            await trio.sleep(0.02)
        assert await listed(nodes, "north") == []
        await nodes.links["south"].call("approve", {"subject": taken.subject})
        for label in ("north", "south", "reader"):
            (line,) = await until_listed(nodes, label, 1)
            assert (line.pattern, line.tag) == (MAPPING.pattern, MAPPING.tag)
            assert line.recipe == {"jdk": 17, "goals": ["install"]}
            assert {each.label for each in line.approved_by} == {"north", "south"}
            assert await listed(nodes, label, purl=str(maven.PURL)) == [line]
        assert await listed(nodes, "reader", purl="pkg:maven/other/thing@1") == []
        assert await listed(nodes, "reader", after=MAPPING.pattern) == []


async def test_a_mapping_that_cannot_count_is_refused_before_anybody_approves(
    tmp_path: Path,
) -> None:
    async with town(tmp_path) as nodes:
        for change, why in (
            ({"tag": ""}, "a mapping without a tag"),
            ({"tag": "latest"}, r"has no \{version\}"),
            ({"repository": "git+ssh://git.example/x"}, "is not git.https"),
            ({"pattern": "pkg:maven/*"}, "pattern"),
            ({"recipe": {"commit": "0f" * 20}}, "recipe field 'commit'"),
            ({"recipe": {"goals": ["-Dx=1"]}}, "no build could follow its recipe: field 'goals'"),
            ({"repository": "", "tag": "", "recipe": {}}, "no source is mapped for"),
            ({"reason": ""}, "reason"),
        ):
            with pytest.raises(InvalidInputError, match=why):
                await nodes.propose("north", "add_source", **{**CONTENT, **change})
        await nodes.propose("north", "add_source", **CONTENT)
        await until_listed(nodes, "north", 1)
        with pytest.raises(InvalidInputError, match="so already"):
            await nodes.propose("north", "add_source", **CONTENT)


async def test_a_mapping_is_taken_back_as_it_was_made(tmp_path: Path) -> None:
    async with town(tmp_path) as nodes:
        group = {**CONTENT, "pattern": "pkg:maven/commons-codec/*"}
        for content in (group, CONTENT):
            await nodes.propose("north", "add_source", **content)
        await until_listed(nodes, "north", 2)
        back = {"pattern": MAPPING.pattern, "repository": "", "tag": "", "recipe": {}}
        taken = await nodes.propose("north", "add_source", **back, reason="moved")
        assert taken.title == f"take back the source of {MAPPING.pattern}"
        (left,) = await until_listed(nodes, "north", 1)
        assert await listed(nodes, "north", purl=str(maven.PURL)) == [left]
        assert left.pattern == group["pattern"]
