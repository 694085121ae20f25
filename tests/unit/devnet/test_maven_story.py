"""What the Maven demonstration says, and what its projects are."""

from __future__ import annotations

from pathlib import Path

from pyrsia_node.devnet.demo_maven import UPSTREAM_ID, told, with_maven
from pyrsia_node.devnet.maven_project import GAV, MavenClient, publish, write_files
from pyrsia_node.schema.config import Config, parse_config, render_config
from pyrsia_node.schema.sections import NodeSection

FILE = {
    "name": "hello-words-1.0.jar",
    "level": 1,
    "entries": {"equal": 5, "differ": 0, "built_only": 0, "published_only": 0},
    "differences": [
        {"path": "", "attribute": "time", "built": "8:00", "published": "9:00", "rule": "zip-time"},
        {"path": "a.class", "attribute": "content", "built": "b", "published": "p", "rule": ""},
    ],
}


def test_story_tells_each_file_with_its_level_and_each_difference_with_its_rule() -> None:
    answer = {"explanations": [{"by": ["one", "two"], "document": {"files": [FILE]}}]}
    assert told(answer) == [
        "hello-words-1.0.jar: level 1, 5 entries equal (said by 2 members)",
        "  time: 8:00 in the build, 9:00 published; ended by the rule zip-time",
        "  a.class content: b in the build, p published; no rule ends it",
    ]


def test_story_says_nothing_where_nothing_is_explained() -> None:
    assert told({"explanations": []}) == []


def test_node_of_the_story_has_its_upstream_and_its_source_of_sources_in_a_file() -> None:
    made = with_maven(
        Config(NodeSection("one", "regular")),
        "http://127.0.0.1:8081/maven2",
        "https://127.0.0.1:8443",
    )
    read = parse_config(render_config(made))
    [upstream] = read.maven.upstreams
    assert (upstream.id, upstream.may_import) == (UPSTREAM_ID, True)
    assert read.build.private_sources == ("127.0.0.1:8443",)


def test_maven_gets_one_mirror_and_a_local_repository_of_its_own(tmp_path: Path) -> None:
    client = MavenClient(tmp_path / "home", "http://127.0.0.1:8081/maven2?a=1&b=2")
    command = client.command(tmp_path / "project", "package")
    assert command[-1] == "package"
    assert f"-Dmaven.repo.local={tmp_path / 'home' / 'repository'}" in command
    settings = (tmp_path / "home" / "settings.xml").read_text()
    assert "<mirrorOf>*</mirrorOf>" in settings
    assert "a=1&amp;b=2" in settings


def test_published_files_lie_where_a_repository_has_them(tmp_path: Path) -> None:
    folder = "org/example/hello/hello-words/1.0"
    name = "hello-words-1.0.jar"
    write_files(tmp_path / "local", {f"{folder}/{name}": b"a jar"})
    publish(tmp_path / "upstream", tmp_path / "local", GAV, ["jar"])
    assert (tmp_path / "upstream" / folder / name).read_bytes() == b"a jar"
