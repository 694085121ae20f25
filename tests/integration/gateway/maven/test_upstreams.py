"""Upstream Maven repositories through a node: checked, kept, and never before the log."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import os
from contextlib import closing
from pathlib import Path

import pytest

from pyrsia_node.devnet.maven_repository import MavenRepository, serve_repository
from pyrsia_node.gateway.http_guard import HttpLimits
from pyrsia_node.gateway.http_server import HttpServer
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.statements import Revoke, Withdraw
from pyrsia_node.schema.maven_repositories import GroupPolicy, MavenUpstream
from pyrsia_node.schema.sections import MavenSection
from pyrsia_node.store.registry_db import SqliteRegistryDb
from pyrsia_node.transfer.asgi import Receive, Scope, Send
from tests.fakes.maven_node import (
    NOW,
    UPSTREAM,
    MavenNode,
    blob_of,
    evicted,
    get,
    jar,
    put,
    rewired,
    scenario,
)

LIB = "org/other/lib/2.0/lib-2.0.jar"
BYTES = jar("lib")


@pytest.mark.parametrize("kind", ["sha256", "sha1", "md5"])
def test_strongest_published_checksum_counts_and_is_named(tmp_path: Path, kind: str) -> None:
    async def act(it: MavenNode) -> None:
        put(it.folder, LIB, BYTES)
        stronger = ("sha256", "sha1", "md5").index(kind)
        it.upstream.absent |= {f"{LIB}.{each}" for each in ("sha256", "sha1", "md5")[:stronger]}
        answer = await it.http.get(f"/maven2/{LIB}")
        assert answer.content == BYTES
        assert answer.headers["x-pyrsia-verified"] == f"upstream; from=central; checked={kind}"
        asked = len(it.upstream.asked)
        for each in ("sha1", "md5", "sha256", "sha512"):
            assert (await get(it, f"{LIB}.{each}")).decode() == hashlib.new(each, BYTES).hexdigest()
        assert len(it.upstream.asked) == asked, "checksums are computed here"

    scenario(tmp_path, act)


def test_wrong_or_missing_checksum_lets_no_byte_through(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        put(it.folder, LIB, BYTES)
        it.upstream.extra[f"{LIB}.sha256"] = b"0" * 64
        assert b"its checksum file says 000" in await get(it, LIB, 502)
        it.upstream.absent |= {f"{LIB}.{each}" for each in ("sha256", "sha1", "md5")}
        assert b"publishes no checksum" in await get(it, LIB, 502)
        assert list(it.node.layout.partial.iterdir()) == []
        assert blob_of(it, BYTES) is None
        it.upstream.extra.clear()
        it.upstream.absent.clear()
        assert await get(it, LIB) == BYTES

    scenario(tmp_path, act)


def test_operator_may_let_files_without_checksums_through(tmp_path: Path) -> None:
    with serve_repository(MavenRepository([tmp_path / "plain"])) as plain:
        entry = MavenUpstream("plain", plain.url, allow_private=True, unchecked=True)

        async def act(it: MavenNode) -> None:
            put(tmp_path / "plain", LIB, BYTES)
            plain.absent |= {f"{LIB}.{each}" for each in ("sha256", "sha1", "md5")}
            answer = await it.http.get(f"/maven2/{LIB}")
            assert answer.headers["x-pyrsia-verified"] == "upstream; from=plain; checked=nothing"
            plain.absent.add("a/b/1/b-1.jar.sha256")
            plain.extra["a/b/1/b-1.jar"] = b"x"
            plain.extra["a/b/1/b-1.jar.sha1"] = b"0" * 40
            assert b"says 000" in await get(it, "a/b/1/b-1.jar", 502)

        scenario(tmp_path, act, MavenSection(policy="upstream", upstreams=(entry,)))


def test_log_wins_and_names_of_the_log_never_fall_through(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        it.accept("org.other:lib:2.0", ("lib-2.0.jar", jar("ours")))
        put(it.folder, LIB, BYTES)
        put(it.folder, "org/other/lib/3.0/lib-3.0.pom", b"<project/>")
        assert await get(it, LIB) == jar("ours")
        assert await get(it, "org/other/lib/3.0/lib-3.0.pom") == b"<project/>"
        listed = await get(it, "org/other/lib/maven-metadata.xml")
        assert b"<release>3.0</release>" in listed
        assert b"<version>2.0</version>" in listed
        it.upstream.status = 500
        assert b"<version>2.0</version>" in await get(it, "org/other/lib/maven-metadata.xml")
        assert LIB not in it.upstream.paths()

    scenario(tmp_path, act, NOW)


@pytest.mark.parametrize(
    "name", ["lib-2.0.pom", "lib-2.0.module", "lib-2.0.JAR", "lib-2.0-sources.jar", "lib-2.0-x.pom"]
)
def test_version_of_the_log_has_no_file_of_an_upstream(tmp_path: Path, name: str) -> None:
    """A pom or a module beside the network's jar would decide what else is resolved."""

    async def act(it: MavenNode) -> None:
        leaf = it.accept("org.other:lib:2.0", ("lib-2.0.jar", jar("ours")), claim="external")
        path = f"org/other/lib/2.0/{name}"
        for each in (path, f"{path}.asc"):
            put(it.folder, each, b"bait")
        for suffix in ("", ".sha1", ".asc", ".asc.sha1"):
            assert b"no file" in await get(it, path + suffix, 404)
        member, purl = it.node.log.local.members[0].id, Purl.maven("org.other", "lib", "2.0")
        it.node.log.state(Withdraw(member, purl, leaf, "a broken build", "00" * 16))
        await get(it, path, 404)
        assert it.upstream.asked == []

    scenario(tmp_path, act)


