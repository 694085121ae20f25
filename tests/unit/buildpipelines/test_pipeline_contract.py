"""The contract's messages: the original's own spellings are read, everything else is named."""

from __future__ import annotations

import json

import pytest

from buildpipelines.errors import FormatError
from buildpipelines.worker.contract import (
    BODY_BYTES_MAX,
    BuildInfo,
    Failure,
    GitSource,
    MappingInfo,
    Running,
    Status,
    Success,
    artifact_name,
    parse_build_id,
    parse_info,
    parse_mapping,
)

CODEC = MappingInfo(
    "Maven2",
    "commons-codec:commons-codec:1.15",
    GitSource("https://example.org/commons-codec.git", "rel/commons-codec-1.15"),
)
BUILD = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"


def mapping_body(**changes: object) -> bytes:
    body: dict[str, object] = {
        "package_type": "Maven2",
        "package_specific_id": "commons-codec:commons-codec:1.15",
        "source_repository": {
            "Git": {
                "url": "https://example.org/commons-codec.git",
                "tag": "rel/commons-codec-1.15",
            }
        },
        "build_spec_url": None,
    }
    return json.dumps({**body, **changes}).encode()


def test_mapping_as_the_original_sends_it_is_read() -> None:
    assert parse_mapping(mapping_body()) == CODEC


def test_mapping_without_null_members_means_the_same() -> None:
    assert parse_mapping(CODEC.encoded()) == CODEC
    bare = MappingInfo("Docker", "library/alpine:3.16")
    assert parse_mapping(bare.encoded()) == bare
    assert b"null" not in bare.encoded()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "not JSON"),
        (b"[]", "no JSON object"),
        (b"\xff", "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b" " * (BODY_BYTES_MAX + 1), "bytes"),
        (b'{"package_type":"Maven2","package_type":"Docker"}', "one key twice"),
        (b'{"package_type":"Maven2"}', "package_specific_id"),
        (mapping_body(package_type="Npm"), "Npm"),
        (mapping_body(package_type=["Maven2"]), "package_type"),
        (mapping_body(package_specific_id=""), "package_specific_id"),
        (mapping_body(package_specific_id="a:b\n:1"), "package_specific_id"),
        (mapping_body(package_specific_id=7), "package_specific_id"),
        (mapping_body(source_repository={"Svn": {}}), "Git"),
        (mapping_body(source_repository={"Git": {"url": "https://h/r"}}), "tag"),
        (mapping_body(source_repository={"Git": {"url": "", "tag": "1"}}), "url"),
        (mapping_body(source_repository="https://h/r"), "source_repository"),
        (mapping_body(build_spec_url={}), "build_spec_url"),
        (mapping_body(script="rm"), "script"),
        (mapping_body(package_specific_id=1e400), "number"),
        (mapping_body(package_specific_id=10**20), "number"),
    ],
)
def test_malformed_mapping_is_refused_and_what_is_wrong_is_named(body: bytes, named: str) -> None:
    with pytest.raises(FormatError, match=named):
        parse_mapping(body)


def test_statuses_are_spelt_as_the_original_spells_them() -> None:
    url = f"/build/{BUILD}/artifacts/a-1.jar"
    spelt: dict[Status, object] = {
        Running(): "Running",
        Success((url,)): {"Success": {"artifact_urls": [url]}},
        Failure("1"): {"Failure": "1"},
    }
    for status, text in spelt.items():
        assert json.loads(BuildInfo(BUILD, status).encoded()) == {"id": BUILD, "status": text}
        assert parse_info(BuildInfo(BUILD, status).encoded()) == BuildInfo(BUILD, status)


def test_status_of_an_older_pipeline_may_say_more_and_count_its_exit_codes() -> None:
    body = json.dumps({"id": BUILD, "status": {"Failure": 101}, "host": "x"}).encode()
    assert parse_info(body) == BuildInfo(BUILD, Failure("exit status 101"))


@pytest.mark.parametrize(
    "status",
    [
        *("running", None, 7, [], {}, {"Success": []}, {"Success": {}}, {"Failure": None}),
        *({"Success": {"artifact_urls": each}} for each in ([1], ["/x"] * 129, "/x", None)),
        *({"Success": {"artifact_urls": []}, "Failure": ""}, {"Done": "x"}, {"Failure": True}),
    ],
)
def test_status_that_is_none_is_refused(status: object) -> None:
    with pytest.raises(FormatError):
        parse_info(json.dumps({"id": BUILD, "status": status}).encode())


@pytest.mark.parametrize("body", [b"1", b'""', b'"../x"', b'"a b"', b'{"id":"x"}', b'"%2e"', b"x"])
def test_build_id_that_cannot_stand_in_a_path_is_refused(body: bytes) -> None:
    with pytest.raises(FormatError):
        parse_build_id(body)


def test_artifact_is_known_by_the_name_at_the_end_of_its_address() -> None:
    assert artifact_name(f"/build/{BUILD}/artifacts/a-1.0%2Bb.jar", build_id=BUILD) == "a-1.0+b.jar"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/",
        f"/build/{BUILD}/artifacts/",
        f"/build/{BUILD}/artifacts/..",
        f"/build/{BUILD}/artifacts/%2e%2e",
        f"/build/{BUILD}/artifacts/%2e%2e%2fetc",
        f"/build/{BUILD}/artifacts/../../x.jar",
        f"/build/{BUILD}/artifacts/a/b.jar",
        f"/build/{BUILD}/artifacts/a%2fb.jar",
        f"/build/{BUILD}/artifacts/a.jar?x=1",
        f"/build/{BUILD}/artifacts/a.jar#x",
        f"/build/{BUILD}/artifacts/a%00.jar",
        f"/build/{BUILD}/artifacts/ä.jar",
        f"/build/{BUILD}/artifacts/%ff.jar",
        "/build/another/artifacts/a.jar",
        f"//evil.example/build/{BUILD}/artifacts/a.jar",
        f"http://evil.example/build/{BUILD}/artifacts/a.jar",
        f"http://[/build/{BUILD}/artifacts/a.jar",
        f"build/{BUILD}/artifacts/a.jar",
    ],
)
def test_artifact_address_that_leads_anywhere_else_is_refused(url: str) -> None:
    with pytest.raises(FormatError):
        artifact_name(url, build_id=BUILD)
