"""Members ask an outside pipeline, which is another worker; the entry is external everywhere."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from buildpipelines.spec.messages import BuildResult
from pyrsia_cli.entries import detail_of
from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.devnet.ports import free_ports
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.maven_repositories import MavenUpstream
from tests.fakes.maven_site import GROUP, TAG, MavenSite, maven_site, project, run_trial
from tests.integration.network.evidence import leaves_on_disk, processes_of
from tests.integration.network.waiting import until

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(420)]

BUILD_S = 240.0
WITHOUT = "authorized-4"
PURL = "pkg:maven/org.example/hello@1.0"


@dataclass
class Outside:
    """A pipeline that is no part of the network, and what it makes of the one project."""

    url: str
    site: MavenSite


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    (port,) = free_ports(1)
    folder = tmp_path / "outside"
    folder.mkdir()
    with maven_site(tmp_path) as site:
        source = site.add("hello", project("hello"))
        with site.worker(folder, "--contract-listen", f"127.0.0.1:{port}") as worker:
            made = run_trial(worker, "published", "hello", source=source, tag=TAG)
            assert isinstance(made, BuildResult), made
            for file in made.files:
                if file.claim == "rebuilt":
                    site.publish("hello", file.name, Path(file.path).read_bytes())
            yield Outside(f"http://127.0.0.1:{port}", site)


@pytest.fixture
def cluster(tmp_path: Path, outside: Outside) -> Iterator[Cluster]:
    url = outside.site.repository.url
    upstream = MavenUpstream("central", url, allow_private=True, importable=True)

    def configure(config: Config) -> Config:
        asked = "" if config.node.label == WITHOUT else outside.url
        return dataclasses.replace(
            config,
            maven=dataclasses.replace(config.maven, upstreams=(upstream,)),
            build=dataclasses.replace(config.build, external=asked, external_private=True),
        )

    with Cluster.create(tmp_path / "net", authorized=4, regular=1, configure=configure) as made:
        made.start()
        made.wait_ready(timeout_s=120)
        made.wait_connected()
        yield made
    assert processes_of(tmp_path / "net") == {}


def leaves(cluster: Cluster, kind: str) -> list[dict[str, Any]]:
    found = map(json.loads, leaves_on_disk(cluster.members[0]))
    return [each for each in found if each["t"] == kind]


def map_source(cluster: Cluster, outside: Outside) -> None:
    """Let a quorum say where the project comes from."""
    content = {
        "pattern": PURL.partition("@")[0],
        "repository": outside.site.address("hello"),
        "tag": TAG.replace("1.0", "{version}"),
        "recipe": {},
        "reason": "its home",
    }
    for member in cluster.members[:3]:
        cluster.call(member.label, "propose", {"op": "add_source", "content": content})
    until(lambda: bool(cluster.call("regular-1", "sources", {})["sources"]), "a mapping", 60.0)


def test_what_an_outside_pipeline_made_is_external_for_everybody(
    cluster: Cluster, outside: Outside
) -> None:
    map_source(cluster, outside)
    options = {"pipeline": "external", "source": outside.site.address("hello"), "tag": TAG}
    asked = {"ecosystem": "maven", "name": f"{GROUP}:hello", "version": "1.0", "options": options}
    started = cluster.call("regular-1", "build", asked)
    told: dict[str, Any] = {}

    def has_ended() -> bool:
        told.update(cluster.call("regular-1", "build_status", {"build_id": started["build_id"]}))
        return told["state"] in {"accepted", "diverged", "failed", "expired", "refused"}

    until(has_ended, "answers of the pipeline", BUILD_S)
    assert told["state"] == "accepted", told

    [request] = leaves(cluster, "build_request")
    assert (request["claim"], request["source"]["kind"]) == ("external", "mapping")
    [accepted] = leaves(cluster, "accepted")
    files = {each["name"]: each for each in accepted["doc"]["files"]}
    claims = {name: each["claim"] for name, each in files.items()}
    assert claims == {
        "hello-1.0.jar": "external",
        "hello-1.0.pom": "external",
        request["source"]["file"]: "mirrored",
    }
    assert accepted["doc"]["contradicts"] == []
    ids = {node.peer_id for node in cluster.members if node.label != WITHOUT}
    assert {each["id"] for each in accepted["attestors"]} == ids
    assert detail_of(accepted) == "3 of k=3 agree at L0, external"

    items = [item for batch in leaves(cluster, "attest_batch") for item in batch["items"]]
    assert {"no external pipeline"} == {each["cause"] for each in items if "cause" in each}

    root = cluster.nodes["regular-1"].http_url
    answer = httpx.get(f"{root}/maven2/org/example/hello/1.0/hello-1.0.jar", timeout=60)
    assert answer.status_code == 200
    assert answer.headers["x-pyrsia-verified"] == "log; claim=external"
    for member in cluster.members:
        socket = str(member.layout.contract_socket)
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket)) as client:
            assert client.get("http://localhost/build/unknown").status_code == 404

    for query, found in (("claim:external", 1), ("claim:rebuilt", 0)):
        found_by = httpx.get(f"{root}/api/v1/search", params={"q": query}, timeout=60).json()
        purls = [each["purl"] for each in found_by["hits"]]
        assert purls.count(PURL) == found, (query, purls)
