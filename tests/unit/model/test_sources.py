"""What a build starts from: each claim has its kinds, and a file is called by its own digest."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.types import NodeId
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import Document
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.sources import ARCHIVE, ARCHIVE_ENDINGS, MAPPING, SDIST, TREE, source_names
from pyrsia_node.model.transactions import BuildRequest, Source
from tests.strategies import build_bodies as make
from tests.strategies import image_bodies as image
from tests.strategies import maven_bodies as maven
from tests.strategies.identities import identities

ME: NodeId = identities(1)[0].id
SHA256 = make.digest("a source")
PLAIN = Source(SDIST, "x-1.tar.gz", SHA256, 1)


def request(claim: str, purl: Purl, source: Source) -> BuildRequest:
    return dataclasses.replace(make.request(ME), claim=claim, purl=purl, source=source)


@pytest.mark.parametrize(
    "body",
    [
        request("rebuilt", maven.PURL, maven.source(TREE)),
        request("rebuilt", maven.PURL, maven.source(ARCHIVE)),
        request("external", maven.PURL, maven.source(MAPPING)),
        request("external", make.PURL, maven.source(MAPPING)),
        request("external", image.by_digest(), maven.source(MAPPING)),
    ],
)
def test_request_reads_back_with_the_source_that_its_claim_needs(body: BuildRequest) -> None:
    assert BuildRequest.from_json(body.to_json()) == body


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (request("rebuilt", maven.PURL, PLAIN), "kind sdist does not fit a rebuilt maven"),
        (
            request("rebuilt", maven.PURL, maven.source(MAPPING)),
            "kind mapping does not fit a rebuilt maven",
        ),
        (request("mirrored", maven.PURL, maven.source(TREE)), "does not fit a mirrored maven"),
        (request("mirrored", maven.PURL, maven.source(MAPPING)), "does not fit a mirrored maven"),
        (request("external", maven.PURL, maven.source(TREE)), "does not fit a external maven"),
        (request("external", make.PURL, PLAIN), "kind sdist does not fit a external pypi"),
        (request("rebuilt", make.PURL, maven.source(TREE)), "kind tree does not fit a rebuilt"),
        (
            request("external", image.PURL, maven.source(MAPPING)),
            "is external by its digest alone",
        ),
        (
            request("rebuilt", maven.PURL, Source("patch", "a.patch", SHA256, 1)),
            "kind is not one of",
        ),
    ],
)
def test_source_that_does_not_fit_the_claim_is_refused_by_name(
    body: BuildRequest, why: str
) -> None:
    with pytest.raises(InvalidInputError, match=why):
        BuildRequest.from_json(body.to_json())


@pytest.mark.parametrize("kind", [TREE, ARCHIVE, MAPPING])
@pytest.mark.parametrize("file", ["source.tar", "source-0123456789abcdef.tar", "x.json"])
def test_source_that_is_not_called_by_its_digest_is_refused(kind: str, file: str) -> None:
    claim = "external" if kind == MAPPING else "rebuilt"
    body = request(claim, maven.PURL, Source(kind, file, SHA256, 1))
    with pytest.raises(InvalidInputError, match=f"{file} is not called as a {kind}"):
        BuildRequest.from_json(body.to_json())


@given(maven.digests, maven.endings)
def test_name_of_an_archive_tells_its_form_and_its_digest(sha256: Sha256, ending: str) -> None:
    named = Source(ARCHIVE, f"source-{sha256[:16]}{ending}", make.digest("x"), 1)
    body = request("rebuilt", maven.PURL, dataclasses.replace(named, sha256=sha256))
    assert BuildRequest.from_json(body.to_json()).source.file.endswith(ARCHIVE_ENDINGS)


@given(st.sampled_from([TREE, ARCHIVE, MAPPING]), maven.digests, maven.digests)
def test_two_sources_share_no_name_unless_their_digests_begin_alike(
    kind: str, one: Sha256, other: Sha256
) -> None:
    names = [set(source_names(kind, each)) for each in (one, other)]
    assert names[0].isdisjoint(names[1]) == (one[:16] != other[:16])


@pytest.mark.parametrize("origin", ["built", "upstream"])
def test_external_file_is_the_networks_or_the_upstreams(origin: str) -> None:
    doc = maven.document(claim="external")
    files = tuple(
        dataclasses.replace(each, origin=origin) if each.claim == "external" else each
        for each in doc.files
    )
    changed = dataclasses.replace(doc, files=files)
    assert Document.from_json(changed.to_json()) == changed
