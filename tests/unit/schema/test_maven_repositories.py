"""``[maven]`` of node.toml: whom a node may ask, and for which groups."""

from __future__ import annotations

import pytest

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.config import Config, parse_config
from pyrsia_node.schema.maven_repositories import GroupPolicy, MavenUpstream, policy_of

URL = "https://repository.example/maven2"


def parsed(maven: str) -> Config:
    return parse_config(f'[node]\nlabel = "north"\nrole = "regular"\n[maven]\n{maven}\n')


def test_upstreams_keep_the_order_in_which_they_are_asked() -> None:
    config = parsed(
        f'upstreams = [{{ id = "central", url = "{URL}/" }},'
        ' { id = "own", url = "http://127.0.0.1:8081", allow_private = true, unchecked = true }]'
    )
    assert config.maven.upstreams == (
        MavenUpstream("central", URL),
        MavenUpstream("own", "http://127.0.0.1:8081", allow_private=True, unchecked=True),
    )


def test_builds_use_no_private_upstream_unless_told_so() -> None:
    assert MavenUpstream("a", URL).may_import
    assert not MavenUpstream("a", URL, allow_private=True).may_import
    assert MavenUpstream("a", URL, allow_private=True, importable=True).may_import


def test_files_behind_a_password_never_become_public() -> None:
    assert MavenUpstream("a", URL).is_public
    assert not MavenUpstream("a", URL, allow_private=True).is_public
    assert MavenUpstream("a", URL, allow_private=True, importable=True).is_public
    secret = URL.replace("://", "://user:secret@")
    assert not MavenUpstream("a", secret, importable=True).is_public


def test_longest_prefix_of_whole_segments_decides() -> None:
    policies = (
        GroupPolicy("org", "upstream"),
        GroupPolicy("org.acme", "deny"),
        GroupPolicy("org.acme.open", "upstream"),
    )
    found = {
        group: policy_of(group, policies, default="deny")
        for group in ("org", "org.acme", "org.acmes", "org.acme.x.y", "org.acme.open", "net")
    }
    assert found == {
        "org": "upstream",
        "org.acme": "deny",
        "org.acmes": "upstream",
        "org.acme.x.y": "deny",
        "org.acme.open": "upstream",
        "net": "deny",
    }


@pytest.mark.parametrize(
    "line",
    [
        'upstreams = ["central"]',
        f'upstreams = [{{ id = "central", url = "{URL}?x=1" }}]',
        f'upstreams = [{{ id = "Central", url = "{URL}" }}]',
        f'upstreams = [{{ id = "a", url = "{URL}", mirror = true }}]',
        f'upstreams = [{{ id = "a", url = "{URL}" }}, {{ id = "a", url = "{URL}" }}]',
        f'upstreams = [{{ id = "a", url = "{URL}", unchecked = 1 }}]',
        'policies = [{ prefix = "org.", policy = "deny" }]',
        'policies = [{ prefix = "org", policy = "allow" }]',
        'policies = [{ prefix = "o", policy = "deny" }, { prefix = "o", policy = "deny" }]',
        'reserved = ["com/acme"]',
        'reserved = "com.acme"',
    ],
)
def test_what_is_no_list_of_the_kind_is_refused_with_its_key(line: str) -> None:
    with pytest.raises(
        InvalidInputError, match=rf"maven\.{line.partition(' ')[0]} = .*allowed: a li"
    ):
        parsed(line)


def test_policy_upstream_without_an_upstream_is_a_mistake() -> None:
    with pytest.raises(InvalidInputError, match=r"with maven\.upstreams alone"):
        parsed('policies = [{ prefix = "org", policy = "upstream" }]')
