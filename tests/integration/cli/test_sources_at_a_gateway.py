"""``pyrsia sources show`` and ``inspect-log`` prove a mapping, and find a node out that lies."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.main import cli
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.model.mappings import SourceMapping
from tests.fakes.command_at_a_gateway import Setting, scenario
from tests.strategies import maven_bodies as maven

CODEC = "commons-codec:commons-codec"


async def run(it: Setting, *words: str) -> Result:
    """Run a command in this process: a fresh interpreter for each would cost ten times as much."""
    runner = CliRunner(env=it.environment())
    return await asyncio.to_thread(runner.invoke, cli, words)


async def told(it: Setting, *words: str) -> Any:
    result = await run(it, *words, "--format", "json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


async def refused(it: Setting, *words: str) -> None:
    result = await run(it, *words)
    assert result.exception is not None
    raise result.exception


def test_mapping_that_counts_is_proved_and_a_lie_about_it_is_found(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        log = it.node.log
        members = log.local.members
        body = maven.add_source(members[0].id)
        leaf = log.state(body)
        line: dict[str, object] = {
            **body.mapping.members(),
            "reason": body.reason,
            "leaf": leaf,
            "approved_by": [{"id": one.id, "label": "north"} for one in members[:3]],
        }
        with pytest.raises(NotFoundError, match=f"no mapping in the log fits {CODEC}"):
            await refused(it, "sources", "show", CODEC)
        it.node.core.sources.append(line)
        found = await told(it, "sources", "show", f"{CODEC}:1.15")
        assert (found["leaf"], found["verified"]) == (leaf, True)
        assert (
            "rel/commons-codec-1.15" in (await run(it, "sources", "show", f"{CODEC}:1.15")).output
        )
        for change in ({"repository": "git+https://git.example/thief"}, {"recipe": {"jdk": 8}}):
            it.node.core.sources[0] = {**line, **change}
            with pytest.raises(VerificationError, match=f"otherwise of {next(iter(change))}"):
                await refused(it, "sources", "show", CODEC)
        it.node.core.sources[0] = line
        with pytest.raises(VerificationError, match=f"with a mapping of {body.mapping.pattern}"):
            await refused(it, "sources", "show", "org.example:tool:1.0")
        (entry,) = (await told(it, "inspect-log", "maven", CODEC))["entries"]
        assert (entry["index"], entry["purl"]) == (leaf, body.mapping.pattern)
        hits = (await told(it, "search", "type:add_source"))["hits"]
        assert [each["index"] for each in hits] == [leaf]

    scenario(tmp_path, act)


def test_pattern_that_the_log_took_back_is_found_among_others_by_the_log_itself(
    tmp_path: Path,
) -> None:
    """This node's core takes no motions, so each is refused: what the log says decides."""

    async def act(it: Setting) -> None:
        log = it.node.log
        by = log.local.members[0].id
        words = ("--reason", "moved")
        for pattern, typed in (("pkg:maven/x.y/*", "x.y:*"), ("pkg:maven/x.y/z", "x.y:z")):
            here = SourceMapping(pattern, "git+https://git.example/z", "v{version}")
            log.state(maven.add_source(by, here))
            with pytest.raises((InvalidInputError, UnavailableError)):
                await refused(it, "sources", "remove", typed, *words)
            leaf = log.state(maven.add_source(by, SourceMapping(pattern, ""), nonce=1))
            newer = SourceMapping(f"pkg:maven/x.y/after-{leaf}", here.repository, here.tag)
            log.state(maven.add_source(by, newer))
            done = await run(it, "sources", "remove", typed, *words)
            assert done.exit_code == 0, done.output
            assert f"{pattern}: the log says so already (leaf {leaf})" in done.output

    scenario(tmp_path, act)
