"""Messages of the gateway's link about mirroring: the core asks it to fetch images whole.

A member attests a mirrored image by its own look at the upstream: ``look`` says what a tag is now,
``mirror`` fetches everything under a digest into the blob store. Methods: docs/spec/links.md.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from pyrsia_node.schema.fields import Answer, Count, LongText, Params, Sha256, Text

FILES_MAX: Final = 512
PLATFORMS_MAX: Final = 64

ImageText = Annotated[str, Field(min_length=1, max_length=512)]
JobText = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
DigestText = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$")]
Platform = Annotated[str, Field(pattern=r"^[a-z0-9]+(/[A-Za-z0-9._-]+){1,2}$")]


class LookParams(Params):
    """``look``: what a tag is at its upstream now. ``image`` is ``HOST/REPOSITORY``."""

    image: ImageText
    tag: Annotated[str, Field(min_length=1, max_length=128)]


class Look(Answer):
    """``look``: the digest that the upstream gives for the tag, by its own headers or bytes."""

    digest: DigestText
    media: Text
    size: Count
    seen_ms: Count


class MirrorParams(Params):
    """``mirror``: fetch an image whole. ``platforms`` as ``os/arch[/variant]``; [] is all.

    With ``tag`` the upstream is asked at the end whether the tag still is this digest.
    """

    job: JobText
    image: ImageText
    digest: DigestText
    tag: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    platforms: Annotated[list[Platform], Field(max_length=PLATFORMS_MAX)] = Field(
        default_factory=list
    )


class MirrorJobParams(Params):
    """``mirror_job`` and ``mirror_forget``: which job."""

    job: JobText


class MirroredFile(Answer):
    """One manifest, config or layer, now in the blob store.

    ``digest`` is how the image names it; ``pieces`` is the piece root.
    """

    role: Literal["root", "manifest", "config", "layer"]
    digest: DigestText
    sha256: Sha256
    size: Count
    pieces: Sha256
    media: Text
    platform: Text = ""


class ImageFacts(Answer):
    """What an image says of itself, from the config of its first platform and its annotations."""

    summary: Text = ""
    author: Text = ""
    licence: Text = ""
    homepage: Text = ""
    repository: Text = ""
    keywords: list[Text] = Field(default_factory=list)
    base: list[Text] = Field(default_factory=list)


class Mirrored(Answer):
    """What a finished job found; ``seen_ms`` is when the tag was last seen to be this digest."""

    files: Annotated[list[MirroredFile], Field(max_length=FILES_MAX)]
    facts: ImageFacts
    seen_ms: Count


class MirrorFailure(Answer):
    """Why there is no result. ``moved`` is what the tag is instead, if that is why."""

    outcome: Literal["MOVED", "REFUSED", "SOURCE_UNAVAILABLE", "TIMEOUT"]
    cause: Annotated[str, Field(max_length=32)]
    detail: LongText
    moved: DigestText | None = None
    seen_ms: Count | None = None


class MirrorStatus(Answer):
    """``mirror_job``: where a job stands."""

    job: JobText
    state: Literal["running", "done", "failed"]
    stage: Text
    detail: Text
    done_bytes: Count
    total_bytes: Count
    result: Mirrored | None = None
    failure: MirrorFailure | None = None
