"""Whatever registries, token servers and auth files say: only our errors escape, bounds hold."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyrsia_node.artifacts.images.challenges import (
    LIFETIME_MAX_S,
    Challenge,
    parse_challenges,
    parse_token,
)
from pyrsia_node.artifacts.images.credentials import Login, find_login, parse_auth_file
from pyrsia_node.artifacts.images.facts import (
    SUMMARY_LENGTH_MAX,
    TEXT_LENGTH_MAX,
    config_platform,
    image_facts,
)
from pyrsia_node.model import canonical
from pyrsia_node.model.documents import Metadata
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import ImageName

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3)
    ),
    max_leaves=12,
)
words = st.text(st.sampled_from('abcXYZ019-._~/:?=&, \\"'), max_size=30)
keys = st.sampled_from(
    [
        *(f"org.opencontainers.image.{k}" for k in ("description", "title", "authors", "licenses")),
        *(f"org.opencontainers.image.{k}" for k in ("url", "source", "base.name", "base.digest")),
        "maintainer",
        "org.label-schema.description",
    ]
)
labels = st.dictionaries(keys, st.text(max_size=3000) | words, max_size=8)


@given(st.lists(st.text(max_size=200), max_size=3))
@example(['Bearer realm="https://a/token",service="x"', "Basic realm=b, Bearer realm=c"])
@example(["Bearer " + "a=" * 5000])
def test_challenges_never_fail(fields: list[str]) -> None:
    for challenge in parse_challenges(fields):
        assert challenge.scheme == challenge.scheme.lower()


@given(words, words)
def test_quoted_challenge_is_read_back(realm: str, service: str) -> None:
    def quoted(text: str) -> str:
        return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'

    field = f'Bearer realm={quoted(realm)},service={quoted(service)},scope="a b"'
    assert parse_challenges([field]) == [Challenge("bearer", realm, service)]


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b'{"token":"a b"}')
@example(b'{"token":"a","expires_in":1e999}')
@example(b"[" * 100_000)
def test_token_answer_gives_a_token_or_our_error(data: bytes) -> None:
    try:
        token = parse_token(data)
    except InvalidInputError:
        return
    assert re.fullmatch("[!-~]+", token.text)
    assert 0 < token.lifetime_s <= LIFETIME_MAX_S


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
@example(b'{"auths":{"a":{"auth":"AAAA"}}}')
@example(b'{"auths":{"a":{"auth":"' + base64.b64encode(b"a\r\nX: y:b") + b'"}}}')
@example(b"[" * 100_000)
def test_auth_file_gives_logins_or_our_error(data: bytes) -> None:
    try:
        logins = parse_auth_file(data)
    except InvalidInputError:
        return
    for login in logins.values():
        assert login.user
        assert "\n" not in login.user + login.password


@given(st.dictionaries(st.sampled_from(["a.test", "a.test/b", "a.test/b/c", "a.test/bb"]), words))
def test_longest_prefix_at_a_slash_counts(found: dict[str, str]) -> None:
    logins = {key: Login("u", text) for key, text in found.items()}
    name = ImageName("a.test", "b/c/d")
    fitting = [key for key in logins if str(name).startswith(f"{key}/")]
    expected = logins[max(fitting, key=len)] if fitting else None
    assert find_login(logins, name) == expected


@given(
    user=st.text(
        st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters=":"), min_size=1
    ),
    password=st.text(st.characters(exclude_categories=["Cc", "Cs"])),
)
def test_login_is_read_back_from_the_form_that_clients_write(user: str, password: str) -> None:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    data = json.dumps({"auths": {"https://a.test/v2/": {"auth": auth}}}).encode()
    assert parse_auth_file(data) == {"a.test": Login(user, password)}


def test_hub_is_found_under_the_name_that_its_own_client_writes() -> None:
    auth = base64.b64encode(b"u:p").decode()
    data = json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": auth}}}).encode()
    assert find_login(parse_auth_file(data), ImageName("docker.io", "library/alpine"))


@pytest.mark.parametrize("data", [b"x" * 300_000, b"{}" + b" " * 300_000])
def test_long_auth_file_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match="exceeds"):
        parse_auth_file(data)


@given(labels, labels, st.lists(st.text(max_size=20), max_size=3))
@example({"maintainer": "A <a@b.test>"}, {}, [])
@example({"org.opencontainers.image.description": "x\ud800y"}, {}, ["linux/amd64"])
def test_facts_fit_the_log_whatever_an_image_says(
    said: dict[str, str], annotated: dict[str, str], platforms: list[str]
) -> None:
    config = json.dumps({"config": {"Labels": said}, "author": "B <b@c.test>"}).encode()
    facts = image_facts(config, [annotated], platforms)
    metadata = Metadata(
        name="a.test/b",
        version="1",
        summary=facts.summary,
        author=facts.author,
        licence=facts.licence,
        homepage=facts.homepage,
        repository=facts.repository,
        keywords=tuple(facts.keywords),
        requires=tuple(facts.base),
        requires_python="",
        provides_extra=(),
    )
    data = canonical.dumps(metadata.to_json())
    assert Metadata.from_json(canonical.loads(data, bytes_max=len(data))) == metadata
    assert "@" not in facts.author
    assert len(facts.summary) <= SUMMARY_LENGTH_MAX
    assert max(len(facts.author), len(facts.licence), len(facts.homepage)) <= TEXT_LENGTH_MAX


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_config_gives_facts(config: bytes) -> None:
    assert image_facts(config, [], []).keywords == []
    assert config_platform(config).count("/") in {0, 1, 2}


def test_annotations_of_the_manifest_come_before_labels() -> None:
    config = b'{"config":{"Labels":{"org.opencontainers.image.description":"label"}}}'
    annotations = [
        {"org.opencontainers.image.licenses": "MIT"},
        {"org.opencontainers.image.licenses": "other"},
    ]
    facts = image_facts(config, annotations, ["linux/arm64/v8", "linux/amd64"])
    assert (facts.summary, facts.licence) == ("label", "MIT")
    assert facts.keywords == ["linux/amd64", "linux/arm64/v8"]
