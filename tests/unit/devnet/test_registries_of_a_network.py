"""A development network imports images from the registries that it is told of."""

from __future__ import annotations

import pytest

from pyrsia_node.devnet.plan import parse_registry, with_registries
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.schema.config import Config, parse_config, render_config
from pyrsia_node.schema.sections import NodeSection
from pyrsia_node.schema.upstreams import DEFAULT_UPSTREAMS, RegistryUpstream

CONFIG = Config(node=NodeSection("a", "authorized"))


def test_registry_is_told_by_its_name_and_where_it_is() -> None:
    found = parse_registry("registry.example=http://127.0.0.1:5000/")
    assert found == RegistryUpstream("registry.example", "http://127.0.0.1:5000", True, True)  # noqa: FBT003 - as the rule writes it


@pytest.mark.parametrize(
    "text", ["", "registry.example", "=http://a", "a.b=ftp://c", "A.B=http://c", "a b=http://c"]
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_registry(text)


def test_first_registry_is_the_default_and_the_configuration_is_one_that_a_node_takes() -> None:
    registries = [parse_registry(f"{name}.example=http://127.0.0.1:5000") for name in "ab"]
    made = with_registries(CONFIG, registries)
    assert made.docker.default_registry == "a.example"
    assert parse_config(render_config(made)).docker == made.docker


def test_without_one_a_node_keeps_its_defaults() -> None:
    assert with_registries(CONFIG, []).docker.upstreams == DEFAULT_UPSTREAMS
