"""The pipeline contract as served, on real sockets, spoken word for word as the original does."""

from __future__ import annotations

import http.client
import json
import os
import socket
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from buildpipelines.errors import BuildFailure, FormatError
from buildpipelines.worker.contract_server import CONNECTIONS_MAX, Address, parse_address
from buildpipelines.worker.contract_store import INTERRUPTED, OPEN_MAX
from tests.fakes.contract_site import ContractSite, serving_contract

CODEC = {
    "package_type": "Maven2",
    "package_specific_id": "commons-codec:commons-codec:1.15",
    "source_repository": {
        "Git": {"url": "https://git.example/commons-codec", "tag": "rel/commons-codec-1.15"}
    },
    "build_spec_url": None,
}
FILES = {"commons-codec-1.15.jar": b"\0jar" * 100_000, "commons-codec-1.15.pom": b"<project/>"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ContractSite]:
    with serving_contract(tmp_path) as site:
        site.trials.files = FILES
        yield site


def ask(url: str, body: object = None, **headers: str) -> tuple[int, bytes]:
    """Return status and body of a GET, or of a PUT of ``body``."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    method = "GET" if body is None else "PUT"
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - a test's own server
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def start(site: ContractSite, body: object = None) -> str:
    status, data = ask(f"{site.url}/build", body or CODEC)
    assert status == 200, data
    build = json.loads(data)
    assert isinstance(build, str)
    return build


def ended(site: ContractSite, build: str) -> Any:
    """Wait for a build and return its status."""
    deadline = time.monotonic() + 10
    while True:
        status, data = ask(f"{site.url}/build/{build}")
        assert status == 200, data
        document = json.loads(data)
        assert document["id"] == build
        if document["status"] != "Running":
            return document["status"]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def connected(site: ContractSite, *, bytes_taken: int = 0) -> socket.socket:
    """Return a connection; where it is told how much it takes, the rest waits at the server."""
    host, _, port = site.url.removeprefix("http://").rpartition(":")
    connection = socket.socket()
    connection.settimeout(10)
    if bytes_taken:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, bytes_taken)
    connection.connect((host, int(port)))
    return connection


def until_there_is_room(site: ContractSite, *, seconds_max: float = 10) -> None:
    deadline = time.monotonic() + seconds_max
    while True:
        with suppress(OSError, http.client.HTTPException):
            assert ask(f"{site.url}/x")[0] == 404
            return
        assert time.monotonic() < deadline, "there is no room any more"
        time.sleep(0.05)


def test_build_runs_and_its_files_are_to_be_had(site: ContractSite) -> None:
    build = start(site)
    found = ended(site, build)
    prefix = f"/build/{build}/artifacts/"
    assert found == {"Success": {"artifact_urls": [prefix + name for name in FILES]}}
    for name, content in FILES.items():
        assert ask(f"{site.url}{prefix}{name}") == (200, content)
    (trial,) = site.trials.asked
    assert (trial.ecosystem, trial.name, trial.version) == (
        "maven",
        "commons-codec:commons-codec",
        "1.15",
    )
    assert trial.options == {
        "source": "git+https://git.example/commons-codec",
        "tag": "rel/commons-codec-1.15",
    }


def test_file_is_bytes_and_never_the_zipped_file_beside_it(site: ContractSite) -> None:
    site.trials.files = {"a-1.xml": b"plain", "a-1.xml.gz": b"zipped"}
    build = start(site)
    ended(site, build)
    url = f"{site.url}/build/{build}/artifacts/a-1.xml"
    request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})  # noqa: S310 - a test's own server
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
        assert answer.read() == b"plain"
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Length"] == "5"
        assert answer.headers["Content-Encoding"] is None


def test_head_tells_of_a_file_without_sending_it(site: ContractSite) -> None:
    build = start(site)
    ended(site, build)
    name = "commons-codec-1.15.jar"
    connection = http.client.HTTPConnection(site.url.removeprefix("http://"), timeout=10)
    for path in (f"/build/{build}/artifacts/{name}", "/build/x"):
        connection.request("HEAD", path)
        answer = connection.getresponse()
        assert answer.read() == b""
        is_there = path.endswith(name)
        assert answer.status == (200 if is_there else 404)
        assert not is_there or answer.headers["Content-Length"] == str(len(FILES[name]))
    connection.close()


def test_file_of_a_running_build_is_202_and_of_a_failed_one_410(site: ContractSite) -> None:
    site.trials.gate.clear()
    site.trials.failure = BuildFailure("BUILD_FAILED", "compiler", "A.java:1: error")
    build = start(site)
    url = f"{site.url}/build/{build}/artifacts/commons-codec-1.15.jar"
    assert ask(f"{site.url}/build/{build}") == (
        200,
        json.dumps({"id": build, "status": "Running"}).encode(),
    )
    assert ask(url)[0] == 202
    site.trials.gate.set()
    assert ended(site, build) == {"Failure": "BUILD_FAILED (compiler): A.java:1: error"}
    assert ask(url)[0] == 410


def test_nothing_but_builds_and_their_files_is_to_be_found(site: ContractSite) -> None:
    build = start(site)
    ended(site, build)
    base = f"/build/{build}/artifacts"
    unknown = [
        "/build/6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "/build/%2e%2e",
        f"/build/{build}%2f..",
        f"{base}/other.jar",
        f"{base}/build.json",
        f"{base}/source-0123456789abcdef.tar",
        f"{base}/%2e%2e",
        f"{base}/..%2fbuild.json",
        f"{base}/%2e%2e%2fbuild.json",
        f"{base}/../build.json",
        f"{base}/",
        f"{base}/%00",
        f"{base}/%ff",
        f"{base}/commons-codec-1.15.jar/",
        "/",
        "/build/",
    ]
    for path in unknown:
        # By http.client: urllib would tidy the path up.
        connection = http.client.HTTPConnection(site.url.removeprefix("http://"), timeout=10)
        connection.request("GET", path)
        assert connection.getresponse().status == 404, path
        connection.close()


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"{", "not JSON"),
        (b"x" * 65_000, "not JSON"),
        ({**CODEC, "package_type": "Npm"}, "package_type"),
        ({**CODEC, "package_specific_id": "commons-codec"}, "GROUP:ARTIFACT"),
        ({**CODEC, "package_specific_id": "a/b:c:1"}, "GROUP:ARTIFACT"),
        ({**CODEC, "package_specific_id": "a:b:../1"}, "version"),
        ({**CODEC, "package_specific_id": "a:b:1-SNAPSHOT"}, "snapshots"),
        ({**CODEC, "source_repository": None}, "source_repository is missing"),
        ({**CODEC, "source_repository": {"Git": {"url": "https://h/r"}}}, "tag"),
        ({**CODEC, "source_repository": {"Git": {"url": "http://h/r", "tag": "1"}}}, "https"),
        ({**CODEC, "source_repository": {"Git": {"url": "file:///r", "tag": "1"}}}, "https"),
        ({**CODEC, "source_repository": {"Git": {"url": "https://u:p@h/r", "tag": "1"}}}, "user"),
        ({**CODEC, "source_repository": {"Git": {"url": "https://[", "tag": "1"}}}, "https"),
        ({**CODEC, "build_spec_url": "https://git.example/x.sh"}, "script of yours"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(
    site: ContractSite, body: object, named: str
) -> None:
    status, data = ask(f"{site.url}/build", body)
    assert status == 400
    assert named in data.decode()
    assert data.count(b"\n") == 1
    assert not site.trials.asked


def test_body_without_end_is_cut_off(site: ContractSite) -> None:
    assert ask(f"{site.url}/build", b" " * 70_000)[0] == 413


def test_image_is_answered_by_a_failure_that_says_who_builds_images(site: ContractSite) -> None:
    body = {"package_type": "Docker", "package_specific_id": "library/alpine:3.16"}
    assert "pyrsia build docker" in ended(site, start(site, body))["Failure"]


def test_other_methods_are_refused(site: ContractSite) -> None:
    for method in ("POST", "DELETE", "OPTIONS"):
        connection = http.client.HTTPConnection(site.url.removeprefix("http://"), timeout=10)
        connection.request(method, "/build", body=b"{}")
        assert connection.getresponse().status == 405
        connection.close()


def test_name_that_was_pointed_at_this_machine_is_refused(site: ContractSite) -> None:
    for name in ("evil.example", "[", "127.0.0.1.evil.example", "localhost@evil.example"):
        assert ask(f"{site.url}/build", CODEC, Host=name)[0] == 403, name
    assert ask(f"{site.url}/build", CODEC, Host="127.0.0.1")[0] == 200


def test_builds_run_one_at_a_time_and_their_number_is_bounded(site: ContractSite) -> None:
    site.trials.gate.clear()
    builds = [start(site) for _ in range(OPEN_MAX)]
    status, data = ask(f"{site.url}/build", CODEC)
    assert (status, b"try again later" in data) == (503, True)
    site.trials.gate.set()
    assert all("Success" in ended(site, build) for build in builds)
    assert site.trials.at_once_most == 1


def test_many_askers_at_once_get_ids_of_their_own(site: ContractSite) -> None:
    with ThreadPoolExecutor(4) as pool:
        builds = list(pool.map(lambda _: start(site), range(OPEN_MAX)))
    assert len(set(builds)) == OPEN_MAX


def test_build_that_made_room_while_it_was_asked_for_is_not_found(
    site: ContractSite, tmp_path: Path
) -> None:
    build = start(site)
    ended(site, build)
    (name, *_) = FILES
    (tmp_path / "contract" / build / "artifacts" / name).unlink()
    assert ask(f"{site.url}/build/{build}/artifacts/{name}")[0] == 404


def test_disk_that_takes_nothing_is_told_in_a_line(site: ContractSite, tmp_path: Path) -> None:
    (tmp_path / "contract").rmdir()
    status, data = ask(f"{site.url}/build", CODEC)
    assert (status, data.count(b"\n")) == (503, 1)
    assert str(tmp_path).encode() not in data


def test_files_that_cannot_be_kept_fail_the_build_without_a_word_of_our_folders(
    site: ContractSite, tmp_path: Path
) -> None:
    site.trials.gate.clear()
    build = start(site)
    (tmp_path / "contract" / build / "artifacts").touch()
    site.trials.gate.set()
    assert ended(site, build) == {"Failure": "the pipeline's disk failed"}


def test_builds_that_ended_outlive_a_restart_and_others_say_that_they_did_not(
    tmp_path: Path,
) -> None:
    with serving_contract(tmp_path) as site:
        site.trials.files = FILES
        whole = start(site)
        ended(site, whole)
        site.trials.gate.clear()
        broken = start(site)
    with serving_contract(tmp_path) as again:
        assert "Success" in ended(again, whole)
        name = "commons-codec-1.15.pom"
        assert ask(f"{again.url}/build/{whole}/artifacts/{name}") == (200, FILES[name])
        assert ended(again, broken) == {"Failure": INTERRUPTED.text}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self.path))


def test_socket_is_for_its_owner_and_serves_the_same(site: ContractSite) -> None:
    assert stat.S_IMODE(site.socket.stat().st_mode) == 0o600
    connection = UnixConnection(site.socket)
    connection.request("PUT", "/build", json.dumps(CODEC))
    answer = connection.getresponse()
    assert answer.status == 200
    assert "Success" in ended(site, json.loads(answer.read()))
    connection.close()


def test_address_that_is_taken_leaves_the_socket(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with serving_contract(tmp_path, port=port) as site:
            assert site.url == ""
            connection = UnixConnection(site.socket)
            connection.request("PUT", "/build", json.dumps(CODEC))
            assert connection.getresponse().status == 200
            connection.close()


def test_user_who_is_not_allowed_is_refused_at_the_socket(tmp_path: Path) -> None:
    with serving_contract(tmp_path, uids=frozenset({os.getuid() + 1})) as site:
        connection = UnixConnection(site.socket)
        connection.request("PUT", "/build", json.dumps(CODEC))
        assert connection.getresponse().status == 403
        connection.close()
        assert not site.trials.asked


def test_connections_are_bounded_and_room_comes_back(site: ContractSite) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(connected(site)) for _ in range(CONNECTIONS_MAX)]
        # Each is known to be in once it has been answered.
        for each in held:
            each.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert each.recv(12) == b"HTTP/1.1 404"
        with connected(site) as late:
            assert late.recv(1) == b""
        held[0].close()
        until_there_is_room(site, seconds_max=5)


def test_connection_that_asks_nothing_is_cut_off(tmp_path: Path) -> None:
    with serving_contract(tmp_path, silence_seconds=0.2) as site:
        for sent in (b"", b"PUT /b", b"PUT /build HTTP/1.1\r\nHost: localhost\r\n"):
            with connected(site) as silent:
                silent.sendall(sent)
                assert silent.recv(100) == b""


def test_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    with serving_contract(tmp_path, silence_seconds=0.2) as site:
        with connected(site) as slow:
            slow.sendall(b"PUT /build HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
            assert slow.recv(12) == b"HTTP/1.1 408"
        assert not site.trials.asked


def test_files_that_nobody_reads_keep_no_place_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serving_contract(tmp_path, silence_seconds=0.2) as site, ExitStack() as stack:
        site.trials.files = {"a-1.jar": bytes(16 * 1024 * 1024)}
        build = start(site)
        ended(site, build)
        head = f"GET /build/{build}/artifacts/a-1.jar HTTP/1.1\r\nHost: localhost\r\n\r\n"
        for _ in range(CONNECTIONS_MAX):
            lazy = stack.enter_context(connected(site, bytes_taken=4096))
            lazy.sendall(head.encode())
            assert lazy.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
        until_there_is_room(site)
    assert not caplog.records, "whoever leaves is no fault of our disk"


def test_connections_are_bounded_when_all_come_at_once(tmp_path: Path) -> None:
    with serving_contract(tmp_path) as site, ExitStack() as stack:
        held = [stack.enter_context(connected(site)) for _ in range(4 * CONNECTIONS_MAX)]
        for each in held:
            each.setblocking(False)  # noqa: FBT003 - the standard library's signature
        deadline = time.monotonic() + 5
        while (alive := sum(map(is_open, held))) > CONNECTIONS_MAX:
            assert time.monotonic() < deadline, f"{alive} are open"
            time.sleep(0.01)


def is_open(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


@pytest.mark.parametrize(
    "head",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET /build/x HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"PUT /build HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"PUT /build HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: localhost\r\nA: " + b"x" * 20_000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_the_clients_mistake(site: ContractSite, head: bytes) -> None:
    with connected(site) as client:
        client.sendall(head)
        client.shutdown(socket.SHUT_WR)
        answer = client.recv(12)
    assert answer in (b"", b"HTTP/1.1 400", b"HTTP/1.0 400"), answer
    assert ask(f"{site.url}/x")[0] == 404


def test_only_near_addresses_can_be_listened_on() -> None:
    assert parse_address("127.0.0.1:8080") == Address("127.0.0.1", 8080)
    assert parse_address("[::1]:8080") == Address("::1", 8080)
    assert parse_address("10.1.2.3:80") == Address("10.1.2.3", 80)
    for text in ("0.0.0.0:80", "[::]:80", "8.8.8.8:80", "localhost:80", "127.0.0.1", "x"):
        with pytest.raises(FormatError):
            parse_address(text)
    for text in ("", ":80", "127.0.0.1:99999", "127.0.0.1:80/x", "u@127.0.0.1:80"):
        with pytest.raises(FormatError):
            parse_address(text)
