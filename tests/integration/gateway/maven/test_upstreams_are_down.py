"""What a node gives of upstream Maven repositories while they are down or never asked."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from pyrsia_node.schema.sections import MavenSection
from tests.fakes.gateway_process import run_gateway
from tests.fakes.maven_node import (
    NOW,
    UPSTREAM,
    MavenNode,
    get,
    jar,
    maven_node,
    put,
    rewired,
    scenario,
)

LIB = "org/other/lib/2.0/lib-2.0.jar"
BYTES = jar("lib")


def test_down_upstream_leaves_what_is_here_and_says_so(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        put(it.folder, LIB, BYTES)
        put(it.folder, "org/other/lib/2.0/lib-2.0.pom", b"<project/>")
        listing = "org/other/lib/maven-metadata.xml"
        assert await get(it, LIB) == BYTES
        first = await get(it, listing)
        it.upstream.stop()
        assert await get(it, LIB) == BYTES
        stale = await it.http.get(f"/maven2/{listing}")
        assert (stale.content, "x-pyrsia-stale" in stale.headers) == (first, True)
        for path in ("org/other/lib/2.0/lib-2.0.pom", "org/new/a/maven-metadata.xml"):
            answer = await it.http.get(f"/maven2/{path}")
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        it.upstream.start()
        assert await get(it, "org/other/lib/2.0/lib-2.0.pom") == b"<project/>"
        assert "x-pyrsia-stale" not in (await it.http.get(f"/maven2/{listing}")).headers

    scenario(tmp_path, act, NOW)


def test_what_was_absent_is_absent_while_the_upstream_is_down(tmp_path: Path) -> None:
    """Maven asks for much that is nowhere; it goes on after 404 and stops at 503."""
    nowhere, new = "org/none/a/maven-metadata.xml", "org/new/a/1/a-1.jar"
    listing = "org/other/lib/maven-metadata.xml"

    async def act(it: MavenNode) -> None:
        put(it.folder, "org/other/gone/1.0/gone-1.0.pom", b"<project/>")
        gone = "org/other/gone/maven-metadata.xml"
        assert b"<version>1.0</version>" in await get(it, gone)
        (it.folder / "org/other/gone/1.0/gone-1.0.pom").unlink()
        for path in (LIB, f"{LIB}.sha1", nowhere, listing, gone):
            await get(it, path, 404)
        it.upstream.stop()
        assert b"when last asked" in await get(it, LIB, 404)
        assert b"when last asked" in await get(it, f"{LIB}.sha1", 404)
        for path in (nowhere, gone):
            await get(it, path, 404)
        for path in (new, "org/new/a/maven-metadata.xml"):
            await get(it, path, 503)
        it.accept("org.other:lib:3.0", ("lib-3.0.jar", b"three"))
        answer = await it.http.get(f"/maven2/{listing}")
        assert b"<version>3.0</version>" in answer.content
        assert "x-pyrsia-stale" in answer.headers
        it.upstream.start()
        put(it.folder, LIB, BYTES)
        assert await get(it, LIB) == BYTES

    scenario(tmp_path, act, NOW)


def test_killed_gateway_forgets_nothing_that_it_served(tmp_path: Path) -> None:
    async def run() -> None:
        async with maven_node(tmp_path, UPSTREAM) as it:
            put(it.folder, LIB, BYTES)
            assert await get(it, LIB) == BYTES
            it.process.kill()
            it.upstream.stop()
            async with run_gateway(it.node.layout) as again:
                it.http.base_url = again.url
                assert await get(it, LIB) == BYTES
                sha1 = await get(it, f"{LIB}.sha1")
                assert sha1.decode() == hashlib.sha1(BYTES).hexdigest()  # noqa: S324 - Maven's

    asyncio.run(run())


def test_offline_serves_what_is_here_and_asks_nobody(tmp_path: Path) -> None:
    listing = "org/other/lib/maven-metadata.xml"

    async def act(it: MavenNode) -> None:
        put(it.folder, LIB, BYTES)
        put(it.folder, "org/other/lib/2.0/lib-2.0.pom", b"<project/>")
        assert await get(it, LIB) == BYTES
        await get(it, listing)
        asked = len(it.upstream.asked)
        async with rewired(it, MavenSection(policy="upstream", offline=True)) as offline:
            assert await get(offline, LIB) == BYTES
            assert b"<version>2.0</version>" in await get(offline, listing)
            missing = await get(offline, "org/other/lib/2.0/lib-2.0.pom", 404)
            assert b"maven.offline is set" in missing
            await get(offline, "org/new/a/maven-metadata.xml", 404)
        assert len(it.upstream.asked) == asked

    scenario(tmp_path, act)
