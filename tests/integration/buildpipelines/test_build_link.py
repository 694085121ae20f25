"""The build link of a real worker: bad clients, job life, the end of the parent."""

from __future__ import annotations

import os
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import pytest

from buildpipelines.spec import canonical, framing
from buildpipelines.spec.messages import JobFailure
from tests.hostile.index import Index, serving_index
from tests.hostile.sdists import sdist
from tests.hostile.worker import LinkError, Worker, call, receive, running_worker


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with serving_index() as index:
        index.add("slow", "slow-1.0.tar.gz", sdist("slow", "1.0", "import time\ntime.sleep(60)"))
        yield index


@pytest.fixture(scope="module")
def worker(index: Index) -> Iterator[Worker]:
    with TemporaryDirectory() as name:
        # Deeper than the 107 bytes that a socket's address may have.
        folder = Path(name) / ("long-" * 20) / "run"
        folder.mkdir(parents=True)
        with running_worker(folder, index.url, "--parallel", "1") as worker:
            worker.link = short(worker.link)
            yield worker


def short(path: Path) -> Path:
    """Return a path through an open folder, as the node's client uses it."""
    return Path(f"/proc/self/fd/{os.open(path.parent, os.O_PATH)}/{path.name}")


def slow_trial(worker: Worker, job: str) -> None:
    params = {"job": job, "ecosystem": "pypi", "name": "slow", "version": "1.0"}
    worker.call("trial", {**params, "seconds_max": 50})


def wait_for_stage(worker: Worker, job: str, stage: str) -> None:
    deadline = time.monotonic() + 30
    while worker.call("job", {"job": job})["stage"] != stage:
        assert time.monotonic() < deadline, worker.call("job", {"job": job})
        time.sleep(0.02)


def test_description_names_the_toolchain_by_the_digest_of_its_document(worker: Worker) -> None:
    found = worker.call("describe", {})
    document = found["toolchain_doc"]
    assert isinstance(document, dict)
    assert found["toolchain"] == canonical.digest(document)
    pipelines = found["pipelines"]
    assert isinstance(pipelines, list)
    ids = [(each["id"], each["version"]) for each in pipelines]
    assert ids == [("docker", 1), ("maven", 1), ("pypi", 1)]
    assert len({each["digest"] for each in pipelines}) == 3
    environment = found["environment"]
    assert isinstance(environment, dict)
    assert environment["limits"] in ("cgroup1", "cgroup2", "rlimit")
    assert environment["seccomp"] == 1


def test_socket_is_for_its_owner_alone(worker: Worker) -> None:
    assert stat.S_IMODE(worker.link.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("method", "params", "kind"),
    [
        ("nothing", {}, "invalid"),
        ("describe", {"x": 1}, "invalid"),
        ("job", {"job": "never-heard-of"}, "not_found"),
        ("job", {"job": "../../etc"}, "invalid"),
        ("trial", {"job": "a"}, "invalid"),
        ("rebuild", {"job": "a"}, "invalid"),
        (
            "trial",
            {"job": "m", "ecosystem": "maven", "name": "x", "version": "1", "seconds_max": 1},
            "invalid",
        ),
    ],
)
def test_bad_call_is_answered_with_its_kind_and_the_link_lives_on(
    worker: Worker, method: str, params: dict[str, object], kind: str
) -> None:
    with worker.connect() as client:
        with pytest.raises(LinkError) as caught:
            call(client, method, params)
        assert caught.value.kind == kind
        assert call(client, "describe", {})["toolchain"]


@pytest.mark.parametrize(
    "data",
    [b"\xff" * 64, b"\0\0\0\x02{}", b"\0\0\0\x05hello", framing.encode_object({"id": 1})],
)
def test_client_that_breaks_the_format_is_cut_off_alone(worker: Worker, data: bytes) -> None:
    with worker.connect() as bad, worker.connect() as good:
        bad.sendall(data)
        assert bad.recv(1) == b""
        assert call(good, "describe", {})["toolchain"]


