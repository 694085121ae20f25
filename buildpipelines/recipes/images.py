"""The recipe of an image: what buildah must be told so that it makes the published image. Pure.

Nearly all of it is found in the published image itself: its time, whose media types it uses, how
many layers it has above its base. Which stage, which arguments and which context it was made from
no image tells; those the requester names. A member derives again what can be derived, so a sponsor
chooses nothing but among few.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

from buildpipelines.errors import FormatError
from buildpipelines.extract.image import ImageConfig, ImageManifest
from buildpipelines.recipes.dockerfile import Dockerfile, Pin, parse_pin
from buildpipelines.spec import fields
from buildpipelines.spec.lock import LockedFile
from buildpipelines.spec.messages import RecipeValue
from buildpipelines.spec.metadata import Metadata

VERSION: Final = 1
ATTEMPTS_MAX: Final = 2
UMASK_DEFAULT: Final = 0o022
UMASKS: Final = frozenset({0o022, 0o002, 0o077, 0o027})
ARGUMENTS_MAX: Final = 32
CONTEXT_MEDIA: Final = "application/vnd.pyrsia.build.context.v1.tar+gzip"
"""The type of the one layer of a context: a gzipped tar with a Dockerfile."""

_PURL: Final = "pkg:docker/"
_FIELDS: Final = frozenset(
    {"image", "context", "dockerfile", "timestamp", "platform", "target", "args", "format"}
    | {"layers", "identity_label", "umask", "cutoff"}
)
_OPTIONS: Final = frozenset({"context", "dockerfile", "target", "args"})
_PATH: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*(/[A-Za-z0-9_.][A-Za-z0-9_.-]*){0,15}\Z")
_TARGET: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,63})?\Z")
_ARGUMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}=[^\x00-\x1f\x7f]{0,190}\Z")
_PLATFORM: Final = re.compile(r"[a-z0-9]{1,16}/[a-z0-9]{1,16}(/[a-z0-9.]{1,16})?\Z")
_CUTOFF: Final = re.compile(r"(none|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z)\Z")
_NOT_PLAIN: Final = re.compile(r"[^a-z0-9]+")
_LABEL: Final = "org.opencontainers.image."
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")
_ADDRESS: Final = re.compile(r"[<(]?[^ ]*@[^ ]*")
_URL: Final = re.compile(r"https?://[!-?A-~]{1,400}\Z")
_SECONDS_MAX: Final = 2**32

Format = Literal["oci", "docker"]


@dataclass(frozen=True, slots=True)
class ImageRecipe:
    """All that a build of an image depends on besides its inputs and toolchain."""

    image: Pin
    context: Pin
    dockerfile: str
    timestamp: int
    platform: str
    target: str
    args: tuple[str, ...]
    format: Format
    layers: bool
    identity_label: bool
    umask: int
    cutoff: str

    def fields(self) -> dict[str, RecipeValue]:
        """Return it as the fields of a request."""
        return {
            "image": str(self.image),
            "context": str(self.context),
            "dockerfile": self.dockerfile,
            "timestamp": self.timestamp,
            "platform": self.platform,
            "target": self.target,
            "args": self.args,
            "format": self.format,
            "layers": self.layers,
            "identity_label": self.identity_label,
            "umask": self.umask,
            "cutoff": self.cutoff,
        }

    def title(self) -> str:
        """Return it in a few words."""
        how = "a layer for each step" if self.layers else "one layer"
        return f"{self.format}, {how}, timestamp {self.timestamp}"


@dataclass(frozen=True, slots=True)
class Options:
    """What only the requester knows."""

    context: Pin
    dockerfile: str
    target: str
    args: tuple[str, ...]


def parse_options(value: Mapping[str, RecipeValue]) -> Options:
    """Read the options of a trial.

    Raises:
        FormatError: no context by digest, an unknown option, or one out of form.
    """
    fields.exactly(value, {"context"}, _OPTIONS)
    filled = {"dockerfile": "Dockerfile", "target": "", "args": (), **value}
    return Options(
        context=_pin(filled, "context"),
        dockerfile=_dockerfile(filled),
        target=fields.matching(filled, "target", _TARGET),
        args=_arguments(filled),
    )


def parse_image_recipe(value: Mapping[str, RecipeValue]) -> ImageRecipe:
    """Read the recipe of a request.

    Raises:
        FormatError: a field is missing, unknown or out of form.
    """
    fields.exactly(value, set(_FIELDS))
    form = fields.text(value, "format", characters_max=8)
    if form not in ("oci", "docker"):
        raise FormatError("recipe field 'format' is neither oci nor docker")
    umask = fields.integer(value, "umask", low=0, high=0o777)
    if umask not in UMASKS:
        raise FormatError(f"recipe field 'umask' {umask:o} is not one of the usual")
    return ImageRecipe(
        image=_pin(value, "image"),
        context=_pin(value, "context"),
        dockerfile=_dockerfile(value),
        timestamp=fields.integer(value, "timestamp", low=0, high=_SECONDS_MAX),
        platform=fields.matching(value, "platform", _PLATFORM),
        target=fields.matching(value, "target", _TARGET),
        args=_arguments(value),
        format=cast("Format", form),
        layers=_flag(value, "layers"),
        identity_label=_flag(value, "identity_label"),
        umask=umask,
        cutoff=fields.matching(value, "cutoff", _CUTOFF),
    )


def plan(
    image: Pin,
    manifest: ImageManifest,
    config: ImageConfig,
    options: Options,
    *,
    dockerfile: Dockerfile,
    base_layers: int,
) -> tuple[ImageRecipe, ...]:
    """Return the recipes to try, the most promising first.

    Args:
        image: The published manifest.
        manifest: What it says.
        config: Its config.
        options: What the requester said.
        dockerfile: The stages of the Dockerfile.
        base_layers: How many layers the final stage's base has.
    """
    steps = dockerfile.final(options.target).layer_steps
    timestamp, cutoff = stamps(config)
    first = ImageRecipe(
        image=image,
        context=options.context,
        dockerfile=options.dockerfile,
        timestamp=timestamp,
        platform=config.platform,
        target=options.target,
        args=options.args,
        format="docker" if manifest.style == "docker" else "oci",
        layers=len(manifest.layers) - base_layers > 1,
        identity_label=has_identity_label(config),
        umask=UMASK_DEFAULT,
        cutoff=cutoff,
    )
    # One layer above the base is made either way where one step makes it; the histories differ.
    other = replace(first, layers=not first.layers)
    return (first, other)[: ATTEMPTS_MAX if steps <= 1 or not first.layers else 1]


def stamps(config: ImageConfig) -> tuple[int, str]:
    """Return the image's time in seconds, and the time up to which its inputs may be uploaded.

    Without a usable time they are 0 and "none".
    """
    try:
        moment = dt.datetime.fromisoformat(config.created[:19] + "+00:00")
    except ValueError:
        return 0, "none"
    seconds = int(moment.timestamp()) if moment.year >= 1970 else 0
    if not config.created.endswith("Z") or not 0 < seconds <= _SECONDS_MAX:
        return 0, "none"
    return seconds, moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def has_identity_label(config: ImageConfig) -> bool:
    """Tell whether the image says which buildah made it, as buildah does if it is not told."""
    return "io.buildah.version" in _labels(config)


def purl_of_image(image: Pin) -> str:
    """Return the package URL of an image by digest: a rebuild never moves a tag."""
    return f"{_PURL}{image}"


def parse_image_purl(purl: str) -> Pin:
    """Return the image that a package URL names; raises FormatError."""
    pin = parse_pin(purl.removeprefix(_PURL), default_host="")
    if not purl.startswith(_PURL) or pin is None or purl_of_image(pin) != purl:
        raise FormatError(f"{purl!r:.200} is no package URL {_PURL}HOST/REPOSITORY@sha256:HEX")
    return pin


def locked_part(pin: Pin, role: str, sha256: str, size: int) -> LockedFile:
    """Return the lock's entry for a blob of an image; ``role`` such as "layer"."""
    plain = _NOT_PLAIN.sub("-", f"{pin.host}/{pin.repository}").strip("-")
    return LockedFile(
        ecosystem="docker",
        project=plain[:128].strip("-"),
        file=part_name(role, sha256),
        sha256=sha256,
        size=size,
    )


