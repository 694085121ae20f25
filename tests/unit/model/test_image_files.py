"""Files of an image in a document, its purl and its source: one spelling each."""

from __future__ import annotations

import dataclasses

import pytest

from pyrsia_node.model.documents import Contradiction, Document
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.image_files import file_name, named_digest, role_of, root_of
from pyrsia_node.model.items import parse_item
from pyrsia_node.model.oci_terms import OciDigest
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import BuildRequest, Source
from tests.strategies import image_bodies as image
from tests.strategies.identities import identity

SHA256 = image.root()
SHA512 = "ab" * 64
DOCUMENT = image.document()
SIX = Purl.parse("pkg:pypi/six@1.17.0")
REQUEST = image.request(identity(1).id)


def test_file_is_called_by_its_role_and_the_first_digits_of_its_digest() -> None:
    assert file_name("layer", OciDigest.sha256(SHA256)) == f"layer-{SHA256[:16]}"
    assert named_digest(f"layer-{SHA256[:16]}", SHA256) == OciDigest.sha256(SHA256)


def test_file_that_its_image_names_by_sha512_keeps_that_name_whole() -> None:
    name = file_name("config", OciDigest("sha512", SHA512))
    assert name == f"config-sha512-{SHA512}"
    assert named_digest(name, SHA256) == OciDigest("sha512", SHA512)
    assert role_of(name) == "config"


@pytest.mark.parametrize(
    "name",
    [
        "root",
        "root-",
        "root-0123",
        f"tail-{SHA256[:16]}",
        f"root-{SHA256}",
        f"root-sha512-{SHA256}",
    ],
)
def test_other_name_is_no_file_of_an_image(name: str) -> None:
    with pytest.raises(InvalidInputError, match="no file of an image"):
        named_digest(name, SHA256)


def test_name_of_another_digest_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="is not called by its sha256"):
        named_digest("layer-0123456789abcdef", SHA256)


def test_document_of_an_image_tells_its_root() -> None:
    assert Document.from_json(DOCUMENT.to_json()) == DOCUMENT
    assert root_of(DOCUMENT.files).sha256 == SHA256


