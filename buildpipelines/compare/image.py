"""At which level two images are equal, part by part, and what differs in words. Pure.

A rebuilt image counts as the published one only as a whole: where one part differs, every part
whose bytes are not the same is the build's own, because the build's manifest names the build's
layers. Levels: ``compare.verdict``; normal forms: ``stabilize.image`` and ``stabilize.layer``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from buildpipelines.compare.layer import compare_layers
from buildpipelines.compare.verdict import DIFFERENCES_MAX, Comparison, bounded
from buildpipelines.extract.image import ImageConfig, ImageManifest, Json
from buildpipelines.stabilize.image import (
    config_level1,
    config_level2,
    form_digest,
    manifest_form,
)
from buildpipelines.stabilize.layer import Layer, level2, listing_digest

_VALUE_CHARACTERS: Final = 90


@dataclass(frozen=True, slots=True)
class Forms:
    """The digests of a part's normal forms."""

    l1: str
    l2: str


@dataclass(frozen=True, slots=True)
class ReadLayer:
    """A layer of an image: the digest of its bytes, and what it holds.

    ``layer`` is None for a layer of the base, which both images take over as it is.
    """

    sha256: str
    layer: Layer | None

    def forms(self) -> Forms:
        """Return the digests of its normal forms; a layer of the base is its own."""
        if self.layer is None:
            return Forms(self.sha256, self.sha256)
        return Forms(
            listing_digest(self.layer.listing, "l1"),
            listing_digest(level2(self.layer.listing), "l2"),
        )


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was read whole. ``sha256`` is the digest of the manifest's bytes."""

    sha256: str
    manifest: ImageManifest
    config: ImageConfig
    layers: tuple[ReadLayer, ...]

    def config_forms(self) -> Forms:
        """Return the digests of the config's normal forms."""
        return Forms(
            form_digest(config_level1(self.config), "config-l1"),
            form_digest(config_level2(self.config), "config-l2"),
        )

    def forms(self) -> Forms:
        """Return the digests of the whole image's normal forms."""
        config, layers = self.config_forms(), [layer.forms() for layer in self.layers]
        one = manifest_form(self.manifest, level=1, config=config.l1, layers=[f.l1 for f in layers])
        two = manifest_form(self.manifest, level=2, config=config.l2, layers=[f.l2 for f in layers])
        return Forms(form_digest(one, "image-l1"), form_digest(two, "image-l2"))


@dataclass(frozen=True, slots=True)
class ImageComparison:
    """The level of the whole image, and what is said of each part."""

    level: int
    manifest: Comparison
    config: Comparison
    layers: tuple[Comparison, ...]


def compare_images(built: Image, published: Image) -> ImageComparison:
    """Compare a rebuilt image with the published one.

    The level of the whole is that of the manifests' normal forms, which cover config and layers;
    the words of all parts together are bounded.
    """
    ours, theirs = built.forms(), published.forms()
    if built.sha256 == published.sha256:
        level = 0
    elif ours.l1 == theirs.l1:
        level = 1
    else:
        level = 2 if ours.l2 == theirs.l2 else 3
    layers = _compare_layers(built, published)
    return ImageComparison(
        level=level,
        manifest=Comparison(level, bounded(_manifest_differences(built, published))),
        config=_compare_configs(built, published),
        layers=_share(layers),
    )


def _compare_layers(built: Image, published: Image) -> list[Comparison]:
    """Compare layer by layer; a layer that the published image lacks differs."""
    found = []
    for number, ours in enumerate(built.layers):
        if number >= len(published.layers):
            found.append(Comparison(3, ("layer: only in the build",)))
            continue
        theirs = published.layers[number]
        is_identical = ours.sha256 == theirs.sha256
        if ours.layer is None or theirs.layer is None:
            words = () if is_identical else ("layer: of the base in one of the two images",)
            found.append(Comparison(0 if is_identical else 3, words))
        else:
            found.append(compare_layers(ours.layer, theirs.layer, is_identical=is_identical))
    return found


def _share(layers: list[Comparison]) -> tuple[Comparison, ...]:
    """Cut the words of many layers so that together they stay within the bound of one."""
    left, found = DIFFERENCES_MAX, []
    for layer in layers:
        words = layer.differences[:left]
        left -= len(words)
        found.append(Comparison(layer.level, words))
    return tuple(found)


def _compare_configs(built: Image, published: Image) -> Comparison:
    if built.manifest.config.sha256 == published.manifest.config.sha256:
        return Comparison(0, ())
    ours, theirs = built.config_forms(), published.config_forms()
    level = 1 if ours.l1 == theirs.l1 else 2 if ours.l2 == theirs.l2 else 3
    deep = _members(config_level2(built.config), config_level2(published.config))
    shallow = _members(config_level1(built.config), config_level1(published.config))
    words = [*deep, *(line for line in shallow if line not in deep)]
    return Comparison(level, bounded(words or ["config: how its JSON is written, or diff_ids"]))


def _members(ours: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    return list(_differences("config", ours, theirs))


def _manifest_differences(built: Image, published: Image) -> Iterator[str]:
    if built.sha256 == published.sha256:
        return
    if len(built.layers) != len(published.layers):
        yield (
            f"manifest: layers: {len(built.layers)} in the build, {len(published.layers)} published"
        )
    for key in ("mediaType", "annotations", "subject", "artifactType"):
        ours, theirs = built.manifest.document.get(key), published.manifest.document.get(key)
        yield from _differences(f"manifest: {key}", ours, theirs)


def _differences(where: str, ours: object, theirs: object) -> Iterator[str]:
    """Yield a line for every member, however deep, that differs."""
    if ours == theirs and type(ours) is type(theirs):
        return
    if isinstance(ours, dict) and isinstance(theirs, dict):
        one: Json = ours
        other: Json = theirs
        for key in sorted(one.keys() | other.keys()):
            yield from _differences(f"{where}.{key:.60}", one.get(key), other.get(key))
        return
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for number, (one_item, other_item) in enumerate(zip(ours, theirs, strict=True)):
            yield from _differences(f"{where}[{number}]", one_item, other_item)
        return
    yield f"{where}: {_show(ours)} in the build, {_show(theirs)} published"


def _show(value: object) -> str:
    return "absent" if value is None else f"{value!r}"[:_VALUE_CHARACTERS]