def test_requests_of_one_connection_may_be_pipelined(worker: Worker) -> None:
    with worker.connect() as client:
        frames = [
            framing.encode_request(framing.Request(number, "describe", {})) for number in range(8)
        ]
        client.sendall(b"".join(frames))
        seen: set[int] = set()
        decoder = framing.FrameDecoder()
        while len(seen) < len(frames):
            for payload in decoder.feed(client.recv(65536)):
                seen.add(framing.parse_answer(payload).id)
        assert seen == set(range(8))


def test_job_waits_for_a_slot_and_cancelling_ends_its_sandbox(worker: Worker) -> None:
    slow_trial(worker, "first")
    wait_for_stage(worker, "first", "attempt 1: wheel")
    slow_trial(worker, "second")
    assert worker.call("job", {"job": "second"})["state"] == "queued"
    with pytest.raises(LinkError, match="exists"):
        slow_trial(worker, "second")
    started = time.monotonic()
    for job in ("second", "first"):
        worker.call("cancel", {"job": job})
        result = worker.follow(job).result
        assert isinstance(result, JobFailure)
        assert (result.outcome, result.cause) == ("TIMEOUT", "cancelled")
    assert time.monotonic() - started < 5
    assert (worker.work / "jobs" / "first" / "log.txt").exists()
    for job in ("first", "second"):
        worker.call("forget", {"job": job})
    assert not (worker.work / "jobs" / "first").exists()
    with pytest.raises(LinkError, match="no job"):
        worker.call("job", {"job": "first"})


def test_job_that_takes_longer_than_it_may_is_stopped(worker: Worker) -> None:
    status = worker.trial("slow", seconds=2)
    assert isinstance(status.result, JobFailure)
    assert (status.result.outcome, status.result.cause) == ("TIMEOUT", "time limit")
    worker.call("forget", {"job": status.job})


def test_upstream_that_is_down_is_no_fault_of_the_package(worker: Worker, index: Index) -> None:
    index.broken = True
    try:
        status = worker.trial("unreachable")
    finally:
        index.broken = False
    assert isinstance(status.result, JobFailure)
    assert (status.result.outcome, status.result.cause) == ("SOURCE_UNAVAILABLE", "upstream")


def test_killed_worker_takes_its_sandbox_along_and_its_successor_cleans_up(index: Index) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        with running_worker(folder, index.url) as worker:
            slow_trial(worker, "slow")
            wait_for_stage(worker, "slow", "attempt 1: wheel")
            sandboxes = children(worker.process.pid)
            assert sandboxes
            killed = worker.process.pid
            worker.process.send_signal(signal.SIGKILL)
            worker.process.wait(10)
        deadline = time.monotonic() + 10
        while any(is_alive(pid) for pid in sandboxes):
            assert time.monotonic() < deadline, sandboxes
            time.sleep(0.02)
        with running_worker(folder, index.url) as worker:
            with pytest.raises(LinkError, match="no job"):
                worker.call("job", {"job": "slow"})
            assert list((worker.work / "jobs").iterdir()) == []
            assert not list(Path(gettempdir()).glob(f"pyrsia-build-{killed}-*"))


def children(pid: int) -> list[int]:
    found = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [grandchild for child in found for grandchild in children(child)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_client_that_never_reads_holds_up_nobody(worker: Worker) -> None:
    with worker.connect() as deaf, worker.connect() as good:
        deaf.settimeout(0)
        frame = framing.encode_request(framing.Request(1, "describe", {}))
        sent = 0
        try:
            while sent < 4000 * len(frame):
                sent += deaf.send(frame * 100)
        except BlockingIOError:
            pass
        assert sent
        assert call(good, "describe", {})["toolchain"]
        deaf.settimeout(30)
        assert framing.parse_answer(receive(deaf)).id == 1
