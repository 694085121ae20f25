"""Project pages of simple indexes: both forms, upload times, and what is left out."""

from __future__ import annotations

import json

import pytest

from buildpipelines.errors import FormatError
from buildpipelines.inputs.pages import IndexFile, normal_time, parse_page, render_page

URL = "https://index.example/simple/p/"
DIGEST = "ab" * 32
HTML = f"""<!DOCTYPE html><html><body>
<a href="../../f/p-1.0.tar.gz#sha256={DIGEST}" data-requires-python="&gt;=3.8"
   data-upload-time="2024-08-23T16:01:51.339264Z">p-1.0.tar.gz</a>
<a href="https://files.example/p-1.1%2Blocal.tar.gz#sha256={DIGEST}" data-yanked="bad">x</a>
<a href="p-1.2.tar.gz#md5=00">no sha256</a>
<a href="p-1.3.tar.gz">no hash</a>
<a href="file:///etc/passwd#sha256={DIGEST}">other scheme</a>
<a href="javascript:alert(1)#sha256={DIGEST}">other scheme</a>
<a href="..%2F..%2Fescaped.tar.gz#sha256={DIGEST}">a name that is a path</a>
<a>no link</a>
"""


def html(text: str) -> tuple[IndexFile, ...]:
    return parse_page(text.encode(), content_type="text/html; charset=utf-8", url=URL)


def test_html_page_gives_the_files_that_can_be_checked() -> None:
    assert html(HTML) == (
        IndexFile(
            "p-1.0.tar.gz",
            "https://index.example/f/p-1.0.tar.gz",
            DIGEST,
            "2024-08-23T16:01:51Z",
            ">=3.8",
        ),
        IndexFile(
            "p-1.1+local.tar.gz",
            "https://files.example/p-1.1%2Blocal.tar.gz",
            DIGEST,
            is_yanked=True,
        ),
    )


def test_json_page_gives_sizes_too() -> None:
    page = {
        "files": [
            {
                "filename": "p-1.0.tar.gz",
                "url": "p-1.0.tar.gz",
                "hashes": {"sha256": DIGEST},
                "size": 9,
                "upload-time": "2024-08-23T16:01:51Z",
                "yanked": "broken",
            },
            {"filename": "p-1.1.tar.gz", "url": "p-1.1.tar.gz", "hashes": {}},
            {"filename": 1, "url": [], "hashes": None},
            "odd",
        ]
    }
    found = parse_page(
        json.dumps(page).encode(), content_type="application/vnd.pypi.simple.v1+json", url=URL
    )
    assert found == (
        IndexFile(
            file="p-1.0.tar.gz",
            url=URL + "p-1.0.tar.gz",
            sha256=DIGEST,
            uploaded="2024-08-23T16:01:51Z",
            is_yanked=True,
            size=9,
        ),
    )


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b"{}", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b"\xff", "text/html"),
    ],
)
def test_page_that_does_not_parse_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(FormatError):
        parse_page(body, content_type=kind, url=URL)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2024-08-23T16:01:51.339264Z", "2024-08-23T16:01:51Z"),
        ("2024-08-23T16:01:51+00:00", "2024-08-23T16:01:51Z"),
        ("2024-08-23T16:01:51+02:00", "unknown"),
        ("yesterday", "unknown"),
        (None, "unknown"),
    ],
)
def test_upload_time_is_utc_in_whole_seconds_or_unknown(text: str | None, time: str) -> None:
    assert normal_time(text) == time


def test_rendered_page_can_be_read_again_and_names_no_other_host() -> None:
    files = (
        IndexFile("p-1.0.tar.gz", "https://x.example/a", DIGEST, requires_python='>="3"&<4'),
        IndexFile("p-1.1.tar.gz", "https://x.example/b", "cd" * 32, is_yanked=True),
    )
    page = render_page("p", reversed(files))
    assert b"x.example" not in page
    read = parse_page(page, content_type="text/html", url="http://127.0.0.1:8080/simple/p/")
    for sent, got in zip(files, read, strict=True):
        assert (got.file, got.sha256, got.requires_python, got.is_yanked) == (
            sent.file,
            sent.sha256,
            sent.requires_python,
            sent.is_yanked,
        )
        assert got.url == f"http://127.0.0.1:8080/files/{sent.sha256}/{sent.file}"
