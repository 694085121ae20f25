"""The grammar of ``/v2``: which endpoint a path means, and what its query says. Pure.

OCI distribution specification 1.1, "Endpoints", and docs/design/registry.md, "Names". A path is
read from its end, because names have any number of parts. Whatever is sent, only a
:class:`RouteError` comes out; it carries the specification's code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl, unquote_to_bytes

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import ImageName, check_host, check_repository

PREFIX: Final = b"/v2"
QUERY_FIELDS_MAX: Final = 100
ITEM_LENGTH_MAX: Final = 200
ROUTES_KEPT: Final = 4096
PATH_LENGTH_KEPT: Final = 1024
"""Paths whose meaning is remembered, and how long they may be: clients repeat theirs."""

UPSTREAM_SEGMENT: Final = "f"
_UPLOAD: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HOSTLIKE: Final = re.compile(r"localhost|.*[.:].*")


_Verb = tuple[str, ...]


class RouteError(InvalidInputError):
    """A path or query that means nothing here. ``status`` and ``code`` go to the client."""

    def __init__(self, status: int, code: str, text: str) -> None:
        """Say why."""
        super().__init__(text)
        self.status = status
        self.code = code
        self.fields: list[tuple[str, str]] = []


class Kind(Enum):
    """The endpoints."""

    PING = auto()
    CATALOG = auto()
    DISCOVER = auto()
    MANIFEST = auto()
    BLOB = auto()
    UPLOADS = auto()
    UPLOAD = auto()
    TAGS = auto()
    REFERRERS = auto()
    HISTORY = auto()


_VERBS: Final[tuple[tuple[_Verb, Kind], ...]] = (
    (("manifests",), Kind.MANIFEST),
    (("blobs", "uploads"), Kind.UPLOAD),
    (("blobs",), Kind.BLOB),
    (("tags",), Kind.TAGS),
    (("referrers",), Kind.REFERRERS),
    (("_oci", "tag-history"), Kind.HISTORY),
    (("_oci", "ext"), Kind.DISCOVER),
)
"""What may stand before the last part of a path, the longer before the shorter."""


@dataclass(frozen=True, slots=True)
class Route:
    """What a request is about.

    ``repository`` is the name without a registry, empty where there is none; ``host`` the registry
    that the path or ``ns`` names, empty if neither does. ``item`` is the last part: a tag, digest
    or upload, as it was sent. ``asked`` is the whole name as the client wrote it, and ``path`` what
    stands before the item, to build a Location from.
    """

    kind: Kind
    repository: str = ""
    host: str = ""
    item: str = ""
    asked: str = ""
    path: str = ""

    def image(self, *, default_host: str) -> ImageName:
        """Return the name that the log and upstreams know this repository by.

        Raises:
            RouteError: Together with the registry the name is too long.
        """
        repository = self.repository
        if not self.host and "/" not in repository:
            repository = f"library/{repository}"
        try:
            return ImageName(self.host or default_host, repository)
        except InvalidInputError as error:
            raise _name_error(error) from error


def parse_route(raw_path: bytes, namespace: str) -> Route:
    """Return what a path under ``/v2`` means.

    Args:
        raw_path: As it was sent, not decoded.
        namespace: The registry that ``?ns=`` names, empty if it is not there.

    Raises:
        RouteError: It means nothing: 404, or 400 for a name that is not legal.
    """
    if len(raw_path) + len(namespace) > PATH_LENGTH_KEPT:
        return _parse_route(raw_path, namespace)
    return _known_route(raw_path, namespace)


def _parse_route(raw_path: bytes, namespace: str) -> Route:
    parts = _parts(raw_path)
    if parts in ([], [""]):
        return Route(Kind.PING)
    if parts == ["_catalog"]:
        return Route(Kind.CATALOG)
    if parts == ["_oci", "ext", "discover"]:
        return Route(Kind.DISCOVER)
    if parts[-2:] == ["blobs", "uploads"]:
        return _named(Kind.UPLOADS, parts[:-2], namespace, "blobs/uploads", "")
    for verb, kind in _VERBS:
        name, rest = parts[: -len(verb) - 1], parts[-len(verb) - 1 :]
        if tuple(rest[:-1]) == verb:
            return _named(kind, name, namespace, "/".join(verb), rest[-1])
    raise RouteError(404, "UNSUPPORTED", "no such endpoint under /v2/")


_known_route = lru_cache(maxsize=ROUTES_KEPT)(_parse_route)


def parse_query(query: bytes) -> list[tuple[str, str]]:
    """Return the fields of a query in order; raises RouteError."""
    if not query:
        return []
    try:
        return parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )
    except UnicodeDecodeError:
        raise RouteError(400, "UNSUPPORTED", "the query is not UTF-8") from None
    except ValueError:
        text = f"the query has more than {QUERY_FIELDS_MAX} fields"
        raise RouteError(414, "UNSUPPORTED", text) from None


def _parts(raw_path: bytes) -> list[str]:
    path = raw_path.removeprefix(PREFIX)
    if b"%" not in path:
        try:
            return path.decode("ascii").split("/")[1:]
        except UnicodeDecodeError:
            raise RouteError(404, "NAME_INVALID", "the path is not ASCII") from None
    # Each part is decoded by itself: an encoded slash makes no new part.
    parts = [unquote_to_bytes(part) for part in path.split(b"/")[1:]]
    try:
        decoded = [part.decode("ascii") for part in parts]
    except UnicodeDecodeError:
        raise RouteError(404, "NAME_INVALID", "the path is not ASCII") from None
    if any("/" in part for part in decoded):
        raise RouteError(404, "NAME_INVALID", "the path hides a separator")
    return decoded


def _named(kind: Kind, name: list[str], host: str, verb: str, item: str) -> Route:
    """Return a route about a repository, whose name is ``[f/HOST/]REPOSITORY``."""
    kind = _checked_kind(kind, item)
    if len(item) > ITEM_LENGTH_MAX:
        raise RouteError(404, "UNSUPPORTED", f"the path's end exceeds {ITEM_LENGTH_MAX} characters")
    asked = "/".join(name)
    try:
        if len(name) > 2 and name[0] == UPSTREAM_SEGMENT and _HOSTLIKE.fullmatch(name[1]):
            host, name = name[1], name[2:]
        if host:
            check_host(host)
        repository = check_repository("/".join(name))
    except InvalidInputError as error:
        raise _name_error(error) from error
    return Route(kind, repository, host, item, asked, f"/v2/{asked}/{verb}")


def _checked_kind(kind: Kind, item: str) -> Kind:
    if kind is Kind.TAGS and item != "list":
        raise RouteError(404, "UNSUPPORTED", "tags are at /v2/NAME/tags/list")
    if kind is Kind.DISCOVER and item != "discover":
        raise RouteError(404, "UNSUPPORTED", "extensions are told at _oci/ext/discover")
    if kind is Kind.UPLOAD and not item:
        return Kind.UPLOADS
    if kind is Kind.UPLOAD and not _UPLOAD.fullmatch(item):
        raise RouteError(404, "BLOB_UPLOAD_UNKNOWN", "no upload has such a name")
    return kind


def _name_error(error: InvalidInputError) -> RouteError:
    return RouteError(400, "NAME_INVALID", str(error))
