"""Links between two real processes, each end under trio, asyncio or uvloop."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from buildpipelines.spec.framing import (
    FRAME_BYTES_MAX,
    Answer,
    FrameDecoder,
    Request,
    Result,
    encode_frame,
    encode_request,
    parse_answer,
)
from pyrsia_node.core.link_client import LinkClient as TrioClient
from pyrsia_node.core.link_client import call_once
from pyrsia_node.gateway.link import LinkClient as AsyncioClient
from pyrsia_node.model.errors import (
    InvalidInputError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.schema.link_terms import CALLS_PER_CONNECTION_MAX, CONNECTIONS_MAX
from tests.integration.links.conftest import Client, ServerProcess, run_scenario

CLIENTS = pytest.mark.parametrize("client_kind", ["trio", "asyncio", "uvloop"])


def connect(server: ServerProcess) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(server.path))
    client.settimeout(10)
    return client


def is_cut_off(client: socket.socket) -> bool:
    """Read until the server closes; the test's timeout tells if it never does."""
    try:
        while client.recv(65536):
            pass
    except ConnectionResetError:
        pass
    client.close()
    return True


def send_for_ever(client: socket.socket, data: bytes) -> None:
    while True:
        client.sendall(data)


def is_alive(server: ServerProcess) -> bool:
    result = trio.run(call_once, server.path, "echo", {"alive": True})
    return result == {"alive": True}


@CLIENTS
def test_call_brings_back_what_the_method_returned(
    shared_server: ServerProcess, client_kind: str
) -> None:
    async def scenario(client: Client) -> None:
        assert await client.call("echo", {"text": "ü", "deep": [{}]}) == {
            "text": "ü",
            "deep": [{}],
        }
        assert await client.call("echo", {"text": "x" * 900_000}) == {"text": "x" * 900_000}

    run_scenario(client_kind, shared_server.path, scenario)


@CLIENTS
def test_error_arrives_as_the_class_and_text_it_had(
    shared_server: ServerProcess, client_kind: str
) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(VerificationError, match="ab is not cd"):
            await client.call("fail", {"kind": "verification", "message": "ab is not cd"})
        with pytest.raises(PeerMisbehaviorError) as caught:
            await client.call("fail", {"kind": "peer", "message": "peer 12D3K: lied"})
        assert caught.value.peer == "12D3K"
        with pytest.raises(InvalidInputError, match=r"unknown method 'echoo'; allowed: .*echo"):
            await client.call("echoo", {})

    run_scenario(client_kind, shared_server.path, scenario)


@CLIENTS
def test_defect_in_a_method_costs_its_call_and_tells_nothing(
    shared_server: ServerProcess, client_kind: str
) -> None:
    async def scenario(client: Client) -> None:
        for method in ("defect", "too_long"):
            with pytest.raises(PyrsiaError, match=r"^internal error") as caught:
                await client.call(method, {"secret": "s3cr3t"})
            assert "s3cr3t" not in str(caught.value)
        assert await client.call("echo", {}) == {}

    run_scenario(client_kind, shared_server.path, scenario)


@CLIENTS
def test_call_ends_at_the_servers_and_at_the_callers_deadline(
    shared_server: ServerProcess, client_kind: str
) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(UnavailableError, match=r"sleep took longer than 0\.3 s"):
            await client.call("sleep", {"seconds": 60})
        with pytest.raises(UnavailableError, match=r"no answer to nap in 0\.1 s"):
            await client.call("nap", {"seconds": 60}, timeout_s=0.1)
        assert await client.call("echo", {}) == {}

    run_scenario(client_kind, shared_server.path, scenario)


@CLIENTS
def test_parameters_that_fit_no_frame_are_refused_at_home(
    shared_server: ServerProcess, client_kind: str
) -> None:
    async def scenario(client: Client) -> None:
        with pytest.raises(InvalidInputError, match="echo: frame of"):
            await client.call("echo", {"text": "x" * FRAME_BYTES_MAX})
        assert await client.call("echo", {}) == {}

    run_scenario(client_kind, shared_server.path, scenario)


@CLIENTS
def test_client_fails_at_once_without_a_server_and_finds_the_next_one(
    own_server: ServerProcess, client_kind: str
) -> None:
    async def scenario(client: Client) -> None:
        assert await client.call("echo", {"n": 1}) == {"n": 1}
        own_server.kill()
        with pytest.raises(UnavailableError):
            await client.call("echo", {})
        with pytest.raises(UnavailableError, match=r"nobody listens on .*/a\.sock"):
            await client.call("echo", {})
        own_server.start()
        assert await client.call("echo", {"n": 2}) == {"n": 2}

    run_scenario(client_kind, own_server.path, scenario)


def test_calls_open_when_the_connection_is_lost_fail_under_trio(own_server: ServerProcess) -> None:
    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            client = TrioClient(own_server.path, nursery)
            await client.call("echo", {})

            async def wait() -> None:
                with pytest.raises(UnavailableError, match=r"connection to a\.sock lost"):
                    await client.call("nap", {"seconds": 60})

            async with trio.open_nursery() as waiting:
                for _ in range(3):
                    waiting.start_soon(wait)
                await client.call("echo", {})
                own_server.kill()
            nursery.cancel_scope.cancel()

    trio.run(scenario)


def test_calls_open_when_the_connection_is_lost_fail_under_asyncio(
    own_server: ServerProcess,
) -> None:
    async def scenario() -> None:
        client = AsyncioClient(own_server.path)
        await client.call("echo", {})
        calls = [asyncio.create_task(client.call("nap", {"seconds": 60})) for _ in range(3)]
        await client.call("echo", {})
        own_server.kill()
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, UnavailableError)
            assert "connection to a.sock lost" in str(result)

    asyncio.run(scenario())


