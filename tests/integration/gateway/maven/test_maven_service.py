"""The Maven repository of a real gateway process: what the log vouches for, asked over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.documents import Contradiction
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.statements import Revoke, Withdraw
from pyrsia_node.schema.sections import MavenSection
from pyrsia_node.tlog.verify import verify_bundle
from tests.fakes.maven_node import MavenNode, jar, maven_node, pom, put, scenario
from tests.fakes.published_log import document, file_entry

JAR, POM = jar(), pom("org.example", "tool", "1.0")
FOLDER = "/maven2/org/example/tool"
FILE = f"{FOLDER}/1.0/tool-1.0.jar"
DENY = MavenSection()


def fill(it: MavenNode) -> None:
    it.accept("org.example:tool:1.0", ("tool-1.0.jar", JAR), ("tool-1.0.pom", POM))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MavenNode]:
    """Run one gateway for all tests that only ask; its event loop runs in a thread."""
    with asyncio.Runner() as runner, ThreadPoolExecutor(1) as thread:
        stack = AsyncExitStack()
        folder = tmp_path_factory.mktemp("shared")
        loop = runner.get_loop()
        it = runner.run(stack.enter_async_context(maven_node(folder, DENY)))
        fill(it)
        it.accept("org.example:more:1.0+x", ("more-1.0+x.jar", b"more"))
        running = thread.submit(loop.run_forever)
        try:
            yield it
        finally:
            loop.call_soon_threadsafe(loop.stop)
            running.result()
            runner.run(stack.aclose())


@pytest.fixture
def http(shared: MavenNode) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared.url, timeout=20) as client:
        yield client


def test_file_is_served_with_all_its_checksums(http: httpx.Client) -> None:
    answer = http.get(FILE)
    assert (answer.status_code, answer.content) == (200, JAR)
    assert answer.headers["content-type"] == "application/java-archive"
    assert answer.headers["x-pyrsia-verified"] == "log"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    for kind in ("sha1", "md5", "sha256", "sha512"):
        checksum = http.get(f"{FILE}.{kind}")
        assert checksum.text == hashlib.new(kind, JAR).hexdigest()
        assert checksum.headers["x-pyrsia-verified"] == "log"


def test_head_ranges_and_conditions(http: httpx.Client) -> None:
    head = http.head(FILE)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(JAR)
    part = http.get(FILE, headers={"range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, JAR[2:6])
    assert http.get(FILE, headers={"range": f"bytes={len(JAR)}-"}).status_code == 416
    etag, modified = head.headers["etag"], head.headers["last-modified"]
    assert http.get(FILE, headers={"if-none-match": etag}).status_code == 304
    assert http.get(FILE, headers={"if-modified-since": modified}).status_code == 304
    long_ago = {"if-modified-since": "Thu, 01 Jan 1970 00:00:00 GMT"}
    assert http.get(FILE, headers=long_ago).status_code == 200
    other = {"if-none-match": '"other"', "if-modified-since": modified}
    assert http.get(FILE, headers=other).status_code == 200
    assert http.get(f"{FILE}.sha1", headers={"if-modified-since": modified}).status_code == 304


def test_metadata_lists_the_versions_of_the_log(http: httpx.Client, shared: MavenNode) -> None:
    answer = http.get(f"{FOLDER}/maven-metadata.xml")
    assert answer.headers["x-pyrsia-verified"] == "log"
    assert answer.headers["content-type"] == "text/xml; charset=utf-8"
    root = ET.fromstring(answer.content)  # noqa: S314 - our own answer
    assert root.findtext("groupId") == "org.example"
    assert root.findtext("artifactId") == "tool"
    assert root.findtext("versioning/release") == root.findtext("versioning/latest") == "1.0"
    assert [each.text for each in root.iterfind("versioning/versions/version")] == ["1.0"]
    assert (root.findtext("versioning/lastUpdated") or "").startswith("2023")
    for kind in ("sha1", "md5", "sha256", "sha512"):
        checksum = http.get(f"{FOLDER}/maven-metadata.xml.{kind}").text
        assert checksum == hashlib.new(kind, answer.content).hexdigest()
    again = http.get(
        f"{FOLDER}/maven-metadata.xml", headers={"if-none-match": answer.headers["etag"]}
    )
    assert again.status_code == 304
    since = {"if-modified-since": answer.headers["last-modified"]}
    assert http.get(f"{FOLDER}/maven-metadata.xml", headers=since).status_code == 304


def test_proof_verifies_offline_and_the_statement_is_about_the_file(
    http: httpx.Client, shared: MavenNode
) -> None:
    proof = http.get(f"{FILE}.tlog-proof").content
    trust = shared.node.log.trust
    verify_bundle(
        proof,
        trust,
        file_sha256=hashlib.sha256(JAR).hexdigest(),
        purl="pkg:maven/org.example/tool@1.0",
        file_name="tool-1.0.jar",
    )
    statement = json.loads(http.get(f"{FILE}.intoto.jsonl").content)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [
        {"name": "tool-1.0.jar", "digest": {"sha256": hashlib.sha256(JAR).hexdigest()}}
    ]
    said = statement["predicate"]
    assert (said["claim"], said["level"], len(said["attestors"])) == ("rebuilt", 0, 3)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("org/example/none/1.0/none-1.0.jar", "pyrsia build maven --gav org.example:none:1.0"),
        ("org/example/tool/2.0/tool-2.0.jar", "versions known: 1.0"),
        ("org/example/tool/1.0/tool-1.0-sources.jar", "no file tool-1.0-sources.jar"),
        ("org/example/tool/1.0/tool-1.0-sources.jar.sha1", "no file tool-1.0-sources.jar"),
        ("org/example/tool/1.0-SNAPSHOT/tool-1.0-SNAPSHOT.jar", "is a snapshot"),
        ("org/example/tool/1.0-SNAPSHOT/maven-metadata.xml", "is a snapshot"),
        ("org/example/none/maven-metadata.xml", "nothing is known of org.example:none"),
        ("org/example/tool/1.0/tool-1.0.jar.asc", "the network's own build"),
        ("org/example/tool/1.0/tool-1.0.jar.tlog-proof.sha1", "no checksums of .tlog-proof"),
        ("org/example/tool/1.0/", "folders are not listed"),
        ("org.example/x/tool/1.0/tool-1.0.jar", "write a group's dots as slashes"),
    ],
)
def test_what_is_not_there_is_404_with_what_to_do(http: httpx.Client, path: str, text: str) -> None:
    answer = http.get(f"/maven2/{path}")
    assert answer.status_code == 404
    assert text in answer.text


@pytest.mark.parametrize(
    "path",
    [
        b"/maven2/org/example/../example/tool/1.0/tool-1.0.jar",
        b"/maven2/org/example/%2e%2e/example/tool/1.0/tool-1.0.jar",
        b"/maven2/org/example/tool/1.0/..%2f1.0%2ftool-1.0.jar",
        b"/maven2/org%2fexample/tool/1.0/tool-1.0.jar",
        b"/maven2/org/example/tool/1.0/%252e%252e",
        b"/maven2/org/example/tool/1.0/tool-1.0.jar%00",
        b"/maven2/org/example/tool/1.0/tool-1.0.jar%00.sha1",
        b"/maven2/org/example/tool\\1.0/tool-1.0.jar",
        b"/maven2/org/example/tool/1.0/%5ctool-1.0.jar",
        b"/maven2/%6frg/example/tool/1.0/tool-1.0.jar",
        b"/maven2/org//example/tool/1.0/tool-1.0.jar",
        b"/maven2//org/example/tool/1.0/tool-1.0.jar",
        b"/maven2/org/example/tool/1.0/tool-1.0.jar/",
        b"/maven2/org/example/tool/1.0/.tool-1.0.jar",
        b"/maven2/" + b"a/" * 600 + b"b.jar",
        b"/maven2/org/example/tool/1.0/" + b"x" * 5000,
        b"/maven2/org/example/tool/1.0/tool-1.0.jar%",
        b"/maven2/org/example/tool/1.0/tool-1.0.jar%c3%a9",
    ],
)
def test_tricks_with_paths_are_404(shared: MavenNode, path: bytes) -> None:
    assert raw_status(shared, b"GET", path) == 404


def raw_status(it: MavenNode, method: bytes, path: bytes, *fields: bytes) -> int:
    """Send a request as it is, which no client library would."""
    host, _, port = it.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        lines = [method + b" " + path + b" HTTP/1.1", b"host: localhost", b"connection: close"]
        connection.sendall(b"\r\n".join([*lines, *fields, b"", b""]))
        return int(connection.makefile("rb").readline().split()[1])


def test_plus_may_be_encoded_and_the_query_means_nothing(shared: MavenNode) -> None:
    for plus in (b"+", b"%2B", b"%2b"):
        name = b"/maven2/org/example/more/1.0%bx/more-1.0%bx.jar" % (plus, plus)
        assert raw_status(shared, b"GET", name) == 200
    assert raw_status(shared, b"GET", FILE.encode() + b"?x=1") == 200


def test_writing_is_refused_with_what_to_do_instead(http: httpx.Client) -> None:
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        answer = http.request(method, FILE, content=b"x" * 100)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "GET, HEAD"
        assert "pyrsia build maven" in answer.text


def test_strange_headers_change_nothing(http: httpx.Client) -> None:
    for headers in (
        {"accept": "application/x-nothing;q=0.0001, ;;;"},
        {"range": "bytes=-"},
        {"range": "lines=1-2"},
        {"if-modified-since": "yesterday"},
        {"if-modified-since": "Mon, 99 Foo 99999 99:99:99 GMT"},
        {"if-none-match": "no quotes"},
        {"accept-encoding": "gzip,deflate"},
    ):
        assert http.get(FILE, headers=headers).content == JAR


segment = st.sampled_from(
    [
        b"org",
        b"example",
        b"tool",
        b"1.0",
        b"tool-1.0.jar",
        b"maven-metadata.xml",
        b"..",
        b"%2e",
        b"%2F",
        b"%",
        b"",
        b"tool-1.0.pom.sha1",
        b"1.0-SNAPSHOT",
        b"a.asc",
        b"%00",
        b"\xff",
        b"+",
    ]
) | st.binary(max_size=12).map(lambda raw: bytes(c for c in raw if c > 32))


@settings(max_examples=60)
@given(
    st.lists(segment, max_size=7),
    st.sampled_from([b"GET", b"HEAD"]),
    st.lists(
        st.sampled_from(
            [b"range: bytes=1-", b"if-none-match: *", b"if-modified-since: \xff", b"accept: \x80"]
        ),
        max_size=2,
    ),
)
def test_no_request_is_ever_500(
    shared: MavenNode, path: list[bytes], method: bytes, fields: list[bytes]
) -> None:
    target = b"/maven2/" + b"/".join(path).replace(b"?", b"").replace(b"#", b"")
    assert raw_status(shared, method, target, *fields) in {200, 206, 304, 400, 404, 416}


def test_first_entry_wins_and_another_versions_file_has_no_say(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        # An entry of 0.9 that names a file of 1.0 must not take that name.
        it.accept("org.example:tool:0.9", ("tool-1.0.jar", b"smuggled"))
        fill(it)
        it.accept("org.example:tool:1.0", ("tool-1.0.jar", b"another build"))
        assert (await it.http.get(FILE)).content == JAR
        listed = (await it.http.get(f"{FOLDER}/maven-metadata.xml")).text
        assert "<release>1.0</release>" in listed

    scenario(tmp_path, act, DENY)


def test_external_entry_that_came_first_keeps_its_names_until_it_is_withdrawn(
    tmp_path: Path,
) -> None:
    async def act(it: MavenNode) -> None:
        first = it.accept("org.example:tool:1.0", ("tool-1.0.jar", b"outside"), claim="external")
        it.accept("org.example:tool:1.0", ("tool-1.0.jar", JAR))
        answer = await it.http.get(FILE)
        assert answer.content == b"outside"
        assert answer.headers["x-pyrsia-verified"] == "log; claim=external"
        member, purl = it.node.log.local.members[0].id, Purl.maven("org.example", "tool", "1.0")
        it.node.log.state(Withdraw(member, purl, first, "rebuilt since", "00" * 16))
        answer = await it.http.get(FILE)
        assert answer.content == JAR
        assert answer.headers["x-pyrsia-verified"] == "log"

    scenario(tmp_path, act, DENY)


def test_contradicting_builds_are_withheld_and_external_ones_are_called_so(
    tmp_path: Path,
) -> None:
    async def act(it: MavenNode) -> None:
        against = (Contradiction("tool-1.0.jar", sha256_of(b"published")),)
        entry = file_entry("tool-1.0.jar", JAR, origin="built")
        it.node.log.accept(document("pkg:maven/org.example/tool@1.0", entry, contradicts=against))
        answer = await it.http.get(FILE)
        assert (answer.status_code, "contradicting" in answer.text) == (404, True)
        assert "what differs: pyrsia build explain " in answer.text
        it.accept("org.example:other:1.0", ("other-1.0.jar", JAR), claim="external")
        other = await it.http.get("/maven2/org/example/other/1.0/other-1.0.jar")
        assert other.headers["x-pyrsia-verified"] == "log; claim=external"
        statement = await it.http.get("/maven2/org/example/other/1.0/other-1.0.jar.intoto.jsonl")
        assert statement.json()["predicate"]["claim"] == "external"

    scenario(tmp_path, act, DENY)


def test_what_a_build_contradicts_is_no_upstreams_either_until_another_build_agrees(
    tmp_path: Path,
) -> None:
    async def act(it: MavenNode) -> None:
        """Withdrawal alone brings nothing back: it lets another entry name other bytes."""
        put(it.folder, FILE.removeprefix("/maven2/"), b"published")
        against = (Contradiction("tool-1.0.jar", sha256_of(b"published")),)
        entry = file_entry("tool-1.0.jar", JAR, origin="built")
        purl = "pkg:maven/org.example/tool@1.0"
        leaf = it.node.log.accept(document(purl, entry, contradicts=against))
        assert (await it.http.get(FILE)).status_code == 404
        member = it.node.log.local.members[0].id
        gone = Withdraw(member, Purl.parse(purl), leaf, "a wrong mapping", "00" * 16)
        it.node.log.state(gone)
        assert (await it.http.get(FILE)).status_code == 403
        assert it.upstream.asked == []
        it.accept("org.example:tool:1.0", ("tool-1.0.jar", b"published"))
        assert (await it.http.get(FILE)).content == b"published"

    scenario(tmp_path, act, MavenSection(policy="upstream"))


def test_plugins_of_a_group_are_listed_by_their_names_and_both_readings_of_a_path_together(
    tmp_path: Path,
) -> None:
    async def act(it: MavenNode) -> None:
        for artifact in ("exec-maven-plugin", "tool", "maven-lint-plugin"):
            it.accept(f"org.example:{artifact}:1.0", (f"{artifact}-1.0.jar", artifact.encode()))
        it.accept("org.example.deep:far-maven-plugin:1.0", ("far-maven-plugin-1.0.jar", b"far"))
        it.accept("org:example:3.0", ("example-3.0.jar", b"an artifact called as the group"))
        root = ET.fromstring((await it.http.get("/maven2/org/example/maven-metadata.xml")).content)  # noqa: S314 - our own answer
        plugins = {
            each.findtext("prefix"): each.findtext("artifactId")
            for each in root.iterfind("plugins/plugin")
        }
        assert plugins == {"exec": "exec-maven-plugin", "lint": "maven-lint-plugin"}
        assert (root.findtext("groupId"), root.findtext("artifactId")) == ("org", "example")
        assert root.findtext("versioning/release") == "3.0"

    scenario(tmp_path, act, DENY)


def test_revoked_bytes_are_refused_and_withdrawn_versions_are_not_listed(tmp_path: Path) -> None:
    async def act(it: MavenNode) -> None:
        fill(it)
        leaf = it.accept("org.example:tool:2.0", ("tool-2.0.jar", b"two"))
        member, nonce = it.node.log.local.members[0].id, "00" * 16
        one, two = (Purl.maven("org.example", "tool", each) for each in ("1.0", "2.0"))
        it.node.log.state(Withdraw(member, two, leaf, "a broken build", nonce))
        it.node.log.state(Revoke(member, one, sha256_of(JAR), "a miner", nonce))
        for path in (FILE, f"{FILE}.sha1", f"{FOLDER}/2.0/tool-2.0.jar"):
            answer = await it.http.get(path)
            assert answer.status_code == 403, answer.text
            assert "by the network" in answer.text
        listed = (await it.http.get(f"{FOLDER}/maven-metadata.xml")).text
        assert "2.0" not in listed

    scenario(tmp_path, act, DENY)
