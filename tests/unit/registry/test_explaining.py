"""Why something is kept, in the words that people read."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.registry.explaining import explain
from pyrsia_node.schema.collection import Explanation
from tests.fakes.collected_registry import MINUTE_MS, POLICY, CollectedRegistry, in_memory


@pytest.fixture
def shop(tmp_path: Path) -> CollectedRegistry:
    return in_memory(tmp_path)


def _why(shop: CollectedRegistry, digest: str) -> Explanation:
    return explain(shop.ports, shop.policy, shop.clock, digest)


def _texts(found: Explanation) -> list[str]:
    return [each.text for each in found.reasons]


def test_layer_is_kept_by_each_manifest_that_needs_it(shop: CollectedRegistry) -> None:
    layer = shop.push("team/app", b"layer")
    image = shop.tag("team/app", "1", b"image", layer)
    found = _why(shop, layer.digest)
    assert _texts(found) == [f"manifest {image.digest} of team/app needs it"]
    assert (found.verdict, found.present, found.local, found.size) == ("kept", True, True, 5)


def test_manifest_is_kept_by_its_tags_and_its_index(shop: CollectedRegistry) -> None:
    image = shop.tag("app", "1", b"image")
    index = shop.tag("app", "", b"index", image)
    assert _texts(_why(shop, image.digest)) == [
        "it is app:1",
        f"manifest {index.digest} of app needs it",
    ]
    assert "pushed without a tag" in _texts(_why(shop, index.digest))[0]


def test_unneeded_blob_goes_after_its_grace_and_the_time_is_told(shop: CollectedRegistry) -> None:
    blob = shop.push("app", b"layer")
    found = _why(shop, blob.digest)
    assert [each.until_ms for each in found.reasons] == [shop.clock.ms + POLICY.grace_ms]
    assert found.verdict.startswith("nothing keeps it: it goes after 2026-")
    assert found.verdict.endswith("60 minutes after its last use")
    shop.clock.ms += POLICY.grace_ms + 1
    assert "next collection" in _why(shop, blob.digest).verdict


def test_attested_blob_is_kept_by_the_promise_to_serve_it(shop: CollectedRegistry) -> None:
    sha256 = shop.share(b"attested")
    shop.store.pin(sha256)
    found = _why(shop, f"sha256:{sha256}")
    assert [each.kind for each in found.reasons] == ["pinned"]
    assert (found.verdict, found.shared) == ("kept", True)


def test_cached_blob_stands_in_the_order_of_eviction(shop: CollectedRegistry) -> None:
    blobs = [shop.share(bytes([number]) * 100) for number in range(3)]
    for number, sha256 in enumerate(blobs):
        shop.age(sha256, number)
    (text,) = _texts(_why(shop, f"sha256:{blobs[1]}"))
    assert "number 2 of 3 to leave the cache, after 100 bytes" in text
    assert "the cache holds 300 of 1000" in text


def test_proxied_leased_and_orphaned_blobs_say_so(shop: CollectedRegistry) -> None:
    proxied = shop.proxy("registry.example/x", b"proxied")
    with shop.store.lease(proxied.sha256):
        found = _why(shop, proxied.digest)
    assert [each.kind for each in found.reasons] == ["proxied", "leased"]
    assert "registry.example/x" in found.reasons[0].text
    orphan = shop.share(b"orphan")
    shop.store.keep_local(orphan)
    shop.store.remove(orphan)
    shop.age(orphan, shop.clock.ms - MINUTE_MS)
    found = _why(shop, f"sha256:{orphan}")
    assert [each.kind for each in found.reasons] == ["orphan"]
    assert "it goes after" in found.verdict


def test_name_without_bytes_points_to_fsck(shop: CollectedRegistry) -> None:
    image = shop.tag("app", "1", b"image")
    shop.store.drop_local(image.sha256)
    assert "fsck" in _why(shop, image.digest).verdict
    assert _why(shop, "sha256:" + "0" * 64).verdict == "its bytes are not here"


def test_sha512_name_leads_to_the_same_bytes(shop: CollectedRegistry) -> None:
    digest = f"sha512:{hashlib.sha512(b'long').hexdigest()}"
    blob = shop.commit(b"long")
    shop.db.add_blob("app", replace(blob, digest=digest), now_ms=shop.clock.ms)
    assert _why(shop, digest).sha256 == blob.sha256
    assert _why(shop, digest).present
    assert _why(shop, "sha512:" + "0" * 128).sha256 == ""


@pytest.mark.parametrize("digest", ["", "latest", "sha256:xyz", "md5:" + "0" * 32])
def test_what_is_no_digest_is_refused(shop: CollectedRegistry, digest: str) -> None:
    with pytest.raises(InvalidInputError):
        _why(shop, digest)
