"""An audited log behind HTTP: what a hostile or broken server can do to the reader."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator

import httpx
import pytest

from pyrsia_node.audit.source import HttpSource
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
)
from pyrsia_node.tlog.note import NOTE_BYTES_MAX
from pyrsia_node.tlog.tile import Tile

Answer = Callable[[httpx.Request], httpx.Response]


def source(answer: Answer, url: str = "http://node.example") -> HttpSource:
    return HttpSource(url, transport=httpx.MockTransport(answer))


@pytest.mark.parametrize(
    "url",
    [
        "http://node.example",
        "http://node.example/",
        "http://node.example/log",
        "http://node.example/log/?token=1#top",
    ],
)
def test_any_spelling_of_the_address_leads_to_the_log(url: str) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, content=b"tile")

    with source(answer, url) as opened:
        assert opened.tile(Tile(0, 1234, 7)) == b"tile"
    assert asked == ["http://node.example/log/tile/0/x001/234.p/7"]


@pytest.mark.parametrize("url", ["ftp://node.example", "node.example", "http://", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidInputError):
        HttpSource(url)


def test_an_endless_answer_is_cut_at_the_limit_of_its_file() -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while True:
            sent += 1024
            yield bytes(1024)

    with (
        source(lambda _: httpx.Response(200, content=endless())) as opened,
        pytest.raises(CorruptStateError, match=f"more than {NOTE_BYTES_MAX} bytes"),
    ):
        opened.checkpoint()
    assert sent <= 4 * NOTE_BYTES_MAX


def test_a_compressed_bomb_is_cut_as_well() -> None:

    bomb = gzip.compress(bytes(10_000_000), compresslevel=1)
    response = httpx.Response(200, content=bomb, headers={"content-encoding": "gzip"})
    with source(lambda _: response) as opened, pytest.raises((CorruptStateError, UnavailableError)):
        opened.checkpoint()


def test_a_file_that_is_not_there_differs_from_a_server_that_fails() -> None:
    with source(lambda _: httpx.Response(404)) as opened, pytest.raises(NotFoundError):
        opened.newest_certificate()
    with source(lambda _: httpx.Response(500)) as opened, pytest.raises(UnavailableError):
        opened.newest_certificate()


def test_nobody_is_redirected_to_another_log() -> None:
    moved = httpx.Response(302, headers={"location": "http://elsewhere.example/log/checkpoint"})
    with source(lambda _: moved) as opened, pytest.raises(UnavailableError, match="status 302"):
        opened.checkpoint()


def test_a_connection_that_breaks_is_tried_three_times() -> None:
    asked: list[str] = []

    def broken(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        raise httpx.ConnectError("reset", request=request)

    with source(broken) as opened, pytest.raises(UnavailableError, match=r"certs/000\.p/9"):
        opened.certificates(0, 9)
    assert asked == ["/log/certs/000.p/9"] * 3
