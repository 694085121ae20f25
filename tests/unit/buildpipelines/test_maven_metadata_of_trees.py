"""Parents of a built pom are found beside it in the source, as Maven finds them."""

from __future__ import annotations

import asyncio
import io
import tarfile
from pathlib import Path

import pytest

from buildpipelines.errors import BuildFailure
from buildpipelines.inputs.maven_proxy import ReplayRepository
from buildpipelines.spec.coordinates import parse_coordinates
from buildpipelines.spec.lock import Lock, LockedFile, make_lock
from buildpipelines.spec.metadata import Metadata
from buildpipelines.worker import maven_metadata
from buildpipelines.worker.maven_metadata import read_metadata

CORE = parse_coordinates("g:core", "1")
NAMES = "<groupId>g</groupId><artifactId>{}</artifactId><version>{}</version>"


def pom(artifact: str, *, more: str = "", version: str = "1") -> bytes:
    return f"<project>{NAMES.format(artifact, version)}{more}</project>".encode()


def child_of(parent: str, version: str = "1") -> bytes:
    return pom("core", more=f"<parent>{NAMES.format(parent, version)}</parent>")


def source_tar(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "source.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def metadata(
    folder: Path, built: bytes, files: dict[str, bytes], locked: dict[str, bytes] | None = None
) -> Metadata:
    paths: dict[str, Path] = {}
    entries = []
    for number, (path, content) in enumerate((locked or {}).items()):
        digest = f"{number:064x}"
        paths[digest] = folder / digest
        paths[digest].write_bytes(content)
        project, _, name = path.rpartition("/")
        entries.append(LockedFile("maven", project, name, digest, len(content)))
    inputs = ReplayRepository(make_lock(entries) if entries else Lock(()), paths)
    tar = source_tar(folder, files)
    return asyncio.run(read_metadata(built, CORE, inputs=inputs, source=tar, module="core"))


LICENCE = "<licenses><license><name>MIT</name></license></licenses>"


def test_parent_beside_the_module_is_inherited_from(tmp_path: Path) -> None:
    built = child_of("family")
    files = {"pom.xml": pom("family", more=LICENCE), "core/pom.xml": built}
    assert metadata(tmp_path, built, files).licence == "MIT"


def test_place_of_the_pom_is_where_its_bytes_lie(tmp_path: Path) -> None:
    built = child_of("family")
    files = {"a/pom.xml": pom("family", more=LICENCE), "a/b/pom.xml": built}
    assert metadata(tmp_path, built, files).licence == "MIT"


def test_parent_of_another_version_is_looked_for_among_the_locked_files(tmp_path: Path) -> None:
    built = child_of("family", "2")
    files = {"pom.xml": pom("family", more="<url>https://x.example/</url>"), "core/pom.xml": built}
    locked = {"g/family/2/family-2.pom": pom("family", version="2", more=LICENCE)}
    found = metadata(tmp_path, built, files, locked)
    assert (found.licence, found.homepage) == ("MIT", "")


def test_line_of_parents_goes_on_from_tree_to_lock(tmp_path: Path) -> None:
    built = child_of("family")
    grand = f"<parent>{NAMES.format('grand', '9')}</parent>"
    files = {"pom.xml": pom("family", more=grand), "core/pom.xml": built}
    locked = {"g/grand/9/grand-9.pom": pom("grand", version="9", more=LICENCE)}
    assert metadata(tmp_path, built, files, locked).licence == "MIT"


def test_poms_that_are_each_others_parents_come_to_an_end(tmp_path: Path) -> None:
    built = child_of("core").replace(b"</parent>", b"<relativePath>.</relativePath></parent>")
    assert metadata(tmp_path, built, {"core/pom.xml": built}).name == "g:core"


def test_poms_of_a_source_are_looked_at_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = child_of("family")
    files = {"core/pom.xml": built, "pom.xml": pom("family", more=LICENCE)}
    assert metadata(tmp_path, built, files).licence == "MIT"
    monkeypatch.setattr(maven_metadata, "POMS_BYTES_MAX", len(built))
    assert metadata(tmp_path, built, files).licence == ""


def test_pom_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildFailure, match="not of g:core:1"):
        metadata(tmp_path, pom("core", version="2"), {})


def test_broken_parent_is_named(tmp_path: Path) -> None:
    built = child_of("family")
    with pytest.raises(BuildFailure, match="pom"):
        metadata(tmp_path, built, {"pom.xml": b"<project>", "core/pom.xml": built})
