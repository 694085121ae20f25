"""Options of a wish for a Maven artifact: kept as they are, or refused by our own error."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.builds.maven import Origin, checked_options, departs, filled_in
from pyrsia_node.builds.wishes import decode_options, encode_options
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl
from pyrsia_node.schema.maven_builds import MavenOptions
from tests.strategies.json_values import values

PURL = Purl.maven("org.example", "tool", "1.0")
words = st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,11}", fullmatch=True).map(lambda w: f"x{w}")
lists = st.lists(words, max_size=3, unique=True)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "module": st.from_regex(r"[a-z]{1,5}(/[a-z]{1,5})?", fullmatch=True),
    "jdk": st.integers(1, 99),
    "goals": lists.filter(bool),
    "profiles": lists,
    "properties": lists,
    "newline": st.sampled_from(("lf", "crlf")),
    "umask": st.integers(0, 0o077),
    "timezone": st.sampled_from(("UTC", "Asia/Tokyo", "Etc/GMT-14")),
    "locale": st.sampled_from(("C.UTF-8", "tr_TR.UTF-8")),
    "epoch": st.integers(2**29, 2**31),
}
recipes = st.fixed_dictionaries({}, optional=GOOD)
sources = st.sampled_from(
    (
        {},
        {"source": "git+https://git.example/tool.git", "tag": "v1.0"},
        {"source": "git+https://git.example:8443/tool", "commit": "0" * 40},
        {"source": "https://files.example/tool-1.0.tar.gz"},
    )
)
ORIGIN = Origin("git+https://git.example/mapped", "rel/1.0", {"jdk": 8, "goals": ("verify",)})


@given(recipes, sources)
def test_options_pass_as_they_are(recipe: dict[str, Any], source: dict[str, str]) -> None:
    given_options = encode_options({**recipe, **source})
    assert checked_options(given_options) == given_options
    read = decode_options(given_options)
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in read.items()}
    assert plain == {**recipe, **source}


@given(recipes, sources)
def test_what_a_wish_says_is_told_to_the_worker_over_what_the_log_says(
    recipe: dict[str, Any], source: dict[str, str]
) -> None:
    told = filled_in(PURL, encode_options({**recipe, **source}), ORIGIN)
    assert told.items() >= decode_options(encode_options({**recipe, **source})).items()
    assert told["source"] == source.get("source", ORIGIN.source)
    assert not ("tag" in told and "commit" in told)


@given(st.dictionaries(st.sampled_from((*GOOD, "source", "tag", "commit", "x")), values))
def test_whatever_a_peer_sends_only_our_error_escapes(value: dict[str, Any]) -> None:
    with contextlib.suppress(InvalidInputError):
        MavenOptions.parse(value)
    with contextlib.suppress(InvalidInputError):
        checked_options(encode_options(value))


@given(recipes)
def test_one_changed_field_is_enough_to_depart_from_the_log(recipe: dict[str, Any]) -> None:
    """Whatever the mapping names is held against the request where nothing is published."""
    said = {name: tuple(v) if isinstance(v, list) else v for name, v in recipe.items()}
    origin = Origin("git+https://git.example/tool", "v1.0", said)
    defaults = {"goals": ("install",), "module": "", "timezone": "UTC", "locale": "C.UTF-8"}
    facts = {"source_url": origin.source, "tag": origin.tag, "reference": "none"}
    request: dict[str, Any] = {**defaults, "profiles": (), "properties": (), **said, **facts}
    assert departs(request, origin, kind="tree") == ()
    for name in (*said, "source_url", "tag"):
        changed = {**request, name: json.dumps(str(request[name])) + "!"}
        assert departs(changed, origin, kind="tree") == (name,)
