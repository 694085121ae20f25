"""Pages say what the specifications ask for, and nothing of a name can break out of them."""

from __future__ import annotations

import json

import pytest
from pypi_simple import ProjectPage

from pyrsia_node.artifacts.catalog import OfferedFile, OfferedProject
from pyrsia_node.gateway.simple_pages import (
    METADATA_WHEEL_BYTES_MAX,
    index_html,
    project_html,
    project_json,
)


def offered(name: str = "six-1.0-py3-none-any.whl", **changes: object) -> OfferedFile:
    values: dict[str, object] = {
        "name": name,
        "version": "1.0",
        "sha256": "a" * 64,
        "size": 10,
        "requires_python": "",
        "yanked": None,
        "upload_time": "2024-01-01T00:00:00.000Z",
        "vouched": "upstream",
    }
    return OfferedFile(**(values | changes))  # type: ignore[arg-type]  # values by name


def project(*files: OfferedFile) -> OfferedProject:
    versions = sorted({file.version for file in files})
    return OfferedProject("six", {file.name: file for file in files}, versions=versions)


BASE = "http://localhost/pypi/simple/six/"


@pytest.mark.parametrize("form", ["json", "html"])
def test_another_library_reads_the_page_back(form: str) -> None:
    page = project(
        offered(requires_python=">=3.8,<4"),
        offered("six-1.0.tar.gz", sha256="b" * 64, yanked='not <good> & "old"'),
    )
    if form == "json":
        read = ProjectPage.from_json_data(json.loads(project_json(page)), base_url=BASE)
    else:
        read = ProjectPage.from_html("six", project_html(page), base_url=BASE)
    wheel, sdist = sorted(read.packages, key=lambda each: each.filename)
    assert wheel.url.startswith(f"http://localhost/pypi/files/{'a' * 64}/six-1.0-py3-none-any.whl")
    assert (wheel.digests["sha256"], wheel.requires_python) == ("a" * 64, ">=3.8,<4")
    assert (wheel.is_yanked, wheel.has_metadata) == (False, True)
    assert (sdist.is_yanked, sdist.yanked_reason) == (True, 'not <good> & "old"')
    assert not sdist.has_metadata


def test_yanked_without_a_reason_is_yanked() -> None:
    page = json.loads(project_json(project(offered(yanked=""))))
    assert page["files"][0]["yanked"] is True


def test_page_without_all_sizes_does_not_claim_pep_700() -> None:
    page = json.loads(project_json(project(offered(size=None))))
    assert page["meta"]["api-version"] == "1.0"
    assert "size" not in page["files"][0]


def test_metadata_of_large_wheels_is_not_offered() -> None:
    page = json.loads(project_json(project(offered(size=METADATA_WHEEL_BYTES_MAX + 1))))
    assert "core-metadata" not in page["files"][0]


@pytest.mark.parametrize("text", ['"><script>x</script>', "' onload='x", "&amp;", "<b>", '"'])
def test_no_text_breaks_out_of_the_html(text: str) -> None:
    page = project_html(project(offered(requires_python=text, yanked=text)))
    (read,) = ProjectPage.from_html("six", page, base_url=BASE).packages
    assert (read.requires_python, read.yanked_reason) == (text, text)
    assert b"<script>" not in page + index_html([text])
