"""Every document and message of a build comes back as it was sent; nothing else gets in."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildpipelines.errors import FormatError
from buildpipelines.recipes.pypi import parse_recipe_fields
from buildpipelines.recipes.releases import parse_purl
from buildpipelines.spec import canonical
from buildpipelines.spec.lock import Lock, LockedFile, make_lock, parse_lock
from buildpipelines.spec.messages import (
    JobStatus,
    RebuildParams,
    RecipeValue,
    TrialParams,
    parse_failure,
    parse_job,
    parse_rebuild,
    parse_recipe,
    parse_result,
    parse_status,
    parse_trial,
    recipe_document,
)
from buildpipelines.spec.metadata import Metadata, parse_metadata
from pyrsia_node.model import canonical as node_canonical
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.errors import InvalidInputError
from tests.property.buildpipelines import build_documents as made
from tests.strategies.json_values import objects

PARSERS: list[Callable[[Mapping[str, object]], object]] = [
    parse_failure,
    parse_job,
    parse_lock,
    parse_metadata,
    parse_rebuild,
    parse_recipe,
    parse_result,
    parse_status,
    parse_trial,
]


def over_the_wire(document: dict[str, object]) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(json.dumps(document))
    return parsed


@given(made.locks)
def test_lock_round_trips_and_keeps_its_digest(lock: Lock) -> None:
    data = canonical.dumps(lock.document())
    again = parse_lock(canonical.loads_object(data, bytes_max=len(data)))
    assert again == lock
    assert again.digest() == lock.digest()


@given(st.lists(made.locked_files, max_size=5), st.randoms(use_true_random=False))
def test_lock_does_not_depend_on_the_order_of_its_files(
    files: list[LockedFile], random: object
) -> None:
    unique = list({(f.ecosystem, f.project, f.file): f for f in files}.values())
    shuffled = list(unique)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    assert make_lock(shuffled) == make_lock(unique)


@given(made.locks.filter(lambda lock: len(lock.files) > 1))
def test_lock_that_is_not_sorted_is_refused(lock: Lock) -> None:
    document = lock.document()
    files = document["files"]
    assert isinstance(files, list)
    with pytest.raises(FormatError):
        parse_lock({**document, "files": files[::-1]})
    with pytest.raises(FormatError):
        parse_lock({**document, "files": [files[0], *files]})


@given(made.trials)
def test_trial_round_trips(params: TrialParams) -> None:
    assert parse_trial(over_the_wire(params.document())) == params


@given(made.rebuilds)
def test_rebuild_round_trips(params: RebuildParams) -> None:
    assert parse_rebuild(over_the_wire(params.document())) == params


@given(made.statuses)
def test_status_round_trips_with_its_result(status: JobStatus) -> None:
    assert parse_status(over_the_wire(status.document())) == status


@given(made.recipes)
def test_recipe_round_trips(recipe: dict[str, RecipeValue]) -> None:
    assert parse_recipe(over_the_wire(recipe_document(recipe))) == recipe


@given(made.metadata)
def test_metadata_round_trips(metadata: Metadata) -> None:
    assert parse_metadata(over_the_wire(metadata.document())) == metadata


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(PARSERS), st.dictionaries(st.text(max_size=12), json_values, max_size=5))
def test_only_our_error_escapes_from_any_object(
    parse: Callable[[Mapping[str, object]], object], value: dict[str, object]
) -> None:
    with contextlib.suppress(FormatError):
        parse(value)


@given(
    st.one_of(
        made.rebuilds.map(lambda p: (parse_rebuild, p.document())),
        made.trials.map(lambda p: (parse_trial, p.document())),
        made.statuses.map(lambda s: (parse_status, s.document())),
        made.locks.map(lambda lock: (parse_lock, lock.document())),
    ),
    st.data(),
)
def test_only_our_error_escapes_from_an_almost_valid_message(
    sent: tuple[Callable[[Mapping[str, object]], object], dict[str, object]], data: st.DataObject
) -> None:
    parse, document = sent
    key = data.draw(st.sampled_from(sorted(document)))
    changed = over_the_wire(document)
    if data.draw(st.booleans()):
        del changed[key]
    else:
        changed[key] = data.draw(json_values)
    with contextlib.suppress(FormatError):
        parse(changed)


@given(made.recipes)
def test_only_our_error_escapes_from_recipe_fields(recipe: dict[str, RecipeValue]) -> None:
    with contextlib.suppress(FormatError):
        parse_recipe_fields(recipe)


@given(st.text(max_size=60) | st.text(max_size=30).map("pkg:pypi/".__add__))
def test_only_our_error_escapes_from_package_urls(text: str) -> None:
    with contextlib.suppress(FormatError):
        parse_purl(text)


@given(objects)
def test_both_canonical_encoders_agree(value: JsonObject) -> None:
    data = canonical.dumps(value)
    assert data == node_canonical.dumps(value)
    assert canonical.loads_object(data, bytes_max=len(data)) == value


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_both_canonical_decoders_accept_the_same_bytes(data: bytes) -> None:
    try:
        theirs: object = node_canonical.loads_object(data, bytes_max=100_000)
    except InvalidInputError:
        theirs = None
    try:
        ours: object = canonical.loads_object(data, bytes_max=100_000)
    except FormatError:
        ours = None
    assert ours == theirs


def test_lock_that_no_member_would_read_is_never_made() -> None:
    def files(count: int, folder: str) -> list[LockedFile]:
        return [LockedFile("maven", folder, f"a-{n}.jar", "0" * 64, n) for n in range(count)]

    most = make_lock(files(2000, "org/example/a/1.0"))
    assert parse_lock(most.document()) == most
    with pytest.raises(FormatError, match="2000 at most"):
        make_lock(files(2001, "org/example/a/1.0"))
    with pytest.raises(FormatError, match="more than 524288 bytes"):
        make_lock(files(2000, "org/" + "example/" * 20 + "1.0"))
