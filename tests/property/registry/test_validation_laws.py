"""Any bytes as rules, images or reviews: a verdict, or our error."""

from __future__ import annotations

import json
import string

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.artifacts.images.found import LogWord
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.registry.admission import parse_review, review_answer
from pyrsia_node.registry.validation import (
    ValidationRules,
    judge,
    needs_log,
    parse_rules,
    read_image,
)

HUB = "hub.example"
PARTS = st.sampled_from(["a", "b", "ab"])
NAMES = st.lists(PARTS, min_size=1, max_size=4).map(lambda parts: "/".join(["r.example", *parts]))
PREFIXES = st.one_of(st.just("r.example"), NAMES)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(["kind", "spec", "template", "containers", "image", "volumes", "uid"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)


@given(
    listed=st.dictionaries(PREFIXES, st.booleans(), max_size=6),
    by_default=st.booleans(),
    name=NAMES,
)
def test_decision_of_the_lists_is_that_of_a_plain_search(
    *, listed: dict[str, bool], by_default: bool, name: str
) -> None:
    rules = ValidationRules(HUB, allows_by_default=by_default, listed=listed)
    fitting = [prefix for prefix in listed if name == prefix or name.startswith(prefix + "/")]
    expected = listed[max(fitting, key=len)] if fitting else by_default
    assert judge(rules, read_image(name, default_host=HUB), None).is_allowed == expected


@given(NAMES, st.sampled_from(["mirrored", "rebuilt"]), st.sampled_from(["mirrored", "rebuilt"]))
def test_stronger_claim_never_turns_a_yes_into_a_no(name: str, wanted: str, claim: str) -> None:
    rules = ValidationRules(HUB, minimum_claim=wanted)
    image = read_image(name, default_host=HUB)
    assert needs_log(rules, image.name)
    weaker = judge(rules, image, LogWord("sha256:0", 1, claim)).is_allowed
    stronger = judge(rules, image, LogWord("sha256:0", 1, "rebuilt")).is_allowed
    assert weaker <= stronger


@given(st.text(alphabet=string.printable, max_size=200))
def test_any_text_is_rules_or_our_error(text: str) -> None:
    try:
        parse_rules(text, source="rules", default_host=HUB)
    except InvalidInputError:
        return


@given(st.text(max_size=300))
def test_any_text_is_an_image_or_our_error(text: str) -> None:
    try:
        image = read_image(text, default_host=HUB)
    except InvalidInputError:
        return
    # The name that rules go by is fixed: to read it again changes nothing.
    assert read_image(str(image), default_host=HUB) == image


@given(st.binary(max_size=200))
def test_any_bytes_are_a_review_or_our_error(data: bytes) -> None:
    try:
        parse_review(data)
    except InvalidInputError:
        return


@given(JSON, st.sampled_from(["CREATE", "UPDATE", "DELETE"]), JSON)
def test_any_object_in_a_review_is_answered_or_our_error(
    subject: object, operation: str, old: object
) -> None:
    body = subject | {"kind": "Pod"} if isinstance(subject, dict) else subject
    request = {"uid": "u", "operation": operation, "object": body, "oldObject": old}
    data = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    try:
        review = parse_review(json.dumps(data).encode())
    except InvalidInputError:
        return
    assert review_answer(review, [])["kind"] == "AdmissionReview"
