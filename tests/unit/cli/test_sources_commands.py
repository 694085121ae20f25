"""What ``pyrsia sources`` asks of its node, and what it makes of the answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_cli.main import cli
from pyrsia_node.model.errors import InvalidInputError, NotFoundError
from tests.fakes.node_that_answers import Said, node_that_answers, said

NORTH = f"12D3KooW{'N' * 44}"
SUBJECT = "9d" * 32
REPOSITORY, TAG = "git+https://git.example/a/b", "v{version}"
LINE: dict[str, object] = {
    "pattern": "pkg:maven/a.b/c",
    "repository": REPOSITORY,
    "tag": TAG,
    "recipe": {"jdk": 17},
    "reason": "known",
    "leaf": 7,
    "approved_by": [{"id": NORTH, "label": "north"}],
}
SECOND = {**LINE, "pattern": "pkg:maven/a.b/d", "recipe": {}, "approved_by": []}
MEMBERS = {"height": 1, "epoch": 0, "n": 1, "f": 0, "q": 1, "note": "", "members": []}
TAKEN = {"subject": SUBJECT, "op": "add_source", "title": "t", "transaction": "ab" * 32}
TOML = f"""
[[mapping]]
pattern = "a.b:c"
repository = "{REPOSITORY}"
tag = "{TAG}"
[[mapping]]
pattern = "a.b:*"
repository = "https://a.example/{{artifact}}-{{version}}.zip"
"""
Run = Callable[..., Result]


class Node:
    """Says what a node says; keeps what motions it was brought."""

    def __init__(self) -> None:
        self.brought: list[dict[str, object]] = []
        self.refuses = ""
        self.hits: list[dict[str, object]] = []

    def answer(self, method: str, path: str, body: bytes) -> Said:
        if method == "POST":
            content = json.loads(body)["content"]
            self.brought.append(content)
            if content["pattern"] == self.refuses:
                why = "the node does not like it"
                return said({"error": {"kind": "invalid", "message": why}}, code=400)
            return said({**TAKEN, "needed": 1})
        route, _, query = path.partition("?")
        if route == "/api/v1/sources":
            if "purl=" in query:
                return said({"sources": [], "is_last": True})
            is_first = query in {"", "after="}
            return said({"sources": [LINE if is_first else SECOND], "is_last": not is_first})
        if route == "/api/v1/search":
            stamp = {"as_of": 9, "size": 9, "root": "00" * 32, "complete": True}
            return said({**stamp, "order": "newest", "hits": self.hits})
        if route == "/api/v1/members":
            return said({**MEMBERS, "params": {}, "motions": []})
        return said({"committed": True, "height": 3, "leaf": 7})


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def run(node: Node, tmp_path: Path) -> Iterator[Run]:
    token = tmp_path / "admin.token"
    token.write_text("of this test\n")
    with node_that_answers(tmp_path, node.answer) as settings:
        settings.write_text(f'{settings.read_text()}token_file = "{token}"\ntrust = "{token}"\n')
        yield lambda *words: CliRunner(env={"PYRSIA_CONFIG": str(settings)}).invoke(
            cli, ["sources", *words]
        )


def test_mapping_is_brought_as_a_motion(node: Node, run: Run) -> None:
    where = ("--repository", REPOSITORY, "--tag", TAG, "--jdk", "17", "--goal", "package")
    result = run("add", "a.b:c", *where, "--reason", "known")
    assert result.exit_code == 0, result.output
    recipe = {"goals": ["package"], "jdk": 17}
    assert node.brought == [
        {
            "pattern": "pkg:maven/a.b/c",
            "repository": REPOSITORY,
            "tag": TAG,
            "recipe": recipe,
            "reason": "known",
        }
    ]


def hit(pattern: str, repository: str, index: int) -> dict[str, object]:
    block = {"height": 2, "time_ms": 1, "header_leaf": 3}
    leaf = {"t": "add_source", "pattern": pattern, "repository": repository}
    return {"index": index, "type": "add_source", "leaf": leaf, "purl": pattern, "block": block}


def test_mapping_that_the_log_has_already_is_no_error(node: Node, run: Run) -> None:
    node.refuses = "pkg:maven/a.b/c"
    where = ("--repository", REPOSITORY, "--tag", TAG, "--reason", "in other words")
    result = run("add", "a.b:c", *where, "--jdk", "17")
    assert result.exit_code == 0, result.output
    assert "pkg:maven/a.b/c: the log says so already (leaf 7)" in result.output
    for other in (("--jdk", "8"), ("--jdk", "17", "--goal", "package"), ()):
        assert isinstance(run("add", "a.b:c", *where, *other).exception, InvalidInputError)


def test_pattern_that_was_just_taken_back_is_no_error_and_one_never_mapped_is(
    node: Node, run: Run
) -> None:
    node.refuses = "pkg:maven/x.y/*"
    words = ("remove", "x.y:*", "--reason", "moved")
    assert isinstance(run(*words).exception, InvalidInputError)
    # The newest entry of exactly this pattern counts.
    before = hit("pkg:maven/x.y/*", REPOSITORY, 5)
    node.hits = [hit("pkg:maven/x.y/z", REPOSITORY, 9), hit("pkg:maven/x.y/*", "", 8), before]
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert "pkg:maven/x.y/*: the log says so already (leaf 8)" in result.output
    node.hits = [before]
    assert isinstance(run(*words).exception, InvalidInputError)
    node.refuses = "pkg:maven/a.b/c"
    still_mapped = run("remove", "a.b:c", "--reason", "moved")
    assert isinstance(still_mapped.exception, InvalidInputError)


def test_recipe_is_said_by_options(node: Node, run: Run) -> None:
    where = ("--repository", REPOSITORY, "--tag", TAG, "--reason", "known")
    recipe = ("--umask", "022", "--timezone", "Europe/Oslo", "--locale", "de_DE.UTF-8")
    assert run("add", "a.b:c", *where, *recipe, "--epoch", "1600000000").exit_code == 0
    (content,) = node.brought
    assert content["recipe"] == {
        "umask": 0o22,
        "timezone": "Europe/Oslo",
        "locale": "de_DE.UTF-8",
        "epoch": 1_600_000_000,
    }


def test_every_mapping_of_a_file_is_brought_though_one_is_refused(
    node: Node, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "mappings.toml"
    file.write_text(TOML)
    node.refuses = "pkg:maven/a.b/c"
    result = run("add", "--mapping", str(file), "--reason", "reviewed")
    assert [each["pattern"] for each in node.brought] == ["pkg:maven/a.b/c", "pkg:maven/a.b/*"]
    assert isinstance(result.exception, InvalidInputError)
    assert "pkg:maven/a.b/c: the node does not like it" in result.output


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("a.b:c",), "its --repository, or --mapping"),
        (("--repository", REPOSITORY), "name a pattern"),
        (("a.b:c", "--repository", REPOSITORY), "a mapping without a tag"),
        (("a.b:c", "--repository", "http://x.example/y", "--tag", TAG), "is not git.https"),
        (("a.b", "--repository", REPOSITORY, "--tag", TAG), "pattern 'a.b'"),
        (("a.b:c", "--mapping", "x.toml"), "give no pattern"),
        (("--mapping", "/nowhere/x.toml"), "cannot be read"),
        (
            ("a.b:c", "--repository", REPOSITORY, "--tag", TAG, "--goal", "-Dx"),
            "no build could follow its recipe: field 'goals'",
        ),
        (("a.b:c", "--repository", REPOSITORY, "--tag", TAG, "--umask", "9"), "no octal number"),
        (
            ("a.b:c", "--repository", REPOSITORY, "--tag", TAG, "--umask", "777"),
            "no build could follow its recipe: field 'umask'",
        ),
        (("a.b:c", "--mapping", "x.toml", "--epoch", "5"), "give no pattern"),
    ],
)
def test_mapping_that_no_node_would_take_is_refused_here(
    node: Node, run: Run, words: tuple[str, ...], why: str
) -> None:
    result = run("add", *words, "--reason", "known")
    assert isinstance(result.exception, InvalidInputError)
    with pytest.raises(InvalidInputError, match=why):
        raise result.exception
    assert node.brought == []


def test_removal_takes_the_pattern_back(node: Node, run: Run) -> None:
    assert run("remove", "a.b:*", "--reason", "moved").exit_code == 0
    (content,) = node.brought
    assert (content["pattern"], content["repository"]) == ("pkg:maven/a.b/*", "")


def test_list_goes_on_to_the_last_page_in_every_format(run: Run) -> None:
    table = run("list").output
    assert "git+https://git.example/a/b" in table
    assert "north" in table
    lines = run("list", "--format", "csv").output.splitlines()
    assert lines[0] == "pattern,repository,tag,recipe,leaf,approved,reason"
    assert [line.partition(",")[0] for line in lines[1:]] == [LINE["pattern"], SECOND["pattern"]]
    document = json.loads(run("list", "--format", "json").output)
    assert [each["leaf"] for each in document["sources"]] == [7, 7]


def test_artifact_that_no_mapping_fits_is_not_found(run: Run) -> None:
    result = run("show", "x:y:1")
    assert isinstance(result.exception, NotFoundError)
    assert "no mapping in the log fits x:y:1" in str(result.exception)
