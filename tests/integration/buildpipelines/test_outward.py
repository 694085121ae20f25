"""Which addresses the worker's requests may lead to, whoever wrote them."""

from __future__ import annotations

import asyncio
import socket

import pytest

from buildpipelines.errors import BuildFailure
from buildpipelines.inputs.outward import Outward, check_address, is_public


def ask(url: str) -> None:
    async def run() -> None:
        async with Outward() as outward, outward.get(url, is_private=False, seconds=5):
            raise AssertionError("it answered")

    asyncio.run(run())


@pytest.mark.parametrize("host", ["127.0.0.1", "１２７.0.0.1", "①②⑦.0.0.1", "127。0。0。1"])  # noqa: RUF001 - digits of other scripts are the point
def test_loopback_is_never_asked_however_its_number_is_written(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        port = listener.getsockname()[1]
        with pytest.raises(BuildFailure, match="not public"):
            ask(f"http://{host}:{port}/latest")
        with pytest.raises(TimeoutError):
            listener.accept()


@pytest.mark.parametrize(
    "url",
    [
        "http://[::ffff:169.254.169.254]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[::7f00:1]/",
        "http://[fec0::1]/",
        "http://0x7f.1/",
        "http://2130706433/",
        "file:///etc/passwd",
        "http:///x",
    ],
)
def test_other_spellings_of_private_addresses_are_refused(url: str) -> None:
    with pytest.raises(BuildFailure, match="leads to"):
        check_address(url, is_private=False)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::9.9.9.9", True),
        ("2002:7f00:1::1", False),
        ("::10.0.0.1", False),
        ("fec0::1", False),
    ],
)
def test_address_that_carries_another_is_judged_by_it(address: str, expected: bool) -> None:  # noqa: FBT001 - a table
    assert is_public(address) is expected
