"""Checks on the repository itself: sizes, headings, forbidden words, claims with tests."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("consensus", "buildpipelines", "pyrsia_node", "pyrsia_cli")
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 500


def tracked_files() -> list[Path]:
    out = subprocess.run(  # git's own list, so that build leftovers do not count
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    paths = [ROOT / name for name in out.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def modules_in(*folders: str) -> list[Path]:
    return [
        path
        for path in tracked_files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in folders
    ]


def product_modules() -> list[Path]:
    return modules_in(*PACKAGES)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    if not body:
        return 0
    return (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_no_function_is_longer_than_a_screen() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{function.lineno} {function.name} {body_lines(function)}"
        for path in modules_in(*PACKAGES, "tests")
        for function in functions(ast.parse(path.read_text()))
        if body_lines(function) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_no_module_is_longer_than_500_lines() -> None:
    modules = {path: len(path.read_text().splitlines()) for path in modules_in(*PACKAGES, "tests")}
    long = {str(p.relative_to(ROOT)): n for p, n in modules.items() if n > MODULE_LINES_MAX}
    assert long == {}


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in product_modules()
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_modules_have_names_that_say_something() -> None:
    vague = {"utils.py", "helpers.py", "common.py", "misc.py", "util.py"}
    assert [p for p in tracked_files() if p.name in vague] == []


def test_folders_are_synced_by_one_function() -> None:
    doors = [
        f"{path.relative_to(ROOT)}:{function.name}"
        for path in product_modules()
        for function in functions(ast.parse(path.read_text()))
        if {"O_DIRECTORY", "fsync"}
        <= {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}
    ]
    assert doors == ["pyrsia_node/store/files.py:sync_directory"]


def test_no_registry_host_and_no_machine_path_stands_in_the_tree() -> None:
    top = "or" + "g"
    hosts = rf"(pypi|pythonhosted|debian)\.{top}|npmjs\.{top}"
    paths = "/wo" + r"rk/|/home/[a-z]"
    pattern = re.compile(f"{hosts}|{paths}")
    found = []
    for path in tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}:{number}"
            for number, line in enumerate(text.splitlines(), 1)
            if pattern.search(line)
        ]
    assert found == []


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    words = re.compile(r"pytest\.skip\(|mark\.skip|mark\.xfail|importorskip")
    found = [
        str(path.relative_to(ROOT))
        for path in tracked_files()
        if path.suffix == ".py" and path != Path(__file__) and words.search(path.read_text())
    ]
    assert found == []


def claims() -> list[tuple[str, str]]:
    """Rows of docs/claims.md: (claim, test path)."""
    rows = []
    for line in (ROOT / "docs/claims.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) >= 2 and cells[1].startswith("`"):
            rows += [(cells[0], reference) for reference in re.findall(r"`([^`]+)`", cells[1])]
    return rows


def test_every_claim_names_a_test_that_exists() -> None:
    rows = claims()
    assert rows, "docs/claims.md lists no claim"
    missing = []
    for claim, reference in rows:
        file, _, name = reference.partition("::")
        path = ROOT / file
        if not path.is_file() or (name and f"def {name}(" not in path.read_text()):
            missing.append(f"{claim}: {reference}")
    assert missing == []


def test_lock_files_carry_hashes_and_no_address() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-clients.lock"):
        text = (ROOT / name).read_text()
        assert "--hash=sha256:" in text, name
        assert "://" not in text, name
        assert "--index-url" not in text, name


@pytest.mark.parametrize(
    "folder",
    ["unit", "property", "integration", "simulation", "faults", "chaos", "e2e", "tidy"],
)
def test_every_test_folder_says_what_belongs_there(folder: str) -> None:
    assert (ROOT / "tests" / folder / "README.md").is_file()
