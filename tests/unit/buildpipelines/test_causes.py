"""Why a build failed, named in 32 characters; the log never outvotes the kernel."""

from __future__ import annotations

import pytest

from buildpipelines.errors import printable_cause
from buildpipelines.sandbox.causes import explain


def cause(
    log: bytes = b"",
    *,
    step: str = "build_wheel",
    disk_full: bool = False,
    breach: str | None = None,
    hosts: tuple[str, ...] = (),
) -> str:
    failure = explain(
        step=step,
        text="it failed",
        disk_full=disk_full,
        breach=breach,
        refused_hosts=hosts,
        log_tail=log,
    )
    assert failure.outcome == "BUILD_FAILED"
    return failure.cause


@pytest.mark.parametrize(
    ("log", "name"),
    [
        (b"Traceback\nMemoryError", "memory limit"),
        (b"cc1: out of memory: virtual memory exhausted", "memory limit"),
        (b"OSError: [Errno 28] No space left on device", "disk limit"),
        (b"BlockingIOError: [Errno 11] Resource temporarily unavailable", "process limit"),
        (b"gaierror: [Errno -3] Temporary failure in name resolution", "network attempt"),
        (b"connect: Network is unreachable", "network attempt"),
        (b"Traceback\nValueError: no", "build: ValueError"),
        (b"setuptools.errors.CompileError: no", "build: CompileError"),
        (b"ERROR: failed", "build failed"),
        (b"", "build failed"),
        (b"\xff\xfe" * 9000, "build failed"),
    ],
)
def test_log_names_a_failure_that_has_happened(log: bytes, name: str) -> None:
    assert cause(log) == name


@pytest.mark.parametrize(
    ("log", "name"),
    [
        (b"[ERROR] COMPILATION ERROR : \n[ERROR] Failed to execute goal x", "build: compiler"),
        (b"[ERROR] Failed to execute goal x: There are test failures.", "build: tests"),
        (b"Could not resolve dependencies for project a: Could not find", "build: dependencies"),
        (b"Could not find artifact org.x:y:jar:1 in inputs", "build: dependencies"),
        (b"Some problems were encountered while processing the POMs", "build: pom"),
        (b"Could not find the selected project in the reactor: core", "build: no such module"),
        (b'Unknown lifecycle phase "build".', "build: goals"),
        (b"Failed to execute goal org.x:y:1:run", "build: goal failed"),
        (b"java.net.UnknownHostException: collector.example", "network attempt"),
        (b"Traceback\nValueError: no", "build failed"),
    ],
)
def test_maven_says_what_went_wrong(log: bytes, name: str) -> None:
    assert cause(log, step="maven") == name


@pytest.mark.parametrize("step", ["no pom", "no artifact"])
def test_what_is_missing_names_the_failure(step: str) -> None:
    assert cause(b"Failed to execute goal", step=step) == step


def test_counters_come_before_the_log() -> None:
    lie = b"Traceback\nValueError: innocent"
    assert cause(lie, breach="memory limit") == "memory limit"
    assert cause(lie, disk_full=True) == "disk limit"
    assert cause(lie, hosts=("evil.example", "b")) == "network: evil.example"
    assert cause(lie, step="requires") == "build requirements"


@pytest.mark.parametrize("text", ["", "\0\n", "x" * 100, "ü" * 40, " a "])
def test_cause_fits_an_attestation(text: str) -> None:
    assert 1 <= len(printable_cause(text)) <= 32
    assert printable_cause(text).isascii()
    assert printable_cause(text).isprintable()
