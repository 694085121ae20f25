"""AdmissionReviews: which images of which objects are asked about, and the answer's form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.registry.admission import IMAGES_MAX, parse_review, review_answer
from pyrsia_node.registry.validation import Verdict

SPEC: dict[str, Any] = {
    "initContainers": [{"name": "i", "image": "init:1"}],
    "containers": [{"name": "a", "image": "app:1"}, {"name": "b", "image": "app:1"}],
    "ephemeralContainers": [{"name": "e", "image": "debug:1"}],
    "volumes": [{"name": "v", "image": {"reference": "data:1"}}, {"name": "w", "emptyDir": {}}],
}
IMAGES = ("init:1", "app:1", "debug:1", "data:1")


def review(kind: str, body: dict[str, Any], **request: Any) -> bytes:
    return json.dumps(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5",
                "operation": "CREATE",
                "object": {"kind": kind, **body},
                **request,
            },
        }
    ).encode()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("Pod", {"spec": SPEC}),
        ("PodTemplate", {"template": {"spec": SPEC}}),
        ("Deployment", {"spec": {"template": {"spec": SPEC}}}),
        ("StatefulSet", {"spec": {"template": {"spec": SPEC}}}),
        ("DaemonSet", {"spec": {"template": {"spec": SPEC}}}),
        ("ReplicaSet", {"spec": {"template": {"spec": SPEC}}}),
        ("ReplicationController", {"spec": {"template": {"spec": SPEC}}}),
        ("Job", {"spec": {"template": {"spec": SPEC}}}),
        ("CronJob", {"spec": {"jobTemplate": {"spec": {"template": {"spec": SPEC}}}}}),
    ],
)
def test_every_image_of_a_workload_is_asked_about_once(kind: str, body: dict[str, Any]) -> None:
    asked = parse_review(review(kind, body))
    assert (asked.uid, asked.images, asked.warning) == ("705ab4f5", IMAGES, "")


def test_container_without_an_image_is_asked_about_as_nothing() -> None:
    assert parse_review(review("Pod", {"spec": {"containers": [{"name": "a"}]}})).images == ("",)


def test_update_asks_about_images_that_are_new_alone() -> None:
    old = {"kind": "Pod", "spec": {"containers": [{"image": "app:1"}]}}
    new = {"spec": {"containers": [{"image": "app:1"}, {"image": "app:2"}]}}
    asked = parse_review(review("Pod", new, operation="UPDATE", oldObject=old))
    assert asked.images == ("app:2",)


def test_running_pod_may_be_relabelled_and_deleted_whatever_the_rules_became() -> None:
    old = {"kind": "Pod", "spec": SPEC}
    assert not parse_review(review("Pod", {"spec": SPEC}, operation="UPDATE", oldObject=old)).images
    assert not parse_review(review("Pod", {}, operation="DELETE", object=None)).images
    assert not parse_review(review("PodExecOptions", {}, operation="CONNECT")).images


def test_old_object_counts_for_updates_alone() -> None:
    old = {"kind": "Pod", "spec": SPEC}
    assert parse_review(review("Pod", {"spec": SPEC}, oldObject=old)).images == IMAGES


def test_kind_without_pods_passes_with_a_warning() -> None:
    asked = parse_review(review("ConfigMap", {"data": {}}))
    answer = review_answer(asked, [])
    assert answer["response"] == {
        "uid": "705ab4f5",
        "allowed": True,
        "warnings": ["pyrsia looks for no images in objects of kind 'ConfigMap'"],
    }


def test_answer_echoes_the_uid_and_names_every_denied_image() -> None:
    asked = parse_review(review("Pod", {"spec": SPEC}))
    verdicts = [
        Verdict("a", is_allowed=True, reason="fine"),
        Verdict("b", is_allowed=False, reason="b is denied"),
        Verdict("c", is_allowed=False, reason="not logged"),
    ]
    assert review_answer(asked, verdicts) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {
            "uid": "705ab4f5",
            "allowed": False,
            "status": {"code": 403, "message": "b: b is denied; c: not logged"},
        },
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "the review is no object"),
        (b"{}", "no AdmissionReview"),
        (b'{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}', "no AdmissionRev"),
        (b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}', "request is no object"),
        (review("Pod", {"spec": SPEC}, uid=7), "uid"),
        (b" " * (4 * 1024 * 1024 + 1), "longer than"),
    ],
)
def test_malformed_review_is_refused_with_what_is_wrong(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInputError, match=reason):
        parse_review(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (review("Pod", {}), "spec is no object"),
        (review("Pod", {"spec": {"containers": {}}}), "containers is no list"),
        (review("Pod", {"spec": {"containers": [7]}}), "containers is no object"),
        (review("Pod", {"spec": {"containers": [{"image": 7}]}}), "containers.image is no text"),
        (review("Deployment", {"spec": {"template": []}}), "spec.template.spec is no object"),
        (review("Pod", {"spec": {}}, object=[]), "request.object is no object"),
        (
            review(
                "Pod",
                {"spec": {"containers": [{"image": f"a:{n}"} for n in range(IMAGES_MAX + 1)]}},
            ),
            "257 images in one review; at most 256",
        ),
    ],
)
def test_malformed_object_is_denied_and_no_failure_that_a_cluster_may_ignore(
    data: bytes, reason: str
) -> None:
    asked = parse_review(data)
    assert (asked.uid, asked.images) == ("705ab4f5", ())
    assert review_answer(asked, [])["response"] == {
        "uid": "705ab4f5",
        "allowed": False,
        "status": {"code": 403, "message": reason},
    }
