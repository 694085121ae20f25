"""Pages of the simple repository API, written from what the node offers. Pure.

PEP 503 and 629 (HTML), 691 (JSON), 592 (yanked), 658 and 714 (metadata files), 700 (versions,
sizes, upload times). Keys that start with ``_`` are ours, as PEP 691 allows.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from pyrsia_node.artifacts.catalog import OfferedFile, OfferedProject
from pyrsia_node.artifacts.resolver import LoggedFile
from pyrsia_node.artifacts.statements import ProvedStatement

HTML: Final = "application/vnd.pypi.simple.v1+html"
JSON: Final = "application/vnd.pypi.simple.v1+json"
PLAIN_HTML: Final = "text/html"
OFFERED: Final = (HTML, JSON, PLAIN_HTML)

METADATA_WHEEL_BYTES_MAX: Final = 64 * 1024 * 1024
"""A metadata file is read from the wheel, so it is offered only where the wheel is small."""

_API_VERSION: Final = "1.1"


def has_metadata(file: OfferedFile) -> bool:
    """Tell whether ``<file>.metadata`` is offered.

    It is for closed files, too: with it, pip comes to say why a version is yanked before it asks
    for the bytes and is refused.
    """
    if file.is_refused and file.logged is None:
        return False
    return file.name.endswith(".whl") and (file.size or 0) <= METADATA_WHEEL_BYTES_MAX


def statements_on(file: OfferedFile) -> tuple[ProvedStatement, ...]:
    """Return what the network, or single members, say of a file; what closed it comes first."""
    advice = file.logged.advice if file.logged is not None else ()
    return advice if file.closed is None else (file.closed, *advice)


def file_url(file: OfferedFile) -> str:
    """Return a file's address, relative to its project's page."""
    return f"../../files/{file.sha256}/{quote(file.name)}"


def project_json(project: OfferedProject) -> bytes:
    """Return a project's page as JSON."""
    page = {
        "meta": {"api-version": _version_of(project), "_log-size": project.log_size},
        "name": project.name,
        "versions": project.versions,
        "files": [_file_json(file) for file in _ordered(project)],
        "_withheld": [_withheld_json(logged) for logged in project.withheld],
    }
    return json.dumps(page, separators=(",", ":")).encode()


def index_json(names: Iterable[str]) -> bytes:
    """Return the list of all projects as JSON."""
    page = {
        "meta": {"api-version": _API_VERSION},
        "projects": [{"name": name} for name in names],
    }
    return json.dumps(page, separators=(",", ":")).encode()


def project_html(project: OfferedProject) -> bytes:
    """Return a project's page as HTML."""
    name = html.escape(project.name)
    links = "".join(f"{_file_html(file)}<br>\n" for file in _ordered(project))
    return _page(f"Links for {name}", f"<h1>Links for {name}</h1>\n{links}")


def index_html(names: Iterable[str]) -> bytes:
    """Return the list of all projects as HTML."""
    links = "".join(f'<a href="{quote(name)}/">{html.escape(name)}</a><br>\n' for name in names)
    return _page("Simple index", links)


def _page(title: str, body: str) -> bytes:
    return (
        "<!DOCTYPE html>\n<html>\n<head>\n"
        f'<meta charset="utf-8">\n<meta name="pypi:repository-version" content="{_API_VERSION}">\n'
        f"<title>{title}</title>\n</head>\n<body>\n{body}</body>\n</html>\n"
    ).encode()


def _version_of(project: OfferedProject) -> str:
    """Return the API version that a page fulfils: 1.1 wants every file's size (PEP 700)."""
    complete = all(file.size is not None for file in project.files.values())
    return _API_VERSION if complete else "1.0"


def _ordered(project: OfferedProject) -> list[OfferedFile]:
    order = {version: number for number, version in enumerate(project.versions)}
    return sorted(project.files.values(), key=lambda file: (order[file.version], file.name))


def _file_json(file: OfferedFile) -> dict[str, object]:
    entry: dict[str, object] = {
        "filename": file.name,
        "url": file_url(file),
        "hashes": {"sha256": file.sha256},
        "yanked": False if file.yanked is None else (file.yanked or True),
        "_vouched": file.vouched,
    }
    if file.requires_python:
        entry["requires-python"] = file.requires_python
    if file.size is not None:
        entry["size"] = file.size
    if file.upload_time is not None:
        entry["upload-time"] = file.upload_time
    if has_metadata(file):
        # The older key for clients from before PEP 714.
        # Not "dist-info-metadata" beside it: pip up to 23.0 (Debian 12's) ends with a TypeError
        # when that key is in the JSON form. The HTML attribute is safe (PEP 714).
        entry["core-metadata"] = True
    if file.logged is not None:
        entry["_entry"] = file.logged.proved.index
        entry["_claim"] = file.logged.file.claim
        entry["_level"] = file.logged.proved.entry.level
    statements = statements_on(file)
    if statements:
        entry["_statements"] = [
            {"type": each.body.kind, "entry": each.index, "text": each.text} for each in statements
        ]
    return entry


def _withheld_json(logged: LoggedFile) -> dict[str, object]:
    return {
        "filename": logged.file.name,
        "hashes": {"sha256": logged.file.sha256},
        "reason": str(logged.standing),
        "contradicted-by": logged.contradicted_by,
        "entry": logged.proved.index,
        "statement": logged.closed.index if logged.closed is not None else None,
    }


def _file_html(file: OfferedFile) -> str:
    attributes = [f'href="{file_url(file)}#sha256={file.sha256}"']
    if file.requires_python:
        attributes.append(f'data-requires-python="{html.escape(file.requires_python)}"')
    if file.yanked is not None:
        attributes.append(f'data-yanked="{html.escape(file.yanked)}"')
    if has_metadata(file):
        attributes += ['data-core-metadata="true"', 'data-dist-info-metadata="true"']
    return f"<a {' '.join(attributes)}>{html.escape(file.name)}</a>"
