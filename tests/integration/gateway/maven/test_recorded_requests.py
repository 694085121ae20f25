"""Every request of a recorded Maven, replayed: no Java machine is needed to see a regression.

The upstream has a file of made-up bytes wherever Maven found one.
"""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import httpx

from pyrsia_node.model.maven import CHECKSUMS
from tests.fakes.maven_node import MavenNode, put, scenario

RECORDING = Path(__file__).parents[3] / "vectors" / "maven" / "maven-requests.json"
NAMED = {"commons-io/commons-io": "2.11.0", "org/apache/maven/plugins/maven-source-plugin": "3.2.1"}


@dataclass(frozen=True)
class Recorded:
    method: str
    path: str
    status: int
    headers: dict[str, str]

    @property
    def is_listing(self) -> bool:
        return "maven-metadata.xml" in self.path

    @property
    def is_checksum(self) -> bool:
        return self.path.rpartition(".")[2] in CHECKSUMS


def recorded() -> list[Recorded]:
    shared, *rows = json.loads(RECORDING.read_text())
    return [
        Recorded(method, path, status, shared["headers"] | (own[0] if own else {}))
        for method, path, status, *own in rows
    ]


def content_of(path: str) -> bytes:
    return path.encode() * 10


def fill(folder: Path, requests: list[Recorded]) -> None:
    files = {each.path for each in requests if each.status == 200 and not each.is_checksum}
    for path, version in NAMED.items():
        files.add(f"{path}/{version}/{path.rpartition('/')[2]}-{version}.pom")
    files.add("org/codehaus/mojo/exec-maven-plugin/1.0/exec-maven-plugin-1.0.pom")
    for path in files:
        if not path.endswith("maven-metadata.xml"):
            put(folder, path, content_of(path))


def check(request: Recorded, answer: httpx.Response) -> None:
    assert answer.status_code == request.status, (request.path, answer.text)
    if request.status != 200 or request.is_listing:
        return
    if request.is_checksum:
        path, _, kind = request.path.rpartition(".")
        assert answer.text == hashlib.new(kind, content_of(path)).hexdigest()
    else:
        assert answer.content == content_of(request.path)
        assert answer.headers["x-pyrsia-verified"] == "upstream; from=central; checked=sha256"


async def check_listings(it: MavenNode, requests: list[Recorded]) -> None:
    """Each listing fits the checksum that is asked for right after it."""
    for request in requests:
        if request.is_listing and not request.is_checksum:
            answer = await it.http.get(f"/maven2/{request.path}")
            sha1 = await it.http.get(f"/maven2/{request.path}.sha1")
            assert sha1.text == hashlib.sha1(answer.content).hexdigest()  # noqa: S324 - Maven's
            root = ET.fromstring(answer.content)  # noqa: S314 - our own answer
            version = NAMED.get(request.path.removesuffix("/maven-metadata.xml"))
            prefixes = {each.text for each in root.iterfind("plugins/plugin/prefix")}
            assert root.findtext("versioning/release") == version
            assert version or prefixes & {"exec", "source"}


def test_recorded_maven_gets_everything_once_and_again_without_the_upstream(
    tmp_path: Path,
) -> None:
    requests = recorded()

    async def act(it: MavenNode) -> None:
        fill(it.folder, requests)
        etags: dict[str, str] = {}
        for request in requests:
            answer = await it.http.request(
                request.method, f"/maven2/{request.path}", headers=request.headers
            )
            check(request, answer)
            etags[request.path] = answer.headers.get("etag", "")
        await check_listings(it, requests)
        files = {each.path for each in requests if each.status == 200 and not each.is_checksum}
        assert len(it.upstream.asked) <= 2 * len(files) + 10, "each is asked for once"
        it.upstream.stop()
        for request in requests:
            if request.status == 200:
                path = f"/maven2/{request.path}"
                check(request, await it.http.get(path, headers=request.headers))
        for request in requests[::7]:
            if request.status == 200 and not request.is_listing:
                await check_conditions(it.http, request.path, etags[request.path])

    scenario(tmp_path, act)


async def check_conditions(http: httpx.AsyncClient, path: str, etag: str) -> None:
    head = await http.head(f"/maven2/{path}")
    assert (head.status_code, head.headers["etag"]) == (200, etag)
    known = {"if-none-match": etag}
    assert (await http.get(f"/maven2/{path}", headers=known)).status_code == 304
    since = {"if-modified-since": head.headers["last-modified"]}
    assert (await http.get(f"/maven2/{path}", headers=since)).status_code == 304
