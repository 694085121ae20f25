"""What a client asks about an image is judged before anything is begun."""

from __future__ import annotations

import pytest

from pyrsia_node.core.methods import options_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.links import BuildParams

DIGEST = "sha256:" + "0" * 64
CONTEXT = f"registry.example/team/context@{DIGEST}"


def params(**more: object) -> BuildParams:
    return BuildParams.parse({"ecosystem": "docker", "name": "alpine", "version": "1", **more})


def test_image_without_a_context_is_imported() -> None:
    assert options_of(params()) == ""


def test_image_with_a_context_is_rebuilt_from_it() -> None:
    wanted = {"context": CONTEXT, "target": "last", "args": ["A=1"]}
    assert options_of(params(rebuild=wanted)) == (
        f'{{"args":["A=1"],"context":"{CONTEXT}","target":"last"}}'
    )


@pytest.mark.parametrize(
    "context",
    [
        "nope",
        "registry.example/team/context",
        "registry.example/team/context:1",
        f"registry.example/team/context:1@{DIGEST}",
        f"team/context@{DIGEST}",
        "registry.example/team/context@sha256:0",
    ],
)
def test_context_that_is_no_image_by_digest_is_refused_at_once(context: str) -> None:
    with pytest.raises(InvalidInputError):
        options_of(params(rebuild={"context": context}))


@pytest.mark.parametrize("more", [{"platforms": ["linux/amd64"]}, {"pinned": DIGEST}])
def test_image_is_imported_or_rebuilt_and_not_both(more: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match="imported by platforms, or rebuilt"):
        options_of(params(rebuild={"context": CONTEXT}, **more))
