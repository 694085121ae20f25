"""The gateway's mirror methods with scripted registries behind them, as the core sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from buildpipelines.spec.framing import JsonObject
from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.model.image_files import role_of
from pyrsia_node.schema.mirroring import (
    ImageFacts,
    Look,
    LookParams,
    Mirrored,
    MirroredFile,
    MirrorFailure,
    MirrorParams,
    MirrorStatus,
)
from tests.strategies import image_bodies as image


class Upstream:
    """What the gateway finds at registries: tags, and for each digest an image or a failure.

    ``images`` says for a digest how its job ends: a result, a failure, an error of the call, or
    None while it runs. A call may take its answer from a list, one after the other.
    """

    def __init__(self) -> None:
        self.tags: dict[tuple[str, str], str] = {}
        self.images: dict[str, object] = {}
        self.jobs: dict[str, MirrorParams] = {}
        self.begun: list[MirrorParams] = []
        self.looked: list[tuple[str, str]] = []
        self.now_ms: Callable[[], int] = lambda: 0
        self.down: Exception | None = None

    def call(self, method: str, params: Mapping[str, object]) -> JsonObject:
        if method == "look":
            return self._look(LookParams.parse(params))
        if method == "mirror":
            return self._mirror(MirrorParams.parse(params))
        wanted = self.jobs.get(str(params["job"]))
        if wanted is None:
            raise NotFoundError(f"no job {params['job']}")
        if method == "mirror_forget":
            del self.jobs[wanted.job]
            return {}
        return self._status(wanted).dump()

    def _look(self, params: LookParams) -> JsonObject:
        self.looked.append((params.image, params.tag))
        if self.down is not None:
            raise self.down
        digest_of_tag = self.tags.get((params.image, params.tag))
        if digest_of_tag is None:
            raise NotFoundError(f"{params.image} has no tag {params.tag}")
        seen_ms = self.now_ms()
        return Look(digest=digest_of_tag, media="text/x", size=1_638, seen_ms=seen_ms).dump()

    def _mirror(self, params: MirrorParams) -> JsonObject:
        if params.job not in self.jobs:
            self.begun.append(params)
            if isinstance(self.images.get(params.digest), Exception):
                raise cast("Exception", self.images[params.digest])
            self.jobs[params.job] = params
        return {"job": params.job}

    def _status(self, wanted: MirrorParams) -> MirrorStatus:
        found = self.images.get(wanted.digest)
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        tag_is = self.tags.get((wanted.image, wanted.tag or ""))
        if isinstance(found, Mirrored) and wanted.tag and tag_is != wanted.digest:
            found = moved_to(tag_is or "", self.now_ms())
        if isinstance(found, Mirrored):
            found = found.model_copy(update={"seen_ms": self.now_ms()})
        state = "done" if isinstance(found, Mirrored) else "running"
        return MirrorStatus(
            job=wanted.job,
            state="failed" if isinstance(found, MirrorFailure) else state,  # type: ignore[arg-type] # one of the three
            stage="layers",
            detail="",
            done_bytes=1_000_000,
            total_bytes=4_000_000,
            result=found if isinstance(found, Mirrored) else None,
            failure=found if isinstance(found, MirrorFailure) else None,
        )


def moved_to(digest_of_tag: str, seen_ms: int) -> MirrorFailure:
    """Return the failure of a job whose tag is another digest at the end."""
    return MirrorFailure(
        outcome="MOVED",
        cause="tag moved",
        detail="the tag is another digest",
        moved=digest_of_tag,
        seen_ms=seen_ms,
    )


def mirrored(variant: str = "", *, size: int = 1_638) -> Mirrored:
    """Return what a finished job found: the image of ``tests.strategies.image_bodies``."""
    document = image.document(variant)
    files = [
        MirroredFile(
            role=role_of(each.name),  # type: ignore[arg-type] # one of the four
            digest=f"sha256:{each.sha256}",
            sha256=each.sha256,
            size=size if role_of(each.name) == "layer" else each.size,
            pieces=each.pieces,
            media=each.media,
            platform="linux/amd64",
        )
        for each in document.files
    ]
    facts = ImageFacts(
        summary="A minimal image",
        licence="MIT",
        homepage="https://alpine.example",
        keywords=["linux/amd64"],
        base=["docker.io/library/scratch:1"],
    )
    return Mirrored(files=files, facts=facts, seen_ms=0)
