"""Laws of the configuration: it survives being written, and hostile text meets one error only."""

from __future__ import annotations

import tomllib
from dataclasses import fields

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.config import SECTIONS, Config, describe_keys, parse_config, render_config
from pyrsia_node.schema.maven_repositories import GroupPolicy, MavenUpstream
from pyrsia_node.schema.sections import (
    BuildSection,
    CacheSection,
    DataSection,
    HttpSection,
    MavenSection,
    NodeSection,
    P2pSection,
    PypiSection,
)

PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
printable = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(str.isprintable)
groups = st.from_regex(r"[A-Za-z0-9_-]{1,9}(\.[A-Za-z0-9_-]{1,9}){0,2}", fullmatch=True)
repositories = st.builds(
    MavenUpstream,
    id=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,31}", fullmatch=True),
    url=st.sampled_from(["https://repository.example/maven2", "http://u:p@127.0.0.1:8081"]),
    allow_private=st.booleans(),
    importable=st.booleans(),
    unchecked=st.booleans(),
)
configs = st.builds(
    Config,
    node=st.builds(
        NodeSection, st.from_regex(r"[a-z0-9.-]{1,64}", fullmatch=True), st.just("authorized")
    ),
    http=st.builds(HttpSection, port=st.integers(1, 9), admin_token_file=printable),
    data=st.builds(
        DataSection, port=st.integers(10, 65535), tls=st.booleans(), upload=st.booleans()
    ),
    p2p=st.builds(
        P2pSection,
        listen=st.lists(
            st.builds("/ip4/{}/tcp/{}".format, st.ip_addresses(v=4), st.integers(0, 65535)),
            max_size=3,
        ).map(tuple),
        bootstrap=st.lists(
            st.builds("/ip6/{}/tcp/1/p2p/{}".format, st.ip_addresses(v=6), st.just(PEER)),
            max_size=2,
        ).map(tuple),
    ),
    cache=st.builds(CacheSection, st.integers(2**24, 2**53 - 1)),
    pypi=st.builds(PypiSection, policy=st.sampled_from(["deny", "upstream"])),
    maven=st.builds(
        MavenSection,
        upstreams=st.lists(
            repositories, min_size=1, max_size=3, unique_by=lambda each: each.id
        ).map(tuple),
        policies=st.lists(
            st.builds(GroupPolicy, groups, st.sampled_from(["deny", "upstream"])),
            max_size=3,
            unique_by=lambda each: each.prefix,
        ).map(tuple),
        reserved=st.lists(groups, max_size=2).map(tuple),
    ),
    build=st.builds(BuildSection, enabled=st.booleans(), allow=st.sampled_from([(), ("*",)])),
)


@given(configs)
def test_configuration_survives_being_written(config: Config) -> None:
    assert parse_config(render_config(config)) == config


plain = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
names = st.sampled_from([key.name for key in describe_keys()]) | st.text("ab_", min_size=1)


@given(
    st.text(max_size=60)
    | st.lists(
        st.builds(
            "[{}]\n{} = {}".format,
            st.sampled_from([*SECTIONS, "x"]),
            names,
            st.sampled_from(
                ["1", "-1", "true", '""', "[]", "[1]", "{}", "nan", "1979-05-27", '"ü"']
            ),
        ),
        max_size=5,
    ).map("\n".join)
)
def test_only_invalid_input_escapes(text: str) -> None:
    try:
        config = parse_config(text)
    except InvalidInputError:
        return
    assert {field.name for field in fields(config)} == set(tomllib.loads(render_config(config)))