def test_strict_shuts_a_project_off_once_a_version_is_logged(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        put(it.folder, "org/other/lib/3.0/lib-3.0.pom", b"<project/>")
        assert await get(it, "org/other/lib/3.0/lib-3.0.pom") == b"<project/>"
        it.accept("org.other:lib:2.0", ("lib-2.0.jar", BYTES))
        await get(it, "org/other/lib/3.0/lib-3.0.pom", 404)
        assert b"3.0" not in await get(it, "org/other/lib/maven-metadata.xml")

    scenario(tmp_path, act, MavenSection(policy="upstream", strict=True))


def test_reserved_and_denied_groups_are_asked_of_nobody(tmp_path: Path) -> None:
    section = MavenSection(
        policy="upstream",
        policies=(GroupPolicy("net", "deny"), GroupPolicy("net.open", "upstream")),
        reserved=("com.acme",),
    )

    async def act(it: MavenNode) -> None:
        for path in ("com/acme/a/1/a-1.jar", "com/acme/in/a/1/a-1.jar", "net/a/1/a-1.jar"):
            put(it.folder, path, b"bait")
            assert b"pyrsia build maven" in await get(it, path, 404)
            folder = path.rpartition("/1/")[0]
            await get(it, f"{folder}/maven-metadata.xml", 404)
        await get(it, "com/acme/maven-metadata.xml", 404)
        assert it.upstream.asked == []
        put(it.folder, "com/acmes/a/1/a-1.jar", b"another group")
        put(it.folder, "net/open/a/1/a-1.jar", b"open")
        assert await get(it, "com/acmes/a/1/a-1.jar") == b"another group"
        assert await get(it, "net/open/a/1/a-1.jar") == b"open"

    scenario(tmp_path, act, section)


def test_absence_is_believed_for_a_while_and_costs_one_request(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        for _ in range(3):
            await get(it, LIB, 404)
            await get(it, f"{LIB}.sha1", 404)
        await get(it, "org/none/a/maven-metadata.xml", 404)
        await get(it, "org/none/a/maven-metadata.xml", 404)
        assert it.upstream.paths() == [LIB, "org/none/a/maven-metadata.xml"]

    scenario(tmp_path, act)


def test_what_is_asked_for_at_once_is_fetched_once(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        put(it.folder, LIB, BYTES)
        answers = await asyncio.gather(*(get(it, LIB) for _ in range(12)))
        assert set(answers) == {BYTES}
        assert sorted(it.upstream.paths()) == [LIB, f"{LIB}.sha256"]

    scenario(tmp_path, act)


def test_second_upstream_is_asked_for_what_the_first_lacks_and_not_in_its_stead(
    tmp_path: Path,
) -> None:
    with (
        serve_repository(MavenRepository([tmp_path / "one"])) as one,
        serve_repository(MavenRepository([tmp_path / "two"])) as two,
    ):
        entries = (
            MavenUpstream("one", one.url, allow_private=True),
            MavenUpstream("two", two.url, allow_private=True),
        )

        async def act(it: MavenNode) -> None:
            put(tmp_path / "two", LIB, BYTES)
            put(tmp_path / "two", "org/other/lib/2.0/lib-2.0.pom", b"<project/>")
            put(tmp_path / "one", "org/other/lib/1.0/lib-1.0.pom", b"<project/>")
            answer = await it.http.get(f"/maven2/{LIB}")
            assert answer.headers["x-pyrsia-verified"].startswith("upstream; from=two;")
            listed = await get(it, "org/other/lib/maven-metadata.xml")
            assert b"<version>1.0</version>" in listed
            assert b"<version>2.0</version>" in listed
            one.status = 503
            assert b"answered 503" in await get(it, "org/other/lib/2.0/lib-2.0.pom", 503)

        section = MavenSection(policy="upstream", upstreams=entries, fresh_seconds=0)
        scenario(tmp_path, act, section)


def test_listing_is_asked_about_again_and_sent_again_only_if_it_changed(tmp_path: Path) -> None:
    path = "org/other/lib/maven-metadata.xml"
    text = (
        b"<metadata><versioning><versions><version>%b</version></versions></versioning></metadata>"
    )

    async def act(it: MavenNode) -> None:
        put(it.folder, path, text % b"1.0")
        first = await get(it, path)
        assert await get(it, path) == first
        assert [each.status for each in it.upstream.asked] == [200, 304]
        put(it.folder, path, text % b"1.1")
        later = 2_000_000_000
        os.utime(it.folder / path, (later, later))
        assert b"<release>1.1</release>" in await get(it, path)
        (it.folder / path).unlink()
        await get(it, path, 404)
        await get(it, "org/other/never/maven-metadata.xml", 404)

    scenario(tmp_path, act, NOW)


def test_upstreams_clock_hides_no_version_of_the_log(tmp_path: Path) -> None:
    path = "org/other/lib/maven-metadata.xml"
    text = (
        b"<metadata><versioning><versions><version>1.0</version></versions>"
        b"<lastUpdated>99991231235959</lastUpdated></versioning></metadata>"
    )

    async def act(it: MavenNode) -> None:
        it.upstream.extra[path] = text
        first = await it.http.get(f"/maven2/{path}")
        assert b"9999" not in first.content
        it.accept("org.other:lib:2.0", ("lib-2.0.jar", BYTES))
        for date in ("Fri, 31 Dec 9999 23:59:59 GMT", "Sun, 01 Jan 2040 00:00:00 GMT"):
            again = await it.http.get(f"/maven2/{path}", headers={"if-modified-since": date})
            assert again.status_code == 200
            assert b"<version>2.0</version>" in again.content

    scenario(tmp_path, act)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"last-modified", b"Fri, 31 Dec 9999 23:59:59 -2359"),
        (b"last-modified", b"Fri, 31 Dec 9999 23:59:59 GMT"),
        (b"last-modified", b"\xff\xfe"),
        (b"etag", b'"\xff\xfe"'),
        (b"etag", b'"' + b"x" * 5000 + b'"'),
    ],
)
def test_hostile_fields_of_an_upstream_change_nothing(
    tmp_path: Path, field: bytes, value: bytes
) -> None:
    listing = (
        b"<metadata><versioning><versions><version>1.0</version></versions></versioning></metadata>"
    )

    async def upstream(scope: Scope, receive: Receive, send: Send) -> None:
        bodies = {"jar": BYTES, "xml": listing, "sha256": sha256_of(BYTES).encode()}
        body = bodies.get(scope["path"].rpartition(".")[2], b"")
        headers = [(field, value), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def act(it: MavenNode) -> None:
        it.accept("org.other:lib:3.0", ("lib-3.0.jar", b"three"))
        server = HttpServer(upstream, limits=HttpLimits())
        await server.start("127.0.0.1", 0)
        try:
            entry = MavenUpstream("odd", f"http://127.0.0.1:{server.port}", allow_private=True)
            section = dataclasses.replace(NOW, upstreams=(entry,))
            async with rewired(it, section) as odd:
                for _ in range(2):
                    assert await get(odd, LIB) == BYTES
                    listed = await get(odd, "org/other/lib/maven-metadata.xml")
                    assert b"<version>1.0</version>" in listed
                    assert b"<version>3.0</version>" in listed
        finally:
            await server.stop(grace_seconds=0)

    scenario(tmp_path, act)


def test_upstream_without_sha256_costs_one_request_more_for_a_file(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        put(it.folder, LIB, BYTES)
        it.upstream.absent.add(f"{LIB}.sha256")
        await get(it, LIB)
        await get(it, f"{LIB}.sha1")
        assert it.upstream.paths() == [LIB, f"{LIB}.sha256", f"{LIB}.sha1"]

    scenario(tmp_path, act)


def test_peers_are_told_of_a_file_that_was_taken_in(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        put(it.folder, LIB, BYTES)
        assert await get(it, LIB) == BYTES
        async with asyncio.timeout(5):
            while not it.node.core.announced:
                await asyncio.sleep(0)
        assert it.node.core.announced == [{"sha256": sha256_of(BYTES), "complete": True}]

    scenario(tmp_path, act)


@pytest.mark.parametrize("user", ["", "user:secret@"])
def test_private_upstreams_files_are_for_own_clients_alone(tmp_path: Path, user: str) -> None:
    with serve_repository(MavenRepository([tmp_path / "inside"])) as inside:
        url = inside.url.replace("http://", f"http://{user}")
        entry = MavenUpstream("inside", url, allow_private=True, importable=user != "")

        async def act(it: MavenNode) -> None:
            put(tmp_path / "inside", LIB, BYTES)
            assert await get(it, LIB) == BYTES
            where = blob_of(it, BYTES)
            assert where is not None
            assert where.parts[-3] == "local"
            assert await get(it, LIB) == BYTES
            where.unlink()
            section = MavenSection(policy="upstream", upstreams=(entry,))
            async with rewired(it, section) as again:
                assert await get(again, LIB) == BYTES
            assert it.node.core.announced == []
            assert it.node.core.asked == 0, "no peer learns what is wanted"
            assert inside.paths().count(LIB) == 2
            with closing(SqliteRegistryDb(it.node.layout.registry)) as db:
                kept = [(each.image, each.sha256) for each in db.proxied(limit=9)]
            assert kept == [("maven:inside", sha256_of(BYTES))], "garbage collection knows it"
            sent = inside.asked[0].headers.get("authorization")
            assert (sent is not None) == (user != "")

        scenario(tmp_path, act, MavenSection(policy="upstream", upstreams=(entry,)))


def test_signature_goes_with_the_upstreams_bytes_alone(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        put(it.folder, LIB, BYTES)
        put(it.folder, f"{LIB}.asc", b"a signature")
        it.accept("org.other:built:1.0", ("built-1.0.jar", BYTES))
        it.accept("org.other:same:1.0", ("same-1.0.jar", BYTES), origin="upstream")
        for name in ("built", "same"):
            put(it.folder, f"org/other/{name}/1.0/{name}-1.0.jar.asc", b"another signature")
        assert await get(it, f"{LIB}.asc") == b"a signature"
        sha1 = await get(it, f"{LIB}.asc.sha1")
        assert sha1.decode() == hashlib.sha1(b"a signature").hexdigest()  # noqa: S324 - Maven's
        await get(it, "org/other/built/1.0/built-1.0.jar.asc", 404)
        same = await get(it, "org/other/same/1.0/same-1.0.jar.asc")
        assert same == b"another signature"

    scenario(tmp_path, act)


def test_bytes_that_left_the_cache_come_again_and_must_be_the_same(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        put(it.folder, LIB, BYTES)
        assert await get(it, LIB) == BYTES
        it.peer.put(it.tmp, BYTES)
        asked = len(it.upstream.asked)
        async with evicted(it, BYTES) as again:
            assert await get(again, LIB) == BYTES
            assert len(it.upstream.asked) == asked, "a peer has them"
        it.node.core.holders = []
        put(it.folder, LIB, b"other bytes")
        async with evicted(it, BYTES) as again:
            assert b"changed at central" in await get(again, LIB, 502)
            assert (await get(again, f"{LIB}.sha256")).decode() == sha256_of(BYTES)
            put(it.folder, LIB, BYTES)
            assert await get(again, LIB) == BYTES

    scenario(tmp_path, act)


def test_revoked_bytes_are_refused_whoever_publishes_them(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        it.accept("org.other:same:1.0", ("same-1.0.jar", BYTES))
        member, purl = it.node.log.local.members[0].id, Purl.maven("org.other", "same", "1.0")
        it.node.log.state(Revoke(member, purl, sha256_of(BYTES), "a miner", "00" * 16))
        put(it.folder, LIB, BYTES)
        assert b"revoked by the network" in await get(it, LIB, 403)

    scenario(tmp_path, act)


def test_private_address_is_not_asked_unless_allowed(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        assert b"allow_private of central in maven.upstreams" in await get(it, LIB, 503)

    url = "http://127.0.0.1:9/maven2"
    scenario(
        tmp_path, act, MavenSection(policy="upstream", upstreams=(MavenUpstream("central", url),))
    )


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"",
        b"<!DOCTYPE metadata [<!ENTITY a 'b'>]><metadata/>",
        b"<metadata>" + b"<a>" * 100,
        b"\xff\xfe\x00",
        b"<metadata><versioning><versions>" + b"<version>1</version>" * 3 + b"</metadata>",
    ],
)
def test_hostile_listing_is_an_honest_error_and_the_log_stays(tmp_path: Path, body: bytes) -> None:
    async def act(it: MavenNode) -> None:
        path = "org/other/lib/maven-metadata.xml"
        it.upstream.extra[path] = body
        answer = await it.http.get(f"/maven2/{path}")
        assert answer.status_code == (404 if not body else 502)
        it.accept("org.other:lib:2.0", ("lib-2.0.jar", BYTES))
        assert b"<version>2.0</version>" in await get(it, path)

    scenario(tmp_path, act, UPSTREAM)
