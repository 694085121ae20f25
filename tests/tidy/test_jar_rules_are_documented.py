"""The page about builds lists the rules of jars and their attributes, all of them and no others."""

from __future__ import annotations

import re
from pathlib import Path

from buildpipelines.stabilize.jar import RULES
from buildpipelines.stabilize.manifest import BUILD_METADATA, NEVER_STRIP, ORDERLESS

PAGE = Path(__file__).parents[2] / "docs" / "design" / "builds.md"
NAME = re.compile(r"`([^`]+)`")


def section() -> str:
    return PAGE.read_text().split("\n## Jars\n")[1].split("\n## ")[0]


def names_between(start: str, end: str) -> set[str]:
    text = section().split(start)[1].split(end)[0]
    return {name.lower() for name in NAME.findall(text)}


def test_page_names_every_rule_of_level_2() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|", section(), re.MULTILINE)
    assert sorted(rows) == sorted(RULES["l2"])


def test_page_lists_the_attributes_that_are_taken_out() -> None:
    assert names_between("| group | attributes |", "| **kept**") == BUILD_METADATA


def test_page_lists_what_is_never_stripped() -> None:
    assert names_between("**Never stripped**", "Kept as well") == NEVER_STRIP


def test_page_lists_the_headers_that_are_sets() -> None:
    assert names_between("| the order of clauses of", "|") == ORDERLESS
