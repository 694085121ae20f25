"""Name why a build failed, in 32 characters, from what the sandbox left behind. Pure.

The kernel's counters and our own limits come first; the log is hostile text and only chooses
between names of failures that have already happened. Nothing is ever decided by it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from buildpipelines.errors import BuildFailure

LOG_TAIL_BYTES: Final = 16 * 1024
_DETAIL_BYTES: Final = 2000

_LOG_CAUSES: Final = (
    (
        re.compile(rb"^MemoryError|virtual memory exhausted|Cannot allocate memory", re.MULTILINE),
        "memory",
    ),
    (re.compile(rb"No space left on device"), "disk"),
    (re.compile(rb"Resource temporarily unavailable"), "process"),
    (
        re.compile(
            rb"Temporary failure in name resolution|Name or service not known"
            rb"|Network is unreachable|Could not resolve host|UnknownHostException"
        ),
        "network",
    ),
)
_NAMES: Final = {
    "memory": "memory limit",
    "disk": "disk limit",
    "process": "process limit",
    "network": "network attempt",
}
_MAVEN_CAUSES: Final = (
    (re.compile(rb"COMPILATION ERROR|Compilation failure"), "build: compiler"),
    (re.compile(rb"There are test failures"), "build: tests"),
    (
        re.compile(
            rb"Could not (?:find|transfer) artifact|could not be resolved"
            rb"|Could not resolve dependencies|Unresolveable build extension"
            rb"|No plugin found for prefix"
        ),
        "build: dependencies",
    ),
    (
        re.compile(rb"Some problems were encountered while processing the POMs|Non-parseable POM"),
        "build: pom",
    ),
    (
        re.compile(rb"Could not find the selected project in the reactor"),
        "build: no such module",
    ),
    (re.compile(rb"Unknown lifecycle phase"), "build: goals"),
    (re.compile(rb"Failed to execute goal"), "build: goal failed"),
)
"""How Maven says what went wrong; the first that it said is taken."""

_EXCEPTION: Final = re.compile(
    rb"^(?:[a-z_]\w{0,40}\.){0,4}([A-Z]\w*[a-z]\w{0,40})(?::|$)", re.MULTILINE
)


def explain(
    *,
    step: str,
    text: str,
    disk_full: bool,
    breach: str | None,
    refused_hosts: Sequence[str],
    log_tail: bytes,
) -> BuildFailure:
    """Return the failure of a build that ended badly.

    Args:
        step: Which step failed; "" where that is not known.
        text: The same for people.
        disk_full: The sandbox's own file system was full at the end.
        breach: The bound that the kernel or the watcher saw broken, if any.
        refused_hosts: Where the build asked to go.
        log_tail: The end of the log.
    """
    tail = log_tail[-LOG_TAIL_BYTES:]
    last_lines = tail[-_DETAIL_BYTES:].decode(errors="replace").strip()
    detail = f"{text}\n{last_lines}" if last_lines else text
    return BuildFailure(
        "BUILD_FAILED", _cause(step, disk_full, breach, refused_hosts, tail), detail
    )


def _cause(
    step: str,
    disk_full: bool,  # noqa: FBT001 - private, called once
    breach: str | None,
    refused_hosts: Sequence[str],
    tail: bytes,
) -> str:
    if breach is not None:
        return breach
    if disk_full:
        return _NAMES["disk"]
    if refused_hosts:
        return f"network: {refused_hosts[0]}"
    for pattern, name in _LOG_CAUSES:
        if pattern.search(tail):
            return _NAMES[name]
    if step == "requires":
        return "build requirements"
    if step in ("no pom", "no artifact"):
        return step
    if step == "maven":
        return next((name for said, name in _MAVEN_CAUSES if said.search(tail)), "build failed")
    exceptions = _EXCEPTION.findall(tail)
    if exceptions:
        return f"build: {exceptions[-1].decode()}"
    return "build failed"
