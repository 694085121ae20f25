"""Quote what diffoscope says of two files, where an operator has installed it. Never a verdict.

Both files are hostile, and diffoscope hands them to many programs. So it runs like a build does:
in bubblewrap without a network, with ``/usr`` to read and a bounded ``/tmp`` to write, as the
build user, behind the system call filter, counted before it starts; and for a bounded time. What
it writes is cut, escaped and put into the explanation (``spec.explanation``) beside our own words.
Whatever goes wrong means that there is nothing to quote: a build never fails for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from buildpipelines.sandbox import confine, seccomp
from buildpipelines.sandbox.bwrap import ETC_FILES, INNER_UID, become
from buildpipelines.sandbox.limits import MIB, SandboxLimits
from buildpipelines.sandbox.run import end_sandbox, memory_file, remove_bounds
from buildpipelines.spec.explanation import VALUE_CHARACTERS_MAX, Difference, make_difference

PROGRAM: Final = "/usr/bin/diffoscope"
FILE_BYTES_MAX: Final = 64 * MIB
REPORT_BYTES_MAX: Final = 32 * 1024
PARTS_MAX: Final = 8
"""In how many differences a report is quoted: a value of an explanation is bounded."""

LIMITS: Final = SandboxLimits(
    seconds=120.0, memory_bytes=1024 * MIB, processes=256, tmp_bytes=512 * MIB
)
_DIFFERENT: Final = 1
_WATCH_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Quoted:
    """Name and version of the tool, and its report in parts."""

    tool: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Tool:
    """How diffoscope is run here.

    ``uid`` is the user to become first, None where this process already is an ordinary one;
    ``visible`` are paths outside ``/usr`` that the program needs.
    """

    confiner: confine.Confiner
    uid: int | None
    program: str = PROGRAM
    visible: Sequence[str] = ()
    limits: SandboxLimits = field(default=LIMITS)


async def quote(tool: Tool, built: Path, published: Path, *, name: str) -> Quoted | None:
    """Return what diffoscope says of two files, or None where it says nothing.

    Cancelling ends its sandbox before the cancellation goes on.

    Args:
        tool: How to run it.
        built: The file that came out of the sandbox.
        published: The upstream's.
        name: What the file is called; the tool chooses its programs by it too.
    """
    if not await asyncio.to_thread(_may_run, tool, (built, published)):
        return None
    try:
        async with asyncio.timeout(tool.limits.seconds):
            _, version = await _run(tool, ["--version"], {})
            status, report = await _run(
                tool,
                [
                    *("--text", "-", "--no-progress", "--exclude-directory-metadata", "yes"),
                    *("--max-text-report-size", str(REPORT_BYTES_MAX)),
                    *("--max-diff-block-lines", "60", "--timeout", str(int(tool.limits.seconds))),
                    *(f"/data/built/{name}", f"/data/published/{name}"),
                ],
                {f"/data/built/{name}": built, f"/data/published/{name}": published},
            )
    except (OSError, TimeoutError):
        return None
    if status != _DIFFERENT or not report:
        return None
    return Quoted(version.decode(errors="replace").strip()[:80], _parts(report))


def _may_run(tool: Tool, files: Sequence[Path]) -> bool:
    """Whether the program is there and the files are not too large for it."""
    if not Path(tool.program).is_file():
        return False
    return all(path.stat().st_size <= FILE_BYTES_MAX for path in files)


def _parts(report: bytes) -> tuple[Difference, ...]:
    """Cut a report into differences, at the ends of lines."""
    found: list[str] = [""]
    for line in report.decode(errors="replace").splitlines():
        kept = line[: VALUE_CHARACTERS_MAX // 4]
        if len(found[-1]) + len(kept) + 1 > VALUE_CHARACTERS_MAX // 2:
            found.append("")
        found[-1] += f"{kept}\n"
    return tuple(
        make_difference(
            "",
            f"diffoscope {number}",
            built=part.removesuffix("\n"),
            published="in the same report",
            level=3,
        )
        for number, part in enumerate(found[:PARTS_MAX], 1)
    )


async def _run(tool: Tool, arguments: list[str], files: dict[str, Path]) -> tuple[int, bytes]:
    """Run the program in a sandbox; return its exit status and the start of what it wrote."""
    confinement = tool.confiner.make(f"diffoscope-{id(arguments)}", tool.limits)
    try:
        async with _started(tool, arguments, files, confinement) as process:
            watch = asyncio.create_task(_until_breach(confinement))
            report = asyncio.create_task(_report(process))
            try:
                await asyncio.wait((watch, report), return_when=asyncio.FIRST_COMPLETED)
                if not report.done():
                    raise TimeoutError
                return await process.wait(), report.result()
            finally:
                watch.cancel()
                report.cancel()
                await asyncio.gather(watch, report, return_exceptions=True)
    finally:
        await asyncio.shield(remove_bounds(confinement))


async def _report(process: asyncio.subprocess.Process) -> bytes:
    """Return the start of the output; the rest is read and dropped, so that it can end."""
    assert process.stdout is not None
    found = b""
    while part := await process.stdout.read(REPORT_BYTES_MAX):
        found = (found + part)[:REPORT_BYTES_MAX]
    return found


async def _until_breach(confinement: confine.Confinement) -> None:
    while confinement.breach() is None:  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(_WATCH_SECONDS)  # The kernel's counters tell nobody: they are read.


@contextlib.asynccontextmanager
async def _started(
    tool: Tool, arguments: list[str], files: dict[str, Path], confinement: confine.Confinement
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start the sandbox once it is counted; on leaving, end it and every process in it."""
    with contextlib.ExitStack() as descriptors:
        contents = {path: _opened(file, descriptors) for path, file in files.items()}
        contents |= {path: memory_file(data, descriptors) for path, data in ETC_FILES.items()}
        filter_fd = seccomp.open_filter()
        if filter_fd is not None:
            descriptors.callback(os.close, filter_fd)
        gate, opener = os.pipe()
        descriptors.callback(os.close, gate)
        opening = os.fdopen(opener, "wb", buffering=0)
        descriptors.callback(opening.close)
        process = await asyncio.create_subprocess_exec(
            *_command(tool, contents, filter_fd, gate),
            tool.program,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=[fd for fd in (*contents.values(), filter_fd, gate) if fd is not None],
            env={},
            cwd="/",
            start_new_session=True,
        )
        try:
            _attach_all(confinement, process.pid)
            opening.write(b"x")
            yield process
        finally:
            await asyncio.shield(end_sandbox(process))


