"""What a client will ask for next is here before it asks: of the log alone, and small."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pyrsia_node.ports import PIECE_SIZE_BYTES
from pyrsia_node.schema.sections import MavenSection
from tests.fakes.maven_node import UPSTREAM, MavenNode, blob_of, get, jar, pom, put, scenario

TOOL_JAR, TOOL_POM = jar("tool"), pom("org.example", "tool", "1.0")
NEEDED_JAR, NEEDED_POM = jar("needed"), pom("org.example", "needed", "2.0")
NEEDED = "pkg:maven/org.example/needed@2.0"


def fill(it: MavenNode, *requires: str) -> None:
    needed = (("needed-2.0.jar", NEEDED_JAR), ("needed-2.0.pom", NEEDED_POM))
    it.accept("org.example:needed:2.0", *needed)
    files = (("tool-1.0.jar", TOOL_JAR), ("tool-1.0.pom", TOOL_POM))
    it.accept("org.example:tool:1.0", *files, requires=requires)


async def ask(it: MavenNode, name: str = "tool/1.0/tool-1.0.pom") -> None:
    await get(it, f"org/example/{name}")


async def arrived(it: MavenNode, content: bytes) -> None:
    async with asyncio.timeout(10):
        while blob_of(it, content) is None:
            await asyncio.sleep(0.01)


async def stays_away(it: MavenNode, content: bytes) -> None:
    """Wait until what is fetched ahead beside it is here, and a moment more."""
    await arrived(it, TOOL_JAR)
    await asyncio.sleep(0.2)
    assert blob_of(it, content) is None


def test_after_a_pom_its_jar_and_the_poms_of_its_dependencies_come(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        fill(it, f"{NEEDED} compile")
        await ask(it)
        await arrived(it, TOOL_JAR)
        await arrived(it, NEEDED_POM)
        # The next step is known only once the client takes this one.
        assert blob_of(it, NEEDED_JAR) is None
        await ask(it, "needed/2.0/needed-2.0.pom")
        await arrived(it, NEEDED_JAR)

    scenario(tmp_path, act, MavenSection())


def test_after_a_jar_nothing_is_fetched(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        fill(it, f"{NEEDED} compile")
        await ask(it, "tool/1.0/tool-1.0.jar")
        await stays_away(it, NEEDED_POM)

    scenario(tmp_path, act, MavenSection())


def test_tests_and_options_of_a_dependency_are_not_fetched(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        fill(it, f"{NEEDED} test", f"{NEEDED} compile optional", f"{NEEDED} provided", "odd words")
        await ask(it)
        await stays_away(it, NEEDED_POM)

    scenario(tmp_path, act, MavenSection())


def test_no_upstream_is_asked_ahead(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        put(it.folder, "org/free/free/1/free-1.pom", pom("org.free", "free", "1"))
        fill(it, "pkg:maven/org.free/free@1 compile")
        await ask(it)
        await arrived(it, TOOL_JAR)
        await asyncio.sleep(0.2)
        assert not it.upstream.asked

    scenario(tmp_path, act, UPSTREAM)


def test_large_files_wait_until_they_are_asked_for(tmp_path: Path) -> None:
    large = bytes(PIECE_SIZE_BYTES + 1)

    async def act(it: MavenNode) -> None:
        it.accept("org.example:large:1", ("large-1.jar", large), ("large-1.pom", NEEDED_POM))
        fill(it, "pkg:maven/org.example/large@1 compile")
        await ask(it)
        await arrived(it, TOOL_JAR)
        await ask(it, "large/1/large-1.pom")
        await stays_away(it, large)

    scenario(tmp_path, act, MavenSection())


def test_operator_can_have_nothing_fetched_ahead(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        fill(it, f"{NEEDED} compile")
        await ask(it)
        await asyncio.sleep(0.3)
        assert blob_of(it, TOOL_JAR) is None

    scenario(tmp_path, act, MavenSection(fetch_ahead=False))


def test_what_nobody_has_costs_the_client_nothing(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        fill(it, "pkg:maven/org.example/absent@1 compile", f"{NEEDED} runtime")
        await ask(it)
        await arrived(it, NEEDED_POM)

    scenario(tmp_path, act, MavenSection())
