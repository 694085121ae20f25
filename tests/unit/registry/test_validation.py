"""Which images may run: lists, claims, names that mean the same, and files that are refused."""

from __future__ import annotations

import pytest

from pyrsia_node.artifacts.images.found import LogWord
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.registry.validation import (
    ValidationRules,
    Verdict,
    judge,
    needs_log,
    parse_rules,
    read_image,
)

HUB = "hub.example"
SHA = "sha256:" + "a" * 64
MIRRORED = LogWord(SHA, 7, "mirrored")
REBUILT = LogWord(SHA, 9, "rebuilt")


def rules(text: str) -> ValidationRules:
    return parse_rules(text, source="rules.toml", default_host=HUB)


def verdict(text: str, image: str, word: LogWord | None = None) -> Verdict:
    return judge(rules(text), read_image(image, default_host=HUB), word)


def allowed(text: str, image: str, word: LogWord | None = None) -> bool:
    return verdict(text, image, word).is_allowed


def test_empty_file_allows_everything() -> None:
    assert verdict("", "alpine") == Verdict(
        "hub.example/library/alpine:latest", is_allowed=True, reason="the default is allow"
    )


def test_longest_prefix_wins_whichever_list_it_is_in() -> None:
    text = """
    default = "deny"
    allow = ["r.example", "r.example/a/b/c"]
    deny = ["r.example/a/b"]
    """
    assert allowed(text, "r.example/x")
    assert allowed(text, "r.example/a/x")
    assert not allowed(text, "r.example/a/b")
    assert not allowed(text, "r.example/a/b/x:1")
    assert allowed(text, "r.example/a/b/c:1")
    assert verdict(text, "r.example/a/b/x").reason == "r.example/a/b is denied"
    assert not allowed(text, "s.example/x")


def test_prefix_ends_at_a_path_boundary() -> None:
    text = 'default = "deny"\nallow = ["r.example/team/"]'
    assert allowed(text, "r.example/team/app")
    assert not allowed(text, "r.example/teams/app")
    assert not allowed(text, "r.example.evil.example/team/app")


@pytest.mark.parametrize(
    "image",
    [
        "alpine",
        "library/alpine:3.20",
        "hub.example/alpine",
        "hub.example/library/alpine@" + SHA,
        "index.hub.example/library/alpine",
        "index.hub.example/alpine",
        "hub.example:443/library/alpine",
        "hub.example:80/alpine",
    ],
)
def test_denied_image_is_denied_by_every_name_that_clients_take_for_it(image: str) -> None:
    assert not allowed('deny = ["hub.example/library/alpine"]', image)
    assert not allowed('deny = ["index.hub.example:443/library/alpine"]', image)


@pytest.mark.parametrize(
    "image", ["", "HUB.example/alpine", "a b", "r.example/..", "alpine@sha1:0"]
)
def test_reference_that_is_not_understood_is_an_error_never_a_yes(image: str) -> None:
    with pytest.raises(InvalidInputError):
        read_image(image, default_host=HUB)


def test_image_must_be_logged_where_the_rules_say_so() -> None:
    text = "must_be_logged = true"
    assert verdict(text, "alpine").reason == "the log has no entry for it"
    assert not allowed(text, "alpine")
    assert allowed(text, "alpine", MIRRORED)
    assert SHA in verdict(text, "alpine", MIRRORED).reason


def test_entry_that_the_network_closed_is_none() -> None:
    closed = LogWord(SHA, 7, "rebuilt", "withdrawn: backdoor")
    assert not allowed("must_be_logged = true", "alpine", closed)
    assert "backdoor" in verdict("must_be_logged = true", "alpine", closed).reason


def test_claim_is_at_least_what_the_rules_want() -> None:
    assert allowed('minimum_claim = "mirrored"', "alpine", MIRRORED)
    assert allowed('minimum_claim = "mirrored"', "alpine", REBUILT)
    assert allowed('minimum_claim = "rebuilt"', "alpine", REBUILT)
    refused = verdict('minimum_claim = "rebuilt"', "alpine", MIRRORED)
    assert refused.reason == "entry 7 says mirrored, and at least rebuilt is wanted"
    assert not allowed('minimum_claim = "mirrored"', "alpine")


def test_external_build_is_neither_rebuilt_nor_what_a_registry_publishes() -> None:
    external = LogWord(SHA, 7, "external", "")
    for claim in ("mirrored", "rebuilt"):
        refused = verdict(f'minimum_claim = "{claim}"', "alpine", external)
        assert refused.reason == f"entry 7 says external, and at least {claim} is wanted"
    assert allowed("must_be_logged = true", "alpine", external)


def test_prefixes_of_private_registries_may_do_without_the_log() -> None:
    text = 'minimum_claim = "rebuilt"\nunlogged = ["localhost:7888/team"]'
    assert allowed(text, "localhost:7888/team/app")
    assert not allowed(text, "localhost:7888/other/app")
    own = read_image("localhost:7888/team/app", default_host=HUB).name
    assert not needs_log(rules(text), own)
    assert needs_log(rules(text), read_image("alpine", default_host=HUB).name)
    assert not needs_log(rules(""), own)


def test_being_logged_lifts_no_denial() -> None:
    assert not allowed('deny = ["hub.example"]\nmust_be_logged = true', "alpine", REBUILT)


def test_tags_may_be_refused() -> None:
    assert not allowed("refuse_tags = true", "alpine:3.20")
    assert allowed("refuse_tags = true", f"alpine@{SHA}")
    assert allowed("refuse_tags = true", f"alpine:3.20@{SHA}")


def test_everything_wrong_with_a_file_is_named_at_once() -> None:
    text = """
    default = "maybe"
    allow = ["alpine", "r.example/Team", 7, "r.example"]
    deny = ["r.example/"]
    must_be_logged = 1
    minimum_claim = "witnessed"
    unlogged = "r.example"
    denied = []
    """
    with pytest.raises(InvalidInputError) as caught:
        rules(text)
    for words in (
        "rules.toml: denied is unknown",
        "default = 'maybe'",
        "'alpine' does not begin with a registry",
        "Team",
        "7 is no text",
        "r.example is both allowed and denied",
        "must_be_logged = 1",
        "minimum_claim = 'witnessed'; allowed: mirrored or rebuilt",
        "unlogged: allowed: a list",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize("text", ["=", "a = " + "[" * 5000, "x" * 300_000])
def test_file_that_is_no_toml_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"rules\.toml"):
        rules(text)
