"""Names in the documents must be names in the tree: links, test files, modules and functions."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PACKAGES = (ROOT / "pyrsia_node", ROOT / "buildpipelines", ROOT)
"""Where a dotted name of a walkthrough may begin."""

_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_TEST_FILE = re.compile(r"`((?:[\w/]+/)?test_\w+\.py)`")
_DOTTED = re.compile(r"`([a-z_]+(?:\.\w+)+)`")
_MODULE_FILE = re.compile(r"`((?:\w+/)+\w+\.py)`")


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if each.parent != ROOT], ids=ids)
def test_every_link_leads_to_a_file(document: Path) -> None:
    targets = [each for each in _LINK.findall(document.read_text()) if "://" not in each]
    assert [each for each in targets if not (document.parent / each).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=ids)
def test_every_test_file_that_is_named_exists(document: Path) -> None:
    known = [f"/{path.relative_to(ROOT)}" for path in (ROOT / "tests").rglob("test_*.py")]
    named = _TEST_FILE.findall(document.read_text())
    assert [each for each in named if not any(path.endswith(f"/{each}") for path in known)] == []


@cache
def names_in(module: Path) -> frozenset[str]:
    """Return what a module defines at its top, and Class.method."""
    found: set[str] = set()
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {each.id for each in targets if isinstance(each, ast.Name)}
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{each.name}"
                for each in node.body
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
            }
    return frozenset(found)


def exists(dotted: str) -> bool | None:
    """Tell whether a dotted name exists; None if it does not begin with a package of ours."""
    parts = dotted.split(".")
    starts = [base for base in PACKAGES if (base / parts[0] / "__init__.py").is_file()]
    if not starts:
        return None
    for base in starts:
        for length in range(len(parts), 0, -1):
            path = base.joinpath(*parts[:length])
            rest = ".".join(parts[length:])
            if not rest and path.is_dir():
                return True
            module = path.with_suffix(".py")
            if module.is_file() and (not rest or rest in names_in(module)):
                return True
    return False


@pytest.mark.parametrize("document", sorted((ROOT / "docs/walkthrough").glob("*.md")), ids=ids)
def test_every_module_and_function_of_a_walkthrough_exists(document: Path) -> None:
    text = document.read_text()
    names, files = _DOTTED.findall(text), _MODULE_FILE.findall(text)
    assert [each for each in names if exists(each) is False] == []
    assert [each for each in files if not any((base / each).is_file() for base in PACKAGES)] == []
    assert files or any(exists(each) for each in names)
