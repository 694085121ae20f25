"""A step of a tag's history is held against the leaf that proves it."""

from __future__ import annotations

import pytest

from pyrsia_cli.commands.tags import _check_step
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError, VerificationError
from pyrsia_node.schema.distribution import TagStep

HEX = "ab" * 32
STEP = TagStep.parse(
    {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{HEX}",
        "size": 2,
        "created": "2026-01-01T00:00:00.000Z",
        "verified": "log",
        "index": 7,
    }
)


def _leaf(purl: str = "pkg:docker/docker.io/library/alpine@3.20", role: str = "root") -> JsonObject:
    file: JsonObject = {
        "name": f"{role}-{HEX[:16]}",
        "size": 2,
        "sha256": HEX,
        "pieces": HEX,
        "media": "application/vnd.oci.image.manifest.v1+json",
        "claim": "mirrored",
        "origin": "upstream",
    }
    return {"t": "accepted", "doc": {"purl": purl, "files": [file]}}


@pytest.mark.parametrize("path", ["alpine", "library/alpine", "f/docker.io/library/alpine"])
def test_step_that_its_leaf_bears_out_is_shown(path: str) -> None:
    assert str(_check_step(STEP, _leaf(), f"/v2/{path}", "3.20")) == "docker.io/library/alpine"


@pytest.mark.parametrize(
    ("purl", "path", "tag"),
    [
        ("pkg:docker/docker.io/library/alpine@3.20", "alpine", "3.21"),
        ("pkg:docker/docker.io/library/alpine@3.20", "debian", "3.20"),
        ("pkg:docker/docker.io/library/alpine@3.20", "f/quay.io/library/alpine", "3.20"),
        ("pkg:docker/docker.io/evil/alpine@3.20", "alpine", "3.20"),
    ],
)
def test_leaf_about_another_image_or_tag_is_refused(purl: str, path: str, tag: str) -> None:
    with pytest.raises(VerificationError, match="entry 7 says"):
        _check_step(STEP, _leaf(purl), f"/v2/{path}", tag)


def test_leaf_with_another_digest_is_refused() -> None:
    other = STEP.model_copy(update={"digest": "sha256:" + "cd" * 32})
    with pytest.raises(VerificationError, match="cdcd"):
        _check_step(other, _leaf(), "/v2/alpine", "3.20")


def test_leaf_without_a_root_is_refused() -> None:
    with pytest.raises(VerificationError, match="0 roots"):
        _check_step(STEP, _leaf(role="layer"), "/v2/alpine", "3.20")


def test_leaf_about_no_image_is_refused() -> None:
    with pytest.raises((VerificationError, InvalidInputError)):
        _check_step(STEP, _leaf("pkg:pypi/six@1.0"), "/v2/alpine", "3.20")
    with pytest.raises((VerificationError, InvalidInputError)):
        _check_step(STEP, {"t": "block"}, "/v2/alpine", "3.20")
