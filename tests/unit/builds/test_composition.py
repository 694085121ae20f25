"""What a member attests: upstream's bytes where the build equals them, its own where it may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from buildpipelines.spec.lock import Lock
from buildpipelines.spec.messages import BuildResult, OutputFile, Source
from buildpipelines.spec.metadata import Metadata
from pyrsia_node.builds.composition import compose, files_to_store
from pyrsia_node.builds.roots import BuiltFile, own_roots
from pyrsia_node.model import canonical
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.errors import VerificationError
from pyrsia_node.schema.links import Stored
from pyrsia_node.tlog.tree import leaf_hash, node_hash

OWN, UPSTREAM, SDIST = "a" * 64, "b" * 64, "c" * 64
WHEEL = "x-1.0-py3-none-any.whl"


def output(level: int | None, *, sha256: str = OWN, upstream: str | None = UPSTREAM) -> OutputFile:
    return OutputFile(
        name=WHEEL,
        path="/job/out.whl",
        size=10,
        sha256=sha256,
        l1="1" * 64,
        l2="2" * 64,
        media="application/zip",
        claim="rebuilt",
        upstream_sha256=upstream,
        upstream_path="/job/up.whl" if upstream else None,
        level=level,
    )


def mirrored() -> OutputFile:
    return replace(output(None, sha256=SDIST, upstream=None), name="x-1.0.tar.gz", claim="mirrored")


def result(*files: OutputFile) -> BuildResult:
    return BuildResult(
        purl="pkg:pypi/x@1.0",
        source=Source("sdist", "x-1.0.tar.gz", SDIST, 5),
        pipeline={"id": "pypi", "version": 1, "digest": "d" * 64},
        toolchain="e" * 64,
        lock=Lock(()),
        recipe={},
        metadata=Metadata(name="x", version="1.0"),
        files=files,
        environment={},
        seconds=1.0,
        log_path="/job/log",
    )


def stored(*digests: str) -> dict[str, Stored]:
    return {each: Stored(sha256=each, size=10, pieces="f" * 64) for each in digests}


@pytest.mark.parametrize("level", [0, 1, 2])
def test_an_equal_build_serves_the_upstreams_own_bytes(level: int) -> None:
    composed = compose(result(output(level)), stored(OWN, UPSTREAM))
    (entry,) = composed.document.files
    assert (entry.sha256, entry.origin) == (UPSTREAM, "upstream")
    assert composed.level == level
    assert composed.document.contradicts == ()


def test_a_different_build_contradicts_the_published_file() -> None:
    composed = compose(result(output(3)), stored(OWN, UPSTREAM))
    (entry,) = composed.document.files
    assert (entry.sha256, entry.origin) == (OWN, "built")
    assert [(each.name, each.sha256) for each in composed.document.contradicts] == [
        (WHEEL, UPSTREAM)
    ]


def test_a_name_that_the_upstream_lacks_is_served_from_the_build() -> None:
    composed = compose(result(output(None, upstream=None)), stored(OWN))
    (entry,) = composed.document.files
    assert (entry.sha256, entry.origin, composed.level) == (OWN, "built", 0)


def test_files_stand_in_order_of_their_names_and_the_sdist_is_mirrored() -> None:
    composed = compose(result(mirrored(), output(0)), stored(OWN, UPSTREAM, SDIST))
    assert [(each.name, each.claim) for each in composed.document.files] == [
        (WHEEL, "rebuilt"),
        ("x-1.0.tar.gz", "mirrored"),
    ]


def test_a_mirrored_file_takes_no_part_in_the_roots() -> None:
    alone = compose(result(output(0)), stored(OWN, UPSTREAM))
    both = compose(result(output(0), mirrored()), stored(OWN, UPSTREAM, SDIST))
    assert alone.own == both.own


def test_a_digest_that_the_gateway_never_saw_is_not_attested() -> None:
    with pytest.raises(VerificationError, match=UPSTREAM):
        compose(result(output(0)), stored(OWN))


def test_build_and_upstream_file_are_both_put_into_the_store() -> None:
    assert files_to_store(result(output(1))) == [
        ("/job/out.whl", OWN, 10),
        ("/job/up.whl", UPSTREAM, None),
    ]


def test_roots_are_the_recursive_definition_over_sorted_files_then_metadata() -> None:
    files = [
        BuiltFile(name, sha256_of(name.encode()), Sha256("1" * 64), Sha256("2" * 64))
        for name in ("b", "a")
    ]
    metadata = sha256_of(b"m")
    leaves = [leaf_hash(canonical.dumps(["file", name, sha256_of(name.encode())])) for name in "ab"]
    last = leaf_hash(canonical.dumps(["metadata", metadata]))
    assert own_roots(files, metadata)[0] == node_hash(node_hash(*leaves), last).hex()
    assert own_roots(files[::-1], metadata) == own_roots(files, metadata)


def test_every_level_has_its_own_root() -> None:
    composed = compose(result(output(0)), stored(OWN, UPSTREAM))
    assert len(set(composed.own)) == 3
