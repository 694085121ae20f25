"""What a member attests of an image follows from what was fetched, and from nothing else."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.types import NodeId
from pyrsia_node.builds.images import (
    check_pin,
    compose_image,
    image_of,
    lock_document,
    pinned_digest,
    platforms_of,
    recipe_of,
    root_source,
    why_refused,
)
from pyrsia_node.builds.images import root_of_mirrored as root_of
from pyrsia_node.builds.roots import BuiltFile, own_roots
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.documents import Document
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci_terms import OciDigest
from pyrsia_node.schema.mirroring import ImageFacts, Look
from tests.fakes.scripted_upstream import mirrored
from tests.strategies import image_bodies as image

FOUND = mirrored()


def test_document_names_every_file_that_was_fetched_and_the_images_own_words() -> None:
    composed = compose_image(image.PURL, FOUND)
    expected = image.document()
    assert composed.document == expected
    files = [BuiltFile(each.name, *[each.sha256] * 3) for each in expected.files]
    assert composed.own == own_roots(files, expected.metadata.digest())
    assert composed.level == 0


def test_file_that_two_platforms_share_is_named_once() -> None:
    shared = FOUND.files[0].model_copy(update={"platform": "linux/arm64"})
    twice = FOUND.model_copy(update={"files": [*FOUND.files, shared]})
    assert compose_image(image.PURL, twice) == compose_image(image.PURL, FOUND)


def test_order_in_which_files_were_fetched_changes_nothing() -> None:
    backwards = FOUND.model_copy(update={"files": FOUND.files[::-1]})
    assert compose_image(image.PURL, backwards) == compose_image(image.PURL, FOUND)


def test_files_that_share_the_first_digits_of_their_digests_are_refused() -> None:
    """Whoever spends the work to make two such layers spoils only the own image."""
    layer = next(each for each in FOUND.files if each.role == "layer")
    twin = layer.sha256[:16] + "0" * 48
    other = layer.model_copy(update={"sha256": twin, "digest": f"sha256:{twin}"})
    with pytest.raises(InvalidInputError, match=r"two files of .* are called layer-"):
        compose_image(image.PURL, FOUND.model_copy(update={"files": [*FOUND.files, other]}))


def test_author_with_an_address_is_left_out() -> None:
    facts = ImageFacts(author="Ann <ann@example.org>", summary="x")
    document = compose_image(image.PURL, FOUND.model_copy(update={"facts": facts})).document
    assert document.metadata.author == ""


@pytest.mark.parametrize(
    ("base", "requires"),
    [
        ("alpine:3.20", ("pkg:docker/docker.io/library/alpine@3.20",)),
        ("pkg:docker/ghcr.io/a/b@1", ("pkg:docker/ghcr.io/a/b@1",)),
        (f"a/b@sha256:{'0' * 64}", (f"pkg:docker/docker.io/a/b@sha256:{'0' * 64}",)),
        ("not an image", ()),
    ],
)
def test_images_that_an_image_is_based_on_are_its_dependencies(
    base: str, requires: tuple[str, ...]
) -> None:
    found = FOUND.model_copy(update={"facts": ImageFacts(base=[base])})
    assert compose_image(image.PURL, found).document.metadata.requires == requires


_texts = st.text(max_size=30)


@given(
    facts=st.builds(
        ImageFacts,
        summary=_texts,
        author=_texts | st.just("ann@example.org"),
        licence=_texts,
        keywords=st.lists(_texts, max_size=3),
        base=st.lists(_texts | st.just("pkg:docker/"), max_size=3),
    )
)
def test_whatever_an_image_says_of_itself_makes_a_legal_document_or_our_error(
    facts: ImageFacts,
) -> None:
    with contextlib.suppress(InvalidInputError):
        document = compose_image(image.PURL, FOUND.model_copy(update={"facts": facts})).document
        assert Document.from_json(document.to_json()) == document


@given(st.lists(st.from_regex(r"[a-z0-9]{1,3}(/[A-Za-z0-9._-]{1,3}){1,2}", fullmatch=True)))
def test_platforms_come_back_from_the_recipe_in_one_order(platforms: list[str]) -> None:
    wanted = platforms[:20]
    assert platforms_of(recipe_of(wanted)) == sorted(set(wanted))


def test_root_that_a_request_pins_is_what_is_fetched() -> None:
    source = root_source(root_of(FOUND))
    assert pinned_digest(source) == OciDigest.sha256(image.root())
    long = root_of(FOUND).model_copy(update={"digest": f"sha512:{'ab' * 64}"})
    assert pinned_digest(root_source(long)) == OciDigest("sha512", "ab" * 64)


def test_purl_tells_tag_or_digest() -> None:
    assert image_of(image.PURL)[1:] == ("3.20", None)
    assert image_of(image.by_digest())[1:] == (None, OciDigest.sha256(image.root()))


def test_pin_that_does_not_hold_names_both_digests() -> None:
    look = Look(digest=f"sha256:{'1' * 64}", media="text/x", size=1, seen_ms=1)
    check_pin(look, "")
    check_pin(look, look.digest)
    with pytest.raises(InvalidInputError, match=rf"is sha256:{'1' * 64} .* not sha256:{'2' * 64}"):
        check_pin(look, f"sha256:{'2' * 64}")


def test_request_of_another_kind_is_refused_by_its_pipeline() -> None:
    body = image.request(NodeId(""))
    assert why_refused(body) == "pipeline"
    assert body.lock != sha256_of(lock_document(body.source))
    assert why_refused(dataclasses.replace(body, purl=image.by_digest())) == "pipeline"
