"""What a tag and a digest mean: the newest entry that was not withdrawn, and any entry."""

from __future__ import annotations

import hashlib

import pytest

from pyrsia_node.artifacts.images.logged import LoggedRepository, read_entry
from pyrsia_node.artifacts.statements import PackageStatements, ProvedStatement
from pyrsia_node.artifacts.verified_log import ProvedEntry
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import Document, FileEntry
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from pyrsia_node.model.leaves import Accepted
from pyrsia_node.model.manifests import OCI_MANIFEST
from pyrsia_node.model.oci import ImageName, OciDigest
from tests.fakes.logged_images import closed_by_withdrawal, image_document, image_file

NAME = ImageName("docker.io", "library/alpine")
OLD, NEW = b"old manifest", b"new manifest"
LAYER = b"layer"


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def proved(index: int, document: Document) -> ProvedEntry:
    entry = Accepted(Sha256("0" * 64), document, 3, 0, (), ())
    return ProvedEntry(index, entry, height=1, time_ms=1000 + index)


def repository(*documents: Document, withdrawn: tuple[int, ...] = ()) -> LoggedRepository:
    entries = {
        index: read_entry(proved(index, document), NAME)
        for index, document in enumerate(documents, start=10)
    }
    said = PackageStatements({index: closed_by_withdrawal(index, NAME) for index in withdrawn}, ())
    return LoggedRepository(NAME, 100, is_settled=True, entries=entries, said=said)


def image(tag: str, root: bytes, *layers: bytes) -> Document:
    return image_document(NAME, tag, root, layers=layers)


def test_tag_means_the_newest_entry_and_a_digest_means_any() -> None:
    found = repository(image("3.20", OLD, LAYER), image("3.20", NEW), image("3.19", OLD))
    assert str(found.manifest("3.20").digest) == digest(NEW)
    assert found.manifest(digest(OLD)).is_manifest
    assert found.tags() == ["3.19", "3.20"]
    assert [entry.index for entry in found.changes("3.20")] == [10, 11]


def test_withdrawn_entry_gives_way_to_the_newest_that_was_not() -> None:
    found = repository(image("1", OLD), image("1", NEW), withdrawn=(11,))
    assert str(found.manifest("1").digest) == digest(OLD)
    assert found.manifest("1").closed is None
    assert found.manifest(digest(NEW)).closed is not None
    assert len(found.changes("1")) == 2  # history forgets nothing


def test_tag_with_withdrawn_entries_alone_is_found_and_closed() -> None:
    found = repository(image("1", OLD), image("1", NEW), withdrawn=(10, 11))
    closed = found.manifest("1").closed
    assert isinstance(closed, ProvedStatement)
    assert str(found.manifest("1").digest) == digest(NEW)
    assert found.tags() == []
    assert not found.is_known


def test_layer_of_a_withdrawn_entry_is_open_while_another_entry_names_it() -> None:
    found = repository(image("1", OLD, LAYER), image("2", NEW, LAYER), withdrawn=(10,))
    assert found.file(OciDigest.parse(digest(LAYER))).closed is None
    found = repository(image("2", NEW, LAYER), image("1", OLD, LAYER), withdrawn=(11,))
    assert found.file(OciDigest.parse(digest(LAYER))).closed is None


def test_layer_is_no_manifest_and_unknown_digest_is_not_found() -> None:
    found = repository(image("1", OLD, LAYER))
    with pytest.raises(NotFoundError, match="names manifest"):
        found.manifest(digest(LAYER))
    with pytest.raises(NotFoundError, match=r"docker\.io/library/alpine"):
        found.file(OciDigest.parse(digest(b"other")))
    with pytest.raises(NotFoundError, match=r"3\.21"):
        found.manifest("3.21")


def test_blob_is_found_by_its_sha512_name_and_by_no_other() -> None:
    long = hashlib.sha512(LAYER).hexdigest()
    layer = image_file("layer", LAYER, sha512=True)
    document = image_document(NAME, "1", NEW, files=(layer,))
    found = repository(document)
    assert found.file(OciDigest("sha512", long)).file == layer
    with pytest.raises(NotFoundError):
        found.file(OciDigest.parse(digest(LAYER)))


@pytest.mark.parametrize("roots", [0, 2])
def test_document_with_other_than_one_root_says_nothing(roots: int) -> None:
    files = (image_file("root", OLD), image_file("root", NEW))[:roots]
    document = image_document(NAME, "1", None, files=(image_file("config", b"{}"), *files))
    with pytest.raises(InvalidInputError, match=f"{roots} root"):
        read_entry(proved(1, document), NAME)


def test_entry_of_another_image_says_nothing() -> None:
    document = image_document(ImageName("docker.io", "library/busybox"), "1", OLD)
    with pytest.raises(InvalidInputError, match="busybox"):
        read_entry(proved(1, document), NAME)


@pytest.mark.parametrize(
    "name", ["layer-0000000000000000", "layer", "patch-0123456789abcdef", "layer-sha512-00"]
)
def test_file_whose_name_does_not_fit_makes_the_entry_say_nothing(name: str) -> None:
    data = image_file("layer", LAYER)
    odd = FileEntry(name, data.size, data.sha256, data.pieces, data.media, data.claim, data.origin)
    with pytest.raises(InvalidInputError, match=name):
        read_entry(proved(1, image_document(NAME, "1", OLD, files=(odd,))), NAME)


def test_entry_under_a_digest_must_have_that_root() -> None:
    good = image_document(NAME, digest(OLD), OLD)
    assert read_entry(proved(1, good), NAME).version == digest(OLD)
    found = repository(good)
    assert found.manifest(digest(OLD)).file.media == OCI_MANIFEST
    assert found.tags() == []
    with pytest.raises(InvalidInputError, match="names sha256"):
        read_entry(proved(1, image_document(NAME, digest(NEW), OLD)), NAME)
