"""Maven artifacts and sources as people type them become what a node is asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

from pyrsia_cli.commands import building
from pyrsia_cli.maven_names import parse_gav, parse_source
from pyrsia_node.model.errors import InvalidInputError
from tests.fakes.node_that_answers import Said, said
from tests.unit.cli.test_images_named import Node, run

CODEC = "commons-codec:commons-codec:1.15"
GIT = "git+https://git.example/codec.git"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BODY = {"ecosystem": "maven", "name": "commons-codec:commons-codec", "version": "1.15"}


@pytest.mark.parametrize(
    ("words", "more"),
    [
        ((CODEC,), {}),
        (("--gav", CODEC), {}),
        (("pkg:maven/commons-codec/commons-codec@1.15",), {}),
        ((CODEC, "--class", "M"), {"class": "M"}),
        ((CODEC, "--source", f"{GIT}@rel/1.15"), {"options": {"source": GIT, "tag": "rel/1.15"}}),
        ((CODEC, "--source", f"{GIT}@{COMMIT}"), {"options": {"source": GIT, "commit": COMMIT}}),
        (
            (CODEC, "--source", "https://files.example/codec-1.15-src.tar.gz"),
            {"options": {"source": "https://files.example/codec-1.15-src.tar.gz"}},
        ),
        (
            (CODEC, "--jdk", "17", "--goal", "clean", "--goal", "install", "--newline", "crlf"),
            {"options": {"jdk": 17, "goals": ["clean", "install"], "newline": "crlf"}},
        ),
        (
            (CODEC, "--property", "a=b=c", "--profile", "release", "--module", "core"),
            {"options": {"properties": ["a=b=c"], "profiles": ["release"], "module": "core"}},
        ),
        (
            (CODEC, "--umask", "027", "--epoch", "1600000000", "--timezone", "Europe/Oslo"),
            {"options": {"umask": 0o27, "epoch": 1_600_000_000, "timezone": "Europe/Oslo"}},
        ),
        ((CODEC, "--locale", "de_DE.UTF-8"), {"options": {"locale": "de_DE.UTF-8"}}),
        ((CODEC, "--external"), {"options": {"pipeline": "external"}}),
    ],
)
def test_artifact_is_asked_for_by_name_with_what_was_said_of_it(
    words: tuple[str, ...], more: dict[str, object], tmp_path: Path
) -> None:
    node = Node()
    result = run(tmp_path, node, "build", "maven", *words, "--no-wait")
    assert result.exit_code == 0, result.output
    assert node.asked == [("POST /api/v1/builds", {**BODY, **more})]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "name at least one artifact"),
        (("commons-codec",), "is not GROUP:ARTIFACT:VERSION"),
        (("a:b",), "names no version"),
        (("a:b:jar:1",), "packaging and classifier are not named"),
        (("org/apache:b:1",), "written with dots"),
        (("a:b:",), "is not GROUP:ARTIFACT:VERSION"),
        (("a:b:1-SNAPSHOT",), "a snapshot changes"),
        (("a..b:c:1",), "no group id"),
        (("pkg:pypi/six@1",), "is no Maven artifact"),
        ((CODEC, "--source", GIT), "pins neither a tag nor a commit"),
        ((CODEC, "--source", "https://git.example/codec.git"), "git[+]https://"),
        ((CODEC, "--source", "https://git.example/codec@v1"), "write git[+]https://"),
        ((CODEC, "--source", "git+ssh://git.example/codec@v1"), "other ways of fetching"),
        ((CODEC, "--source", "http://files.example/a.zip"), "other ways of fetching"),
        ((CODEC, "--source", "git+https://me@git.example/codec@v1"), "no user or password"),
        ((CODEC, "--property", "x"), "is not NAME=VALUE"),
        ((CODEC, "--module", "../../x"), "module"),
        ((CODEC, "--property", "maven.repo.local=x"), "properties"),
        ((CODEC, "--goal", "-Dfoo"), "goals"),
        ((CODEC, "--umask", "0x1f"), "is no octal number"),
        ((CODEC, "--umask", "777"), "umask"),
        ((CODEC, "--timezone", "../etc/passwd"), "timezone"),
        ((CODEC, "--locale", "de"), "locale"),
        ((CODEC, "--epoch", "5"), "epoch"),
        ((CODEC, "--external", "--jdk", "17"), "jdk means nothing"),
        ((CODEC, "a:b:1", "--source", f"{GIT}@v1"), "for one artifact"),
    ],
)
def test_what_is_wrong_with_a_wish_is_named_before_a_node_is_asked(
    words: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    node = Node()
    result = run(tmp_path, node, "build", "maven", *words)
    assert isinstance(result.exception, InvalidInputError)
    with pytest.raises(InvalidInputError, match=why):
        raise result.exception
    assert node.asked == []


REFUSED = {
    "state": "refused",
    "stage": "trial",
    "detail": "BUILD_FAILED (javac): it says\nC.java:1",
}


@pytest.mark.parametrize(
    ("status", "exit_code", "says"),
    [
        (REFUSED, 1, ["BUILD_FAILED (javac): it says", "\n  C.java:1"]),
        ({"state": "failed", "leaf_index": 9}, 1, ["pyrsia log show --entry 9"]),
        ({"state": "accepted", "leaf_index": 7}, 0, ["pyrsia build explain 7"]),
    ],
)
def test_outcome_says_where_to_read_on(
    tmp_path: Path, status: dict[str, object], exit_code: int, says: list[str]
) -> None:
    result = outcome_of(tmp_path, status, leaf={})
    assert result.exit_code == exit_code
    assert all(each in result.output for each in says)


def outcome_of(
    folder: Path,
    status: dict[str, object],
    *words: str,
    leaf: dict[str, object] | None,
    before: Sequence[Said] = (),
) -> Result:
    """Return what is printed of a build.

    ``leaf`` is its entry, None if the node cannot read it; ``before`` is answered first.
    """
    node = Node()
    known = {"build_id": "b-1", "purl": "pkg:maven/a/b@1", "stage": "", "detail": ""}
    block = {"height": 2, "time_ms": 1, "header_leaf": 3}
    entry = said({"index": 7, "type": "accepted", "leaf": leaf, "block": block})
    if leaf is None:
        entry = said({"error": {"kind": "unavailable", "message": "being repaired"}}, code=503)
    state = said({**known, "started_ms": 1, "updated_ms": 1, **status})
    entries, answer = [*before, entry], node.answer

    def answers(method: str, path: str, body: bytes) -> Said:
        if path == "/api/v1/entries/7":
            return entries.pop(0) if len(entries) > 1 else entries[0]
        return state if path == "/api/v1/builds/b-1" else answer(method, path, body)

    node.answer = answers  # type: ignore[method-assign]
    return run(folder, node, *(words or ("build", "maven", CODEC)))


ACCEPTED: dict[str, object] = {"state": "accepted", "leaf_index": 7, "detail": "all is well"}
AGAINST: dict[str, object] = {
    "t": "accepted",
    "doc": {"contradicts": [{"name": "b-1.jar", "sha256": "00" * 32}]},
}


@pytest.mark.parametrize(
    "words",
    [
        ("build", "maven", CODEC),
        ("build", "pypi", "six==1.17.0"),
        ("build", "docker", "--image", "alpine:3.20"),
        ("build", "status", "--id", "b-1"),
    ],
)
def test_accepted_build_that_contradicts_what_is_published_says_so_loudly(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    result = outcome_of(tmp_path, ACCEPTED, *words, leaf=AGAINST)
    assert result.exit_code == 0
    assert "CONTRADICTS the published b-1.jar" in result.stdout
    assert "accepted, CONTRADICTS the published b-1.jar" in result.stderr
    assert "what differs: pyrsia build explain 7" in result.stderr
    machine = outcome_of(tmp_path, ACCEPTED, *words, "--format", "json", leaf=AGAINST)
    document = json.loads(machine.stdout)
    one = document if isinstance(document, dict) else document[0]
    assert (one["state"], one["contradicts"]) == ("accepted", ["b-1.jar"])
    assert "CONTRADICTS" in machine.stderr


def test_build_that_contradicts_nothing_says_nothing_of_it(tmp_path: Path) -> None:
    output = outcome_of(tmp_path, ACCEPTED, leaf={"t": "accepted", "doc": {}}).output
    assert "CONTRADICTS" not in output
    assert "all is well" in output


def test_entry_that_is_not_to_be_had_does_not_hide_the_outcome(tmp_path: Path) -> None:
    result = outcome_of(tmp_path, ACCEPTED, leaf=None)
    assert result.exit_code == 0
    assert "accepted" in result.stdout
    assert "whether it contradicts what is published is not known: being repaired" in result.stderr


def test_entry_that_the_node_has_not_got_yet_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "POLL_S", 0.001)
    early = said({"error": {"kind": "not_found", "message": "there is no entry 7"}}, code=404)
    result = outcome_of(tmp_path, ACCEPTED, leaf=AGAINST, before=[early, early])
    assert "CONTRADICTS the published b-1.jar" in result.stdout


JSON = {
    "package_type": "Maven2",
    "package_specific_id": CODEC,
    "source_repository": {"Git": {"url": "https://git.example/codec.git", "tag": "rel/1.15"}},
    "build_spec_url": "https://files.example/spec",
}
TOML = """
[[mapping]]
pattern = "commons-codec:*"
repository = "git+https://git.example/{artifact}.git"
tag = "rel/{artifact}-{version}"
recipe = { jdk = 8, goals = ["package", "install"] }
"""


def test_mapping_of_one_version_says_what_to_build_and_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "codec.mapping"
    file.write_text(json.dumps(JSON))
    for words in ((), (CODEC,)):
        node = Node()
        result = run(tmp_path, node, "build", "maven", *words, "--mapping", str(file), "--no-wait")
        assert result.exit_code == 0, result.output
        assert "is not run" in result.output
        options = {"source": GIT, "tag": "rel/1.15"}
        assert node.asked == [("POST /api/v1/builds", {**BODY, "options": options})]


def test_file_of_patterns_says_the_recipe_of_each_and_options_override_it(tmp_path: Path) -> None:
    file = tmp_path / "mappings.toml"
    file.write_text(TOML)
    node = Node()
    words = (CODEC, "commons-codec:other:2", "--jdk", "17", "--mapping", str(file), "--no-wait")
    assert run(tmp_path, node, "build", "maven", *words).exit_code == 0
    assert [body["options"] for _, body in node.asked] == [
        {
            "source": f"git+https://git.example/{artifact}.git",
            "tag": f"rel/{artifact}-{version}",
            "jdk": 17,
            "goals": ["package", "install"],
        }
        for artifact, version in (("commons-codec", "1.15"), ("other", "2"))
    ]


@pytest.mark.parametrize(
    ("text", "words", "why"),
    [
        (json.dumps(JSON), ("a:b:1",), "the mapping is of pkg:maven/commons-codec"),
        (json.dumps(JSON).replace("rel/1.15", ""), (), "a mapping without a tag"),
        (TOML, ("a:b:1",), "no mapping of the file fits"),
        (TOML, (), "name at least one artifact"),
        (TOML, (CODEC, "--source", f"{GIT}@v1"), "give one"),
        ("", (CODEC,), "is not there"),
        ("<x/>", (CODEC,), "is not TOML"),
    ],
)
def test_mapping_that_does_not_fit_is_named(
    text: str, words: tuple[str, ...], why: str, tmp_path: Path
) -> None:
    file, node = tmp_path / "mapping", Node()
    file.write_text(text)
    error = run(tmp_path, node, "build", "maven", *words, "--mapping", str(file)).exception
    assert isinstance(error, InvalidInputError)
    assert why in str(error)
    assert node.asked == []


def test_coordinates_are_read_with_and_without_a_version() -> None:
    for text, purl in (("a.b:c", "pkg:maven/a.b/c"), ("a.b:c:1", "pkg:maven/a.b/c@1")):
        assert str(parse_gav(text, needs_version=False)) == purl


@given(st.text(max_size=40) | st.from_regex(r"[a-z:./-]{1,20}", fullmatch=True))
def test_whatever_is_typed_is_an_artifact_or_our_error(text: str) -> None:
    for read in (parse_gav, parse_source):
        try:
            read(text)
        except InvalidInputError:
            continue
