"""A small project from its git repository to a client's disk, by four authorized nodes and a fifth.

One build is all it takes: what a quorum says, what four workers make, what the fifth node serves
when upstream and git are gone, and what proves it to somebody who trusts none of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrsia_node.devnet.git_server import make_repository
from pyrsia_node.devnet.maven_project import GAV, GROUP, LIBRARY, LIBRARY_FILES, TAG, VERSION
from tests.e2e.maven.stage import Stage, files_of, running_stage
from tests.integration.network.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("maven-four-nodes"),
]

FOLDER = f"{GROUP.replace('.', '/')}/{LIBRARY}"
JAR = f"{LIBRARY}-{VERSION}.jar"
POM = f"{LIBRARY}-{VERSION}.pom"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with running_stage(tmp_path_factory.mktemp("four"), authorized=4) as running:
        make_repository(running.git.folder / "hello.git", files=LIBRARY_FILES, tag=TAG)
        yield running


def test_library_is_mapped_rebuilt_and_served_with_proof_when_its_makers_are_gone(
    stage: Stage,
) -> None:
    until(lambda: stage.get(f"{FOLDER}/{VERSION}/{JAR}").status_code == 404, "a first checkpoint")
    stage.map_source(f"pkg:maven/{GROUP}/*", f"git+{stage.git.url}/hello.git", "v{version}")
    stage.build("--gav", GAV).ok()

    entry = stage.accepted(GAV)
    files = files_of(entry)
    assert len({each["id"] for each in entry["leaf"]["attestors"]}) >= 3
    assert {files[JAR]["claim"], files[POM]["claim"]} == {"rebuilt"}
    [source] = (each for name, each in files.items() if name.startswith("source-"))
    assert source["claim"] == "mirrored"
    assert (source["name"].endswith(".tar"), entry["leaf"]["doc"]["contradicts"]) == (True, [])

    assert stage.get(f"{FOLDER}/2.0/{LIBRARY}-2.0.jar").status_code == 404
    stage.switch_off()
    for name in (JAR, POM):
        found = stage.get(f"{FOLDER}/{VERSION}/{name}")
        assert (found.status_code, found.headers["x-pyrsia-verified"]) == (200, "log")
        assert hashlib.sha256(found.content).hexdigest() == files[name]["sha256"]
        checksum = stage.get(f"{FOLDER}/{VERSION}/{name}.sha1").text
        assert checksum == hashlib.sha1(found.content, usedforsecurity=False).hexdigest()
    assert f"<release>{VERSION}</release>" in stage.get(f"{FOLDER}/maven-metadata.xml").text

    kept = save(stage, JAR, stage.home)
    save(stage, f"{JAR}.tlog-proof", stage.home)
    shown = stage.pyrsia("verify", str(kept), "--bundle", f"{kept}.tlog-proof").ok()
    assert LIBRARY in shown.out
    kept.write_bytes(kept.read_bytes() + b"\0")
    assert stage.pyrsia("verify", str(kept), "--bundle", f"{kept}.tlog-proof").code == 3


def save(stage: Stage, name: str, folder: Path) -> Path:
    """Download a file of the library's version."""
    path = folder / name
    path.write_bytes(stage.get(f"{FOLDER}/{VERSION}/{name}").raise_for_status().content)
    return path
