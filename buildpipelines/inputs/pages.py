"""Project pages of a simple index: read the upstream's, write our own. Pure.

An index may answer with JSON or HTML whatever was asked for, and gives upload times in both.
Files without a SHA-256 or with an odd name are left out: nobody could check them. Formats: the
simple repository API of the Python packaging guide (PEP 503, 592, 691, 700).
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Final, cast
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from buildpipelines.errors import FormatError
from buildpipelines.spec.lock import FILE_BYTES_MAX, FILE_NAME, UNKNOWN

PAGE_BYTES_MAX: Final = 64 * 1024 * 1024
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2})(?:\.\d{1,9})?(?:Z|\+00:00)\Z")


@dataclass(frozen=True, slots=True)
class IndexFile:
    """One file of a project page. ``size`` is None where the index does not tell it."""

    file: str
    url: str
    sha256: str
    uploaded: str = UNKNOWN
    requires_python: str = ""
    is_yanked: bool = False
    size: int | None = None


def parse_page(body: bytes, *, content_type: str, url: str) -> tuple[IndexFile, ...]:
    """Return the checkable files of a project page.

    Args:
        body: What the index answered, at most ``PAGE_BYTES_MAX`` bytes.
        content_type: The answer's header; tells JSON from HTML.
        url: Where the page came from, for relative links.

    Raises:
        FormatError: the page does not parse.
    """
    if len(body) > PAGE_BYTES_MAX:
        raise FormatError(f"an index page of {len(body)} bytes")
    try:
        text = body.decode()
        if "json" in content_type.partition(";")[0]:
            return tuple(_json_files(json.loads(text), url))
        parser = _PageParser()
        parser.feed(text)
        parser.close()
        return tuple(_html_files(parser.links, url))
    except (ValueError, RecursionError, AssertionError) as error:
        raise FormatError(f"an index page does not parse: {error}") from error


def render_page(project: str, files: Iterable[IndexFile]) -> bytes:
    """Return a project page for clients in the sandbox; links lead to ``/files/<sha256>/<name>``.

    Raises nothing; order and bytes depend on the arguments alone.
    """
    lines = ["<!DOCTYPE html>", f"<html><head><title>{html.escape(project)}</title></head><body>"]
    for f in sorted(files, key=lambda f: f.file):
        attributes = f'href="/files/{f.sha256}/{html.escape(f.file)}#sha256={f.sha256}"'
        if f.requires_python:
            attributes += f' data-requires-python="{html.escape(f.requires_python)}"'
        if f.is_yanked:
            attributes += ' data-yanked=""'
        lines.append(f"<a {attributes}>{html.escape(f.file)}</a><br>")
    return "\n".join([*lines, "</body></html>", ""]).encode()


def normal_time(text: str | None) -> str:
    """Return an index's UTC time in whole seconds ("…T12:00:00Z"), "unknown" if it is none."""
    match = _TIME.match(text or "")
    return f"{match[1]}T{match[2]}Z" if match else UNKNOWN


def _json_files(page: object, url: str) -> Iterable[IndexFile]:
    items = page.get("files") if isinstance(page, dict) else None
    if not isinstance(items, list):
        raise FormatError("an index page has no list of files")
    for raw in items:
        item = cast("Mapping[str, object]", raw if isinstance(raw, dict) else {})
        hashes = item.get("hashes")
        size, requires = item.get("size"), item.get("requires-python")
        uploaded = item.get("upload-time")
        yield from _checked(
            name=item.get("filename"),
            link=item.get("url"),
            sha256=hashes.get("sha256") if isinstance(hashes, dict) else None,
            page_url=url,
            uploaded=uploaded if isinstance(uploaded, str) else None,
            requires_python=requires if isinstance(requires, str) else "",
            is_yanked=bool(item.get("yanked")),
            size=size if type(size) is int and 0 <= size <= FILE_BYTES_MAX else None,
        )


def _html_files(links: Iterable[Mapping[str, str | None]], url: str) -> Iterable[IndexFile]:
    for attributes in links:
        link, fragment = urldefrag(attributes.get("href") or "")
        algorithm, _, digest = fragment.partition("=")
        yield from _checked(
            name=unquote(urlsplit(link).path.rpartition("/")[2]),
            link=link,
            sha256=digest if algorithm == "sha256" else None,
            page_url=url,
            uploaded=attributes.get("data-upload-time"),
            requires_python=attributes.get("data-requires-python") or "",
            is_yanked="data-yanked" in attributes,
            size=None,
        )


def _checked(
    *,
    name: object,
    link: object,
    sha256: object,
    page_url: str,
    uploaded: str | None,
    requires_python: str,
    is_yanked: bool,
    size: int | None,
) -> Iterable[IndexFile]:
    is_named = isinstance(name, str) and FILE_NAME.match(name)
    is_hashed = isinstance(sha256, str) and _SHA256.match(sha256)
    if not (is_named and is_hashed and isinstance(link, str)):
        return
    absolute = urljoin(page_url, link)
    if urlsplit(absolute).scheme not in ("https", "http"):
        return
    yield IndexFile(
        file=cast("str", name),
        url=absolute,
        sha256=cast("str", sha256),
        uploaded=normal_time(uploaded),
        requires_python=requires_python[:200],
        is_yanked=is_yanked,
        size=size,
    )


class _PageParser(HTMLParser):
    """Collects the attributes of all links."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.links: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links.append(dict(attrs))