def test_pipelined_answers_come_as_they_are_ready(shared_server: ServerProcess) -> None:
    with connect(shared_server) as client:
        client.sendall(
            encode_request(Request(1, "nap", {"seconds": 0.2}))
            + encode_request(Request(2, "echo", {}))
        )
        decoder = FrameDecoder()
        answers: list[bytes] = []
        while len(answers) < 2:
            answers += decoder.feed(client.recv(65536))
        assert [parse_answer(answer).id for answer in answers] == [2, 1]


def test_server_starts_no_more_calls_than_allowed_and_answers_all(
    shared_server: ServerProcess,
) -> None:
    count = 5 * CALLS_PER_CONNECTION_MAX
    with connect(shared_server) as client:
        client.sendall(b"".join(encode_request(Request(n, "crowd", {})) for n in range(count)))
        decoder = FrameDecoder()
        answers: list[Answer] = []
        while len(answers) < count:
            answers += [parse_answer(payload) for payload in decoder.feed(client.recv(65536))]
        assert sorted(answer.id for answer in answers) == list(range(count))
        crowds = {
            answer.result["open_calls_max"] for answer in answers if isinstance(answer, Result)
        }
    assert CALLS_PER_CONNECTION_MAX in crowds
    assert CALLS_PER_CONNECTION_MAX + 1 not in crowds


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00\x00\x00\x00",
        (FRAME_BYTES_MAX + 1).to_bytes(4, "big"),
        encode_frame(b"not json"),
        encode_frame(b'{"id":1,"method":"echo"}'),
        encode_frame(b"[" * 100_000),
        encode_request(Request(1, "echo", {})) * 300 + encode_frame(b"{}"),
    ],
    ids=lambda garbage: repr(garbage[:14]),
)
def test_client_that_breaks_the_format_is_cut_off_and_hurts_nobody(
    shared_server: ServerProcess, garbage: bytes
) -> None:
    with connect(shared_server) as bystander:
        hostile = connect(shared_server)
        hostile.sendall(garbage)
        assert is_cut_off(hostile)
        bystander.sendall(encode_request(Request(9, "echo", {"still": "here"})))
        (payload,) = FrameDecoder().feed(bystander.recv(65536))
        assert parse_answer(payload) == Result(9, {"still": "here"})


def test_client_that_stops_in_a_frame_is_cut_off(shared_server: ServerProcess) -> None:
    client = connect(shared_server)
    client.sendall(encode_request(Request(1, "echo", {}))[:-3])
    assert is_cut_off(client)
    assert is_alive(shared_server)


def test_client_that_never_reads_is_cut_off(shared_server: ServerProcess) -> None:
    client = connect(shared_server)
    request = encode_request(Request(1, "echo", {"text": "x" * 100_000}))
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        send_for_ever(client, request)
    client.close()
    assert is_alive(shared_server)


def test_clients_that_come_and_go_leave_nothing_behind(shared_server: ServerProcess) -> None:
    for _ in range(3 * CONNECTIONS_MAX):
        with connect(shared_server) as client:
            client.sendall(
                encode_request(Request(1, "nap", {"seconds": 60}))
                + encode_request(Request(2, "echo", {}))
            )
            assert FrameDecoder().feed(client.recv(65536))
    assert is_alive(shared_server)


def test_socket_is_private_to_its_user(shared_server: ServerProcess) -> None:
    assert stat.S_IMODE(shared_server.path.stat().st_mode) == 0o600


def test_corrupt_state_is_told_to_the_caller_and_stops_the_server(
    own_server: ServerProcess,
) -> None:
    with pytest.raises(PyrsiaError, match="height 7 is missing"):
        trio.run(call_once, own_server.path, "corrupt", {})
    code, last_words = own_server.wait()
    assert code == 1
    assert "CorruptStateError: height 7 is missing" in last_words
    own_server.start()


def test_client_of_another_user_is_turned_away(
    server_kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Only root can be two users; a server that allows nobody stands in for that otherwise."""
    program = (
        "import asyncio, sys, trio\n"
        "from pathlib import Path\n"
        "from pyrsia_node.core.link_server import LinkServer as T\n"
        "from pyrsia_node.gateway.link import LinkServer as A\n"
        "kind, path = sys.argv[1], Path(sys.argv[2])\n"
        "server = (T if kind == 'trio' else A)(path, {}, uids=frozenset())\n"
        "trio.run(server.serve) if kind == 'trio' else asyncio.run(server.serve())\n"
    )
    path = tmp_path_factory.mktemp("other") / "a.sock"
    with subprocess.Popen([sys.executable, "-c", program, server_kind, path]) as process:
        while not path.exists():
            os.sched_yield()
        try:
            with pytest.raises(UnavailableError, match=r"lost|BrokenResource"):
                trio.run(call_patiently, path)
        finally:
            process.kill()


async def call_patiently(path: Path) -> None:
    """Call until the server listens: the socket's file appears a moment before."""
    while True:
        try:
            await call_once(path, "echo", {})
        except UnavailableError as error:
            if "nobody listens" not in str(error):
                raise
            await trio.sleep(0.01)


def test_client_refuses_a_server_of_another_user(shared_server: ServerProcess) -> None:
    stranger = os.geteuid() + 1

    async def under_trio() -> None:
        async with trio.open_nursery() as nursery:
            client = TrioClient(shared_server.path, nursery, server_uid=stranger)
            with pytest.raises(UnavailableError, match=f"not by user {stranger}"):
                await client.call("echo", {})

    async def under_asyncio() -> None:
        client = AsyncioClient(shared_server.path, server_uid=stranger)
        with pytest.raises(UnavailableError, match=f"not by user {stranger}"):
            await client.call("echo", {})

    trio.run(under_trio)
    asyncio.run(under_asyncio())
