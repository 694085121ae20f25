"""Paths and queries under /v2: whatever is sent, a route or our error comes out, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hypothesis import example, given
from hypothesis import strategies as st

from pyrsia_node.gateway.images.routes import (
    ITEM_LENGTH_MAX,
    Kind,
    RouteError,
    parse_query,
    parse_route,
)
from pyrsia_node.model.oci import NAME_LENGTH_MAX, check_repository

PARTS = st.sampled_from(
    [b"", b"a", b"library", b"manifests", b"blobs", b"uploads", b"tags", b"list", b"referrers",
     b"_oci", b"tag-history", b"ext", b"discover", b"_catalog", b"f", b"ghcr.io", b"latest", b"..",
     b"sha256:" + b"0" * 64, b"%2e%2e", b"%2F", b"%", b"%00", b"A", b"localhost:5000", b"token"]
)  # fmt: skip
PATHS = st.one_of(
    st.lists(PARTS | st.binary(max_size=20), max_size=10).map(b"/".join),
    st.binary(max_size=400),
).map(lambda path: b"/v2/" + path)
NAMES = st.sampled_from(["a", "library/alpine", "team/app.one/x__y", "a-b/c", "f/oo", "blobs/x"])


_T = TypeVar("_T")


def _read(read: Callable[[], _T]) -> _T | RouteError:
    """Return what was read or our error; any other one leaves here."""
    try:
        return read()
    except RouteError as error:
        return error


@given(path=PATHS, namespace=st.sampled_from(["", "ghcr.io", "UPPER", "a b"]) | st.text(max_size=9))
@example(path=b"/v2/a/blobs/uploads/", namespace="")
def test_only_a_route_or_our_error_comes_out(path: bytes, namespace: str) -> None:
    route = _read(lambda: parse_route(path, namespace))
    if isinstance(route, RouteError):
        assert 400 <= route.status < 500
        assert route.code
        return
    assert len(route.item) <= ITEM_LENGTH_MAX
    assert "/" not in route.item
    if route.repository:
        assert check_repository(route.repository) == route.repository
        # What goes into a Location is what a header may hold.
        assert route.path.isascii()
        assert route.path.isprintable()
        image = _read(lambda: route.image(default_host="docker.io"))
        too_long = len(f"{route.host or 'docker.io'}/library/{route.repository}") > NAME_LENGTH_MAX
        assert not isinstance(image, RouteError) or too_long


@given(query=st.binary(max_size=600))
@example(query=b"&" * 500)
@example(query=b"a=%ff")
def test_only_fields_or_our_error_come_out_of_a_query(query: bytes) -> None:
    fields = _read(lambda: parse_query(query))
    if isinstance(fields, RouteError):
        assert fields.status in {400, 414}
    else:
        assert all(isinstance(text, str) for pair in fields for text in pair)


@given(name=NAMES, host=st.sampled_from(["ghcr.io", "localhost", "127.0.0.1:5000"]))
def test_both_ways_to_name_a_registry_mean_the_same_image(name: str, host: str) -> None:
    by_path = parse_route(f"/v2/f/{host}/{name}/manifests/1".encode(), "")
    by_query = parse_route(f"/v2/{name}/manifests/1".encode(), host)
    assert by_path.image(default_host="x.example") == by_query.image(default_host="x.example")
    assert by_path.item == by_query.item == "1"


@given(name=NAMES, item=st.sampled_from(["latest", "sha256:" + "0" * 64, "list", "A" * 22]))
def test_every_endpoint_is_told_by_its_end(name: str, item: str) -> None:
    ends = {
        f"manifests/{item}": Kind.MANIFEST,
        f"blobs/{item}": Kind.BLOB,
        f"referrers/{item}": Kind.REFERRERS,
        f"_oci/tag-history/{item}": Kind.HISTORY,
        "tags/list": Kind.TAGS,
        "blobs/uploads": Kind.UPLOADS,
        "blobs/uploads/": Kind.UPLOADS,
        "blobs/uploads/AAAA": Kind.UPLOAD,
    }
    for end, kind in ends.items():
        route = parse_route(f"/v2/{name}/{end}".encode(), "")
        assert (route.kind, route.repository, route.asked) == (kind, name, name)
