"""Kubernetes' AdmissionReview: which images a request would run, and the answer's form. Pure.

``admission.k8s.io/v1``. Images are those of containers, init containers, ephemeral containers and
image volumes, of a Pod or of the Pod template in a workload. On an update, what the old object ran
already is not judged again: rules that changed meanwhile must not stop a running Pod from being
relabelled or ended. Kinds that hold no Pod are let through: the Pods made of them come here, too.

Clusters are often told to run everything when a webhook fails. So nothing that has a ``uid`` fails:
whatever is wrong with the object is an answer that denies it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.registry.validation import Verdict

REVIEW_BYTES_MAX: Final = 4 * 1024 * 1024
"""A review of an update holds two objects, each of up to 1.5 MiB."""

IMAGES_MAX: Final = 256
"""Different images of one review; no workload comes near it."""

API_VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"

_UID_LENGTH_MAX: Final = 128
_MESSAGE_LENGTH_MAX: Final = 4096
_WARNING_LENGTH_MAX: Final = 250
_CONTAINERS: Final = ("initContainers", "containers", "ephemeralContainers")
_POD_SPEC: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": ("spec",),
    "PodTemplate": ("template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    **dict.fromkeys(
        (
            "DaemonSet",
            "Deployment",
            "Job",
            "ReplicaSet",
            "ReplicationController",
            "StatefulSet",
        ),
        ("spec", "template", "spec"),
    ),
}


@dataclass(frozen=True, slots=True)
class Review:
    """What is asked: may a request pass that would run ``images``?

    ``problem`` says why it may not, whatever the images are; "" if nothing does.
    """

    uid: str
    images: tuple[str, ...]
    warning: str = ""
    problem: str = ""


def parse_review(data: bytes) -> Review:
    """Return what a cluster asks; an object that has not the form of its kind is a ``problem``.

    Raises:
        InvalidInputError: It is no AdmissionReview of version 1 with a ``uid``.
    """
    if len(data) > REVIEW_BYTES_MAX:
        raise InvalidInputError(f"the review is longer than {REVIEW_BYTES_MAX} bytes")
    try:
        review = _object(json.loads(data), "the review")
    except (ValueError, RecursionError) as error:
        raise InvalidInputError("the review is not JSON") from error
    if (review.get("apiVersion"), review.get("kind")) != (API_VERSION, KIND):
        raise InvalidInputError(f"this is no {KIND} of {API_VERSION}")
    request = _object(review.get("request"), "request")
    uid = request.get("uid")
    if not isinstance(uid, str) or not 0 < len(uid) <= _UID_LENGTH_MAX:
        raise InvalidInputError("request.uid is no text of up to 128 characters")
    try:
        return _review_of(uid, request)
    except InvalidInputError as error:
        return Review(uid, (), problem=str(error))


def _review_of(uid: str, request: Mapping[str, object]) -> Review:
    if request.get("operation") not in {"CREATE", "UPDATE"} or request.get("object") is None:
        return Review(uid, ())
    subject = _object(request["object"], "request.object")
    kind = subject.get("kind")
    path = _POD_SPEC.get(kind) if isinstance(kind, str) else None
    if path is None:
        return Review(uid, (), f"pyrsia looks for no images in objects of kind {kind!r:.60}")
    wanted = list(dict.fromkeys(_images(subject, path)))
    if request["operation"] == "UPDATE" and request.get("oldObject") is not None:
        old = set(_images(_object(request["oldObject"], "request.oldObject"), path))
        wanted = [image for image in wanted if image not in old]
    if len(wanted) > IMAGES_MAX:
        raise InvalidInputError(f"{len(wanted)} images in one review; at most {IMAGES_MAX}")
    return Review(uid, tuple(wanted))


def _images(subject: Mapping[str, object], path: Sequence[str]) -> Iterator[str]:
    """Yield the images of a Pod's specification; one that is left out is ""."""
    spec = subject
    for step in path:
        spec = _object(spec.get(step), ".".join(path))
    for group in _CONTAINERS:
        for container in _list(spec.get(group), group):
            yield _text(_object(container, group).get("image"), f"{group}.image")
    for volume in _list(spec.get("volumes"), "volumes"):
        source = _object(volume, "volumes").get("image")
        if source is not None:
            yield _text(_object(source, "volumes.image").get("reference"), "volumes.image")


def review_answer(review: Review, verdicts: Sequence[Verdict]) -> dict[str, object]:
    """Return the AdmissionReview that answers; it never changes the object."""
    denied = [review.problem] if review.problem else []
    denied += [f"{each.image}: {each.reason}" for each in verdicts if not each.is_allowed]
    response: dict[str, object] = {"uid": review.uid, "allowed": not denied}
    if denied:
        message = "; ".join(denied)[:_MESSAGE_LENGTH_MAX]
        response["status"] = {"code": 403, "message": message}
    if review.warning:
        response["warnings"] = [review.warning[:_WARNING_LENGTH_MAX]]
    return {"apiVersion": API_VERSION, "kind": KIND, "response": response}


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InvalidInputError(f"{where} is no object")
    return value


def _list(value: object, where: str) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidInputError(f"{where} is no list")
    return value


def _text(value: object, where: str) -> str:
    # An image may be left out for controllers to fill in; what is not there cannot be judged.
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInputError(f"{where} is no text")
    return value
