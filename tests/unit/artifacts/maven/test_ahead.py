"""Files that are fetched ahead: none is forgotten, whenever it is noted."""

from __future__ import annotations

import asyncio

from pyrsia_node.artifacts.maven.ahead import LANES, FetchAhead
from pyrsia_node.artifacts.resolver import LoggedFile, Standing
from pyrsia_node.artifacts.verified_log import ProvedEntry
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.leaves import Accepted
from pyrsia_node.model.maven import MavenFile, MavenProject
from tests.fakes.published_log import document, file_entry

JAR = file_entry("tool-1.jar", b"jar")


def pom(group: str) -> MavenFile:
    return MavenFile(MavenProject(group, "tool"), "1", "tool-1.pom")


def logged_version() -> LoggedFile:
    entry = Accepted(Sha256("0" * 64), document("pkg:maven/org.a/tool@1", JAR), 3, 0, (), ())
    return LoggedFile(JAR, ProvedEntry(7, entry, 1, 1000), Standing.SERVED, None)


def test_file_that_is_noted_as_the_last_lane_ends_is_brought() -> None:
    logged = logged_version()

    async def scenario() -> list[str]:
        may_end = asyncio.get_running_loop().create_future()
        brought: list[str] = []

        async def bring(file: MavenFile, _logged: LoggedFile) -> None:
            brought.append(file.project.group)
            await may_end

        ahead = FetchAhead(lambda _: logged, bring)
        ahead.after(pom("org.a"), logged)
        while not brought:
            await asyncio.sleep(0)
        may_end.set_result(None)
        # The lane has its turn first, and finds nothing more to do.
        await asyncio.sleep(0)
        ahead.after(pom("org.b"), logged)
        for _ in range(3):
            await asyncio.sleep(0)
        await ahead.close()
        return brought

    assert asyncio.run(scenario()) == ["org.a", "org.b"]


def test_file_does_not_wait_for_one_that_takes_long_while_a_lane_is_free() -> None:
    logged = logged_version()

    async def scenario() -> list[str]:
        brought: list[str] = []

        async def bring(file: MavenFile, _logged: LoggedFile) -> None:
            brought.append(file.project.group)
            await asyncio.get_running_loop().create_future()

        ahead = FetchAhead(lambda _: logged, bring)
        for number in range(LANES + 1):
            ahead.after(pom(f"org.{number}"), logged)
            await asyncio.sleep(0)
        await ahead.close()
        return brought

    assert asyncio.run(scenario()) == [f"org.{number}" for number in range(LANES)]