def with_files(*roles: str) -> Document:
    files = [image.file(role, image.root(f"{n}")) for n, role in enumerate(roles)]
    return dataclasses.replace(DOCUMENT, files=tuple(sorted(files, key=lambda each: each.name)))


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (with_files("layer", "config"), "exactly one root, not 0"),
        (with_files("root", "root"), "exactly one root, not 2"),
        (
            dataclasses.replace(
                DOCUMENT, files=(dataclasses.replace(DOCUMENT.files[0], name="alpine.tar"),)
            ),
            "no file of an image",
        ),
        (dataclasses.replace(DOCUMENT, purl=image.by_digest("other")), "the root is sha256:"),
    ],
)
def test_document_that_is_no_image_is_refused(document: Document, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        Document.from_json(document.to_json())


@pytest.mark.parametrize(
    ("purl", "why"),
    [
        ("pkg:docker/alpine@3.20", "names no registry"),
        ("pkg:docker/library/alpine@3.20", "names no registry"),
        ("pkg:docker/docker.io/library/Alpine@3.20", "repository 'library/Alpine' is not legal"),
        ("pkg:docker/docker.io/library/alpine@.x", "tag '.x' is not legal"),
        ("pkg:docker/docker.io/library/alpine@sha256:abc", "has not 64 lowercase hex digits"),
        ("pkg:docker/docker.io/library/alpine@md5:abc", "neither sha256:… nor sha512:…"),
        ("pkg:docker/docker.io:70000/alpine@1", "no such port"),
        (f"pkg:docker/docker.io/{'a' * 250}@1", "exceeds 255 characters"),
    ],
)
def test_purl_that_names_no_image_is_refused(purl: str, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        Purl.parse(purl)


@pytest.mark.parametrize(
    "purl",
    [
        "pkg:docker/localhost/a@1",
        "pkg:docker/127.0.0.1:5000/a/b/c@x_Y.z-1",
        "pkg:docker/%5B::1%5D:5000/a@latest",
        f"pkg:docker/ghcr.io/a/b@sha512:{SHA512}",
    ],
)
def test_purl_of_an_image_has_one_spelling(purl: str) -> None:
    assert str(Purl.parse(purl)) == str(Purl.from_user(purl)) == purl


def source(**change: object) -> BuildRequest:
    return dataclasses.replace(
        REQUEST,
        source=dataclasses.replace(REQUEST.source, **change),  # type: ignore[arg-type] # on purpose
    )


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (dataclasses.replace(REQUEST, claim="rebuilt"), "kind image does not fit a rebuilt"),
        (dataclasses.replace(REQUEST, purl=SIX), "kind image does not fit a mirrored pypi"),
        (source(kind="sdist"), "kind sdist does not fit a mirrored docker"),
        (source(file=f"layer-{SHA256[:16]}"), "is not the root of an image"),
        (source(sha256=image.root("other")), "is not called by its sha256"),
        (dataclasses.replace(REQUEST, purl=image.by_digest("other")), "is not what pkg:docker"),
    ],
)
def test_request_for_a_mirrored_image_starts_from_its_root(body: BuildRequest, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        BuildRequest.from_json(body.to_json())


CONTEXT = dataclasses.replace(
    REQUEST,
    purl=image.by_digest(),
    claim="rebuilt",
    source=Source("context", f"context-{SHA256[:16]}.tar.gz", SHA256, 10),
)


def test_image_is_rebuilt_from_a_context_as_a_digest() -> None:
    assert BuildRequest.from_json(CONTEXT.to_json()) == CONTEXT


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (dataclasses.replace(CONTEXT, purl=image.PURL), "is rebuilt by its digest alone"),
        (dataclasses.replace(CONTEXT, claim="mirrored"), "kind context does not fit a mirrored"),
        (dataclasses.replace(CONTEXT, purl=SIX), "kind context does not fit a rebuilt pypi"),
        (
            dataclasses.replace(
                CONTEXT, source=Source("context", f"context-{SHA256[:16]}.zip", SHA256, 10)
            ),
            "is not called as a context",
        ),
        (
            dataclasses.replace(
                CONTEXT, source=Source("sdist", "alpine-3.20.tar.gz", SHA256, 10), purl=image.PURL
            ),
            "kind sdist does not fit a rebuilt docker",
        ),
    ],
)
def test_no_rebuild_moves_a_tag(body: BuildRequest, why: str) -> None:
    with pytest.raises(InvalidInputError, match=why):
        BuildRequest.from_json(body.to_json())


def test_root_of_a_rebuild_that_contradicts_the_published_one_names_it() -> None:
    own = dataclasses.replace(
        image.file("root", image.root("own")), claim="rebuilt", origin="built"
    )
    files = tuple(sorted((own, *DOCUMENT.files[:-1]), key=lambda each: each.name))
    contradiction = Contradiction(own.name, image.root())
    document = dataclasses.replace(
        DOCUMENT, purl=image.by_digest(), files=files, contradicts=(contradiction,)
    )
    assert Document.from_json(document.to_json()) == document
    with pytest.raises(InvalidInputError, match="the root is sha256:"):
        Document.from_json(dataclasses.replace(document, contradicts=()).to_json())


def test_request_by_sha512_names_its_root_by_it() -> None:
    file = file_name("root", OciDigest("sha512", SHA512))
    purl = Purl.parse(f"pkg:docker/docker.io/library/alpine@sha512:{SHA512}")
    body = dataclasses.replace(REQUEST, purl=purl, source=Source("image", file, SHA256, 10))
    assert BuildRequest.from_json(body.to_json()) == body


MOVED = image.moved(SHA256).to_json()


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({**MOVED, "moved": "sha256:x"}, "64 lowercase hex digits"),
        ({**MOVED, "seen": "1"}, "seen is not an integer"),
        ({key: value for key, value in MOVED.items() if key != "moved"}, r"missing \[moved\]"),
        ({key: value for key, value in MOVED.items() if key != "seen"}, r"missing \[seen\]"),
        ({**MOVED, "outcome": "TIMEOUT"}, r"unknown \[moved\]"),
        ({**image.seen(SHA256).to_json(), "moved": "x"}, r"unknown \[moved\]"),
    ],
)
def test_moved_item_says_what_it_saw_and_when_and_no_other_does(
    item: dict[str, str | int], why: str
) -> None:
    with pytest.raises(InvalidInputError, match=why):
        parse_item(dict(item))
