"""Requests, items and documents of one imaginary image, short to write in a test."""

from __future__ import annotations

from hypothesis import strategies as st

from consensus.types import NodeId
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import Document, FileEntry, Metadata
from pyrsia_node.model.image_files import file_name
from pyrsia_node.model.items import MOVED, BuiltItem, FailedItem
from pyrsia_node.model.oci_terms import OciDigest
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.sources import IMAGE
from pyrsia_node.model.transactions import BuildRequest, Pipeline, Source
from tests.strategies.build_bodies import digest, own_roots
from tests.strategies.identities import GENESIS_TIME_MS

PURL = Purl.parse("pkg:docker/docker.io/library/alpine@3.20")
SEEN_MS = GENESIS_TIME_MS + 1_234
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def root(variant: str = "") -> Sha256:
    """Return the digest of an image's root; another variant is another image."""
    return digest(f"root {variant}")


def by_digest(variant: str = "") -> Purl:
    """Return the image as it is asked for by its digest."""
    return Purl.parse(f"pkg:docker/docker.io/library/alpine@sha256:{root(variant)}")


def request(
    sponsor: NodeId,
    *,
    variant: str = "",
    purl: Purl = PURL,
    until: int = GENESIS_TIME_MS + 3_600_000,
    nonce: int = 0,
) -> BuildRequest:
    sha256 = root(variant)
    return BuildRequest(
        sponsor=sponsor,
        purl=purl,
        claim="mirrored",
        source=Source(IMAGE, file_name("root", OciDigest.sha256(sha256)), sha256, 1_638),
        pipeline=Pipeline("docker", 1, digest("mirror")),
        toolchain=digest("none"),
        lock=digest(f"lock {variant}"),
        recipe={"platforms": ("linux/amd64",)},
        time_class="S",
        until=until,
        nonce=f"{nonce:032x}",
    )


def file(role: str, sha256: Sha256, media: str = LAYER) -> FileEntry:
    return FileEntry(
        name=file_name(role, OciDigest.sha256(sha256)),
        size=1_638,
        sha256=sha256,
        pieces=digest(f"pieces {sha256}"),
        media=media,
        claim="mirrored",
        origin="upstream",
    )


def document(variant: str = "", *, purl: Purl = PURL) -> Document:
    """Return the document of one image; another variant has another root and layer."""
    files = [
        file("root", root(variant), INDEX),
        file("manifest", digest(f"manifest {variant}"), MANIFEST),
        file("config", digest("config"), "application/vnd.oci.image.config.v1+json"),
        file("layer", digest(f"layer {variant}")),
    ]
    metadata = Metadata(
        name="docker.io/library/alpine",
        version="3.20",
        summary="A minimal image",
        author="",
        licence="MIT",
        homepage="https://alpine.example",
        repository="",
        keywords=("linux/amd64",),
        requires=("pkg:docker/docker.io/library/scratch@1",),
        requires_python="",
        provides_extra=(),
    )
    return Document(purl, tuple(sorted(files, key=lambda each: each.name)), (), metadata)


def seen(req: str, doc: Document | None = None, *, own: str = "") -> BuiltItem:
    """Return the item of a member that saw the tag and fetched the image."""
    named = (doc or document()).digest()
    return BuiltItem(Sha256(req), named, 0, own_roots(own), seen_ms=SEEN_MS)


def moved(req: str, variant: str = "other") -> FailedItem:
    """Return the item of a member whose upstream has another digest under the tag."""
    return FailedItem(
        Sha256(req), MOVED, "tag moved", seen_ms=SEEN_MS, moved=f"sha256:{root(variant)}"
    )


_hex = st.binary(min_size=32, max_size=32).map(bytes.hex)
digests_of_registries = st.builds("sha256:{}".format, _hex) | st.builds(
    "sha512:{0}{0}".format, _hex
)
_variants = st.text("abc", max_size=3)
documents = st.builds(document, _variants)


def requests(sponsors: st.SearchStrategy[NodeId]) -> st.SearchStrategy[BuildRequest]:
    """Return requests for this image and others, by tag and by digest."""
    by_tag = st.builds(request, sponsors, variant=_variants, nonce=st.integers(0, 2**64))
    return by_tag | st.builds(
        lambda sponsor, variant: request(sponsor, variant=variant, purl=by_digest(variant)),
        sponsors,
        _variants,
    )
