"""Both ends of the pipeline contract: what is written is read back, and nothing else gets in."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from buildpipelines.errors import FormatError
from buildpipelines.spec.lock import FILE_NAME
from buildpipelines.worker.contract import (
    BuildInfo,
    Failure,
    GitSource,
    MappingInfo,
    Running,
    Success,
    artifact_name,
    artifact_path,
    parse_build_id,
    parse_info,
    parse_mapping,
)
from tests.strategies.json_values import objects

BUILD = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"

lines = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co", "Cf", "Zl", "Zp", "Zs"]),
    min_size=1,
    max_size=100,
)
mappings = st.builds(
    MappingInfo,
    package_type=st.sampled_from(["Docker", "Maven2"]),
    package_specific_id=lines,
    source_repository=st.none() | st.builds(GitSource, url=lines, tag=lines),
    build_spec_url=st.none() | lines,
)
names = st.from_regex(FILE_NAME, fullmatch=True)
statuses = (
    st.just(Running())
    | st.builds(Failure, lines)
    | st.builds(
        Success,
        st.lists(names, max_size=8).map(lambda n: tuple(artifact_path(BUILD, x) for x in n)),
    )
)


@given(mappings)
def test_mapping_round_trips_in_one_form(mapping: MappingInfo) -> None:
    data = mapping.encoded()
    assert parse_mapping(data) == mapping
    assert parse_mapping(json.dumps(json.loads(data), indent=1).encode()).encoded() == data


@given(statuses)
def test_status_round_trips(status: Running | Success | Failure) -> None:
    info = BuildInfo(BUILD, status)
    assert parse_info(info.encoded()) == info


@given(names)
def test_artifact_address_round_trips(name: str) -> None:
    assert artifact_name(artifact_path(BUILD, name), build_id=BUILD) == name


@given(st.binary(max_size=300) | objects.map(lambda value: json.dumps(value).encode()))
def test_only_our_error_escapes_the_readers(data: bytes) -> None:
    for parse in (parse_mapping, parse_info, parse_build_id):
        with contextlib.suppress(FormatError):
            parse(data)


@given(objects, mappings)
def test_mapping_with_any_other_member_is_refused_or_means_itself(
    extra: dict[str, object], mapping: MappingInfo
) -> None:
    document = {**mapping.document(), **extra}
    with contextlib.suppress(FormatError):
        found = parse_mapping(json.dumps(document).encode())
        assert found.document() == {k: v for k, v in document.items() if v is not None}


@given(st.text(max_size=80) | st.text(max_size=40).map(lambda t: artifact_path(BUILD, t)))
def test_artifact_name_is_always_one_step_of_a_path(url: str) -> None:
    with contextlib.suppress(FormatError):
        assert FILE_NAME.match(artifact_name(url, build_id=BUILD))