def part_name(role: str, sha256: str) -> str:
    """Return what a part of an image is called in documents (docs/spec/leaves.md, "Images")."""
    return f"{role}-{sha256[:16]}"


def extract_image_metadata(image: Pin, config: ImageConfig, base: Pin | None) -> Metadata:
    """Return what search and people see of an image, from its labels; empty where it is silent."""
    labels = _labels(config)

    def label(*keys: str) -> str:
        return next((text for key in keys if (text := _line(labels.get(_LABEL + key, "")))), "")

    def address(key: str) -> str:
        found = label(key)
        return found if _URL.match(found) else ""

    return Metadata(
        name=f"{image.host}/{image.repository}"[:256],
        version=f"sha256:{image.sha256}",
        summary=label("description", "title"),
        author=_line(_ADDRESS.sub(" ", label("authors")))[:300].strip(" ,;"),
        licence=label("licenses")[:300],
        homepage=address("url"),
        repository=address("source"),
        keywords=(config.platform,),
        requires=() if base is None else (purl_of_image(base),),
    )


def _labels(config: ImageConfig) -> dict[str, str]:
    inner = config.document.get("config")
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    if not isinstance(labels, dict):
        return {}
    return {key: value for key, value in labels.items() if isinstance(value, str)}


def _line(text: str) -> str:
    """Return one line of at most 500 bytes without characters that hide or move others."""
    line = " ".join(_CONTROL.sub(" ", text[:4000]).split())
    return line.encode()[:500].decode("utf-8", "ignore")


def _pin(value: Mapping[str, object], key: str) -> Pin:
    text = fields.text(value, key, characters_max=256)
    pin = parse_pin(text, default_host="")
    if pin is None or str(pin) != text:
        raise FormatError(f"field {key!r} {text!r:.200} is not HOST/REPOSITORY@sha256:HEX")
    return pin


def _dockerfile(value: Mapping[str, object]) -> str:
    found = fields.matching(value, "dockerfile", _PATH)
    if ".." in found.split("/") or "." in found.split("/"):
        raise FormatError("field 'dockerfile' is no plain path below the context")
    return found


def _arguments(value: Mapping[str, object]) -> tuple[str, ...]:
    listed = value.get("args")
    filled = {"args": list(listed) if isinstance(listed, tuple) else listed}
    found = fields.texts(filled, "args", count_max=ARGUMENTS_MAX, characters_max=256)
    names = [argument.partition("=")[0] for argument in found]
    if not all(_ARGUMENT.match(argument) for argument in found) or len({*names}) != len(names):
        raise FormatError("field 'args' is no list of NAME=VALUE, each name once")
    return found


def _flag(value: Mapping[str, object], key: str) -> bool:
    found = value.get(key)
    if not isinstance(found, bool):
        raise FormatError(f"field {key!r} is neither true nor false")
    return found
