"""The document of a comparison: within its bounds, and nothing in it that misleads a terminal."""

from __future__ import annotations

import json

import pytest

from buildpipelines.errors import FormatError
from buildpipelines.spec.explanation import (
    DIFFERENCES_MAX,
    EXPLANATION_BYTES_MAX,
    Content,
    Counts,
    Difference,
    FileExplanation,
    make_difference,
    make_explanation,
    parse_explanation,
    printable,
)

SHA = "ab" * 32
CONTENT = Content(SHA, 10)


def file(name: str, count: int, *, value: str = "x") -> FileExplanation:
    found = tuple(
        make_difference(f"p{n}", "a", built=value, published="y", level=3) for n in range(count)
    )
    return FileExplanation(name, 3, CONTENT, CONTENT, differences=found)


def test_document_is_the_one_of_the_design() -> None:
    difference = Difference("a", "time", "1", "2", 1, "zip-time")
    one = FileExplanation(
        "a.jar", 1, CONTENT, CONTENT, Counts(1, 2, 3, 4), Counts(1), (difference,), 5
    )
    found = make_explanation(
        purl="pkg:maven/g/a@1", rules=SHA, files=[FileExplanation("b.jar", -1, CONTENT), one]
    )
    counts = {"equal": 1, "differ": 2, "built_only": 3, "published_only": 4}
    none = dict.fromkeys(counts, 0)
    content = {"sha256": SHA, "size": 10}
    assert json.loads(found.encode()) == {
        "t": "explanation",
        "v": 1,
        "purl": "pkg:maven/g/a@1",
        "rules": SHA,
        "tool": "",
        "files": [
            {
                "name": "a.jar",
                "level": 1,
                "built": content,
                "published": content,
                "entries": counts,
                "classes": {**none, "equal": 1},
                "differences": [
                    {
                        "path": "a",
                        "attribute": "time",
                        "built": "1",
                        "published": "2",
                        "level": 1,
                        "rule": "zip-time",
                    }
                ],
                "more": 5,
            },
            {
                "name": "b.jar",
                "level": -1,
                "built": content,
                "entries": none,
                "classes": none,
                "differences": [],
                "more": 0,
            },
        ],
    }


def test_no_file_takes_the_room_of_another() -> None:
    found = make_explanation(
        purl="p", rules=SHA, files=[file("a.jar", 1000), file("b.jar", 3), file("c.jar", 300)]
    )
    shown = {f.name: (len(f.differences), f.more) for f in found.files}
    assert shown["b.jar"] == (3, 0)
    assert sum(count for count, _ in shown.values()) == DIFFERENCES_MAX
    assert shown["a.jar"][0] - shown["c.jar"][0] in (0, 1)
    assert shown["a.jar"][1] == 1000 - shown["a.jar"][0]
    assert parse_explanation(found.encode()) == found


def test_long_values_never_exceed_the_bound_of_bytes() -> None:
    files = [file(f"{n:03}.jar", 60, value="ü" * 4000) for n in range(20)]
    found = make_explanation(purl="p", rules=SHA, files=files)
    assert len(found.encode()) <= EXPLANATION_BYTES_MAX
    assert sum(len(f.differences) + f.more for f in found.files) == 20 * 60
    assert parse_explanation(found.encode()) == found


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain ü 漢", "plain ü 漢"),
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("a\u202eb", "a\\u202eb"),
        ("a\x9bb\x7f", "a\\x9bb\\x7f"),
        ("\ud800", "\\ud800"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_texts_are_safe_to_show(text: str, safe: str) -> None:
    assert printable(text) == safe


def test_escaping_never_makes_a_text_too_long() -> None:
    assert len(printable("\x1b" * 50, 100)) == 100
    made = make_difference("x\n" * 900, "\x00" * 500, built="\x00" * 4000, published="", level=3)
    assert (len(made.path), len(made.attribute), len(made.built)) == (1000, 120, 4000)
    assert "\n" not in made.path


def valid() -> dict[str, object]:
    document: dict[str, object] = make_explanation(
        purl="p", rules=SHA, files=[file("a.jar", 1)]
    ).document()
    return document


def encode(document: dict[str, object]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def spoiled(change: str, value: object) -> bytes:
    document = json.loads(json.dumps(valid()))
    *steps, last = change.split(".")
    target = document
    for step in steps:
        target = target[int(step) if step.isdigit() else step]
    target[last] = value
    return encode(document)


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("t", "lock"),
        ("v", 2),
        ("v", True),
        ("more", 1),
        ("rules", "short"),
        ("purl", "a\nb"),
        ("tool", "x" * 81),
        ("files.0.name", "../a.jar"),
        ("files.0.level", 4),
        ("files.0.level", -1),
        ("files.0.built", {"sha256": SHA, "size": -1}),
        ("files.0.entries", {"equal": 1}),
        ("files.0.differences.0.level", 0),
        ("files.0.differences.0.path", "a\x1b[2J"),
        ("files.0.differences.0.built", "a\u202eb"),
        ("files.0.differences.0.built", "x" * 4001),
        ("files.0.differences.0.more", ""),
    ],
)
def test_document_that_breaks_the_format_is_refused(change: str, value: object) -> None:
    assert parse_explanation(encode(valid())).files[0].name == "a.jar"
    with pytest.raises(FormatError):
        parse_explanation(spoiled(change, value))


def test_files_are_sorted_and_there_once() -> None:
    document = valid()
    one = document["files"]
    assert isinstance(one, list)
    with pytest.raises(FormatError, match="sorted or are repeated"):
        parse_explanation(encode({**document, "files": one * 2}))


def test_more_differences_than_allowed_in_all_are_refused() -> None:
    document = valid()
    files = [file(f"{name}.jar", 201).document() for name in "ab"]
    with pytest.raises(FormatError, match="more than 400 differences"):
        parse_explanation(encode({**document, "files": files}))
