"""Recipes, options and Dockerfiles of images: round trips, and only our errors escape."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from buildpipelines.errors import ArchiveError, BuildFailure, FormatError
from buildpipelines.extract.image import parse_image_config
from buildpipelines.recipes.dockerfile import Pin, read_dockerfile
from buildpipelines.recipes.images import (
    ImageRecipe,
    extract_image_metadata,
    locked_part,
    parse_image_purl,
    parse_image_recipe,
    parse_options,
    purl_of_image,
    stamps,
)
from buildpipelines.spec.lock import make_lock, parse_lock
from buildpipelines.spec.messages import parse_recipe, recipe_document
from buildpipelines.spec.metadata import parse_metadata

hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
words = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,8})?", fullmatch=True)
hosts = words.map(lambda word: f"{word.replace('_', '-')}.example") | st.just("127.0.0.1:5000")
pins = st.builds(
    Pin,
    host=hosts,
    repository=st.lists(words, min_size=1, max_size=3).map("/".join),
    sha256=hexes,
)
args = st.lists(
    st.from_regex(r"[A-Z_]{1,8}=[ -~]{0,20}", fullmatch=True),
    max_size=3,
    unique_by=lambda argument: argument.partition("=")[0],
).map(tuple)
recipes = st.builds(
    ImageRecipe,
    image=pins,
    context=pins,
    dockerfile=st.sampled_from(["Dockerfile", "docker/web.Dockerfile"]),
    timestamp=st.integers(0, 2**32),
    platform=st.sampled_from(["linux/amd64", "linux/arm64/v8"]),
    target=st.sampled_from(["", "build", "0"]),
    args=args,
    format=st.sampled_from(["oci", "docker"]),
    layers=st.booleans(),
    identity_label=st.booleans(),
    umask=st.sampled_from([0o022, 0o002]),
    cutoff=st.sampled_from(["none", "2024-05-01T10:00:00Z"]),
)
junk = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=9) | hexes,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(recipes)
def test_recipe_survives_the_link(recipe: ImageRecipe) -> None:
    sent = json.loads(json.dumps(recipe_document(recipe.fields())))
    assert parse_image_recipe(parse_recipe(sent)) == recipe


@given(recipes, st.sampled_from(["image", "context", "args", "umask", "layers", "target"]), junk)
def test_spoiled_recipe_raises_only_format_errors(
    recipe: ImageRecipe, key: str, value: object
) -> None:
    with contextlib.suppress(FormatError):
        parse_image_recipe({**recipe.fields(), key: value})  # type: ignore[dict-item]  # that is the point
    with contextlib.suppress(FormatError):
        parse_options({"context": str(recipe.context), key: value})  # type: ignore[dict-item]  # the same


@given(pins)
def test_package_url_of_an_image_has_one_form(pin: Pin) -> None:
    assert parse_image_purl(purl_of_image(pin)) == pin


@given(pins, hexes, st.integers(1, 2**31))
def test_parts_of_images_fit_a_lock(pin: Pin, sha256: str, size: int) -> None:
    lock = make_lock([locked_part(pin, role, sha256, size) for role in ("root", "layer")])
    assert parse_lock(lock.document()) == lock


pieces = st.sampled_from(
    (
        *("FROM ", "scratch", " AS ", "a", "\n", "COPY --from=", "0 ", "\\\n", "# ", "ARG "),
        *("RUN ", "--mount=from=", "@sha256:" + "a" * 64, "ONBUILD ", "\x00", "$X", "<<EOF"),
        "ADD http://",
    )
)


@given(st.lists(pieces, max_size=12).map("".join) | st.text(max_size=60))
def test_dockerfile_of_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BuildFailure):
        read_dockerfile(text).final("")


@given(pins, st.dictionaries(st.sampled_from(["authors", "title", "url", "licenses"]), st.text()))
def test_labels_of_any_text_become_metadata_that_a_leaf_takes(
    pin: Pin, labels: dict[str, str]
) -> None:
    said = {f"org.opencontainers.image.{key}": text for key, text in labels.items()}
    document = {
        "created": labels.get("title", ""),
        "os": "linux",
        "architecture": "amd64",
        "config": {"Labels": said},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    try:
        config = parse_image_config(json.dumps(document).encode())
    except ArchiveError:
        return  # a lone surrogate
    found = extract_image_metadata(pin, config, None)
    assert parse_metadata(found.document()) == found
    assert "@" not in found.author
    seconds, cutoff = stamps(config)
    assert (seconds == 0) == (cutoff == "none")