def _attach_all(confinement: confine.Confinement, pid: int) -> None:
    """Count a sandbox that waits at its gate, and the children that it makes meanwhile."""
    counted: list[int] = []
    # A child that was made before its parent was counted is not; one made afterwards is.
    while (found := confine.descendants(pid)) != counted:
        confinement.attach(found)
        counted = found


def _command(tool: Tool, contents: dict[str, int], filter_fd: int | None, gate: int) -> list[str]:
    """Return how the command line begins that shows the program ``/usr`` and its two files."""
    found = [*become(tool.uid), "/usr/bin/bwrap"]
    found += ["--unshare-all", "--unshare-user", "--disable-userns"]
    found += ["--cap-drop", "ALL", "--uid", str(INNER_UID), "--gid", str(INNER_UID)]
    found += ["--clearenv", "--new-session", "--die-with-parent", "--hostname", "build"]
    found += ["--setenv", "PATH", "/usr/bin", "--setenv", "HOME", "/tmp"]  # noqa: S108 - inside
    found += ["--setenv", "LC_ALL", "C.UTF-8", "--setenv", "TZ", "UTC"]
    found += ["--ro-bind", "/usr", "/usr"]
    for path in ("bin", "sbin", "lib", "lib64"):
        found += ["--symlink", f"usr/{path}", f"/{path}"]
    # The second is where its Python finds libmagic and libarchive; JDKs link to their settings, and
    # without those the decompilers fail.
    settings = sorted(map(str, Path("/etc").glob("java-*")))
    for path in ("/etc/alternatives", "/etc/ld.so.cache", *settings):
        found += ["--ro-bind-try", path, path]
    found += ["--proc", "/proc", "--dev", "/dev"]
    found += ["--size", str(tool.limits.tmp_bytes), "--tmpfs", "/tmp"]  # noqa: S108 - inside
    for path in tool.visible:
        found += ["--ro-bind", path, path]
    for path, descriptor in contents.items():
        found += ["--ro-bind-data", str(descriptor), path]
    found += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]  # noqa: S108 - inside
    if filter_fd is not None:
        found += ["--seccomp", str(filter_fd)]
    return [*found, "--block-fd", str(gate), "--"]


def _opened(path: Path, descriptors: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    descriptors.callback(os.close, descriptor)
    return descriptor
