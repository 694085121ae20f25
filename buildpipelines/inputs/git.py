"""One commit of a git repository over https, as our canonical tar.

Git runs here, outside of any sandbox, against servers that a mapping names, so it gets nothing to
work with: no configuration but ours, no credentials, no hooks, no filters, no checkout, no other
protocol, no redirect of its own, addresses that we resolved, and bounds on time, bytes, memory.
What a repository means is decided by ``git_objects``; who may be asked by ``sources``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from buildpipelines.errors import ArchiveError, BuildFailure
from buildpipelines.extract.limits import ArchiveLimits
from buildpipelines.extract.source import SourceFacts
from buildpipelines.inputs.git_objects import ObjectReader, write_tree

FETCH_SECONDS: Final = 900.0
LOCAL_SECONDS: Final = 60.0
READ_SECONDS: Final = 600.0
CPU_SECONDS_MAX: Final = 600
PACK_BYTES_MAX: Final = 512 * 1024 * 1024
MEMORY_BYTES_MAX: Final = 2 * 1024**3
OUTPUT_BYTES_MAX: Final = 64 * 1024
SLOW_BYTES_PER_SECOND: Final = 1000
SLOW_SECONDS: Final = 60
VERSION_LEAST: Final = (2, 37)
"""The first git that takes addresses from us (``http.curloptResolve``)."""

COMMIT: Final = re.compile(r"[0-9a-f]{40}\Z")

_SOURCE: Final = "refs/pyrsia/source"
_FETCH_OPTIONS: Final = (
    "--quiet",
    "--depth=1",
    "--no-tags",
    "--no-recurse-submodules",
    "--no-auto-maintenance",
    "--no-write-fetch-head",
)
_OPTIONS: Final = (
    "protocol.allow=never",
    "protocol.https.allow=always",
    "http.followRedirects=false",
    "http.sslVerify=true",
    f"http.lowSpeedLimit={SLOW_BYTES_PER_SECOND}",
    f"http.lowSpeedTime={SLOW_SECONDS}",
    "credential.helper=",
    "core.askPass=",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.fsmonitor=false",
    "fetch.unpackLimit=1",
    "gc.auto=0",
    "pack.threads=1",
    "submodule.recurse=false",
)
"""Everything that comes is kept as one pack, so the bound on one file is the bound on all of it."""

_ABSENT: Final = ("couldn't find remote ref", "not our ref", "unadvertised object")


@dataclass(frozen=True, slots=True)
class GitOrigin:
    """Where to fetch: ``url`` is https, ``addresses`` those that its host was judged by."""

    url: str
    host: str
    port: int
    addresses: tuple[str, ...]
    certificates: Path | None

    def options(self) -> list[str]:
        """Return what git must know of it, as its own ``-c`` options."""
        chosen = [f"http.sslCAInfo={self.certificates}"] if self.certificates else []
        if self.addresses:
            pinned = ",".join(f"[{each}]" if ":" in each else each for each in self.addresses)
            chosen.append(f"http.curloptResolve={self.host}:{self.port}:{pinned}")
        return chosen


class GitRepository:
    """A bare repository for one fetch; make it with :func:`opened`."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which is empty."""
        self._folder = folder

    async def fetch(self, origin: GitOrigin, *, tag: str, commit: str) -> str:
        """Fetch one commit without its history; return its id.

        Args:
            origin: Where.
            tag: A tag, resolved now; "" to fetch by the commit's id.
            commit: Which commit it must be; "" for whichever the tag is.

        Raises:
            BuildFailure: SOURCE_UNAVAILABLE (``no such tag``, ``no such commit``, ``source host``),
                REFUSED (``tag moved``, ``source too large``).
        """
        wanted = f"refs/tags/{tag}" if tag else commit
        try:
            await self._git(
                ["fetch", *_FETCH_OPTIONS, origin.url, f"{wanted}:{_SOURCE}"],
                seconds=FETCH_SECONDS,
                options=origin.options(),
            )
        except _GitError as error:
            if await asyncio.to_thread(self._is_full):
                detail = f"{wanted} of {origin.url} has more than {PACK_BYTES_MAX} bytes, packed"
                raise BuildFailure("REFUSED", "source too large", detail) from error
            raise _fetch_failure(error, origin, tag=tag, commit=commit) from error
        try:
            found = await self._git(["rev-parse", "--verify", "--quiet", f"{_SOURCE}^{{commit}}"])
        except _GitError as error:
            detail = f"{wanted} of {origin.url} is no commit"
            raise BuildFailure("SOURCE_UNAVAILABLE", "no such tag", detail) from error
        resolved = found.decode().strip()
        if commit and resolved != commit:
            detail = f"{tag} of {origin.url} is {resolved} now, {commit} was asked for"
            raise BuildFailure("REFUSED", "tag moved", detail)
        return resolved

    async def write(self, commit: str, tar: Path, limits: ArchiveLimits) -> SourceFacts:
        """Write the tree of a fetched commit to ``tar``.

        Raises:
            BuildFailure: REFUSED: the tree breaks a rule, named by the cause.
        """
        process = self._start_reading()
        work = asyncio.create_task(asyncio.to_thread(_write, process, commit, tar, limits))
        try:
            async with asyncio.timeout(READ_SECONDS):
                return await asyncio.shield(work)
        except ArchiveError as error:
            raise BuildFailure("REFUSED", error.cause, f"{commit}: {error}") from error
        except (TimeoutError, OSError) as error:
            detail = f"{commit} was not read: {error!r}"
            raise BuildFailure("SOURCE_UNAVAILABLE", "source host", detail) from error
        finally:
            process.kill()  # the thread then meets an end of file, and ends
            await asyncio.wait((work,))
            work.exception()
            _reap(process)

    def _is_full(self) -> bool:
        """Tell whether a pack was cut off by the bound on files."""
        packs = (self._folder / "objects" / "pack").glob("*")
        return any(each.stat().st_size >= PACK_BYTES_MAX for each in packs)

    def _start_reading(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            _command(self._folder, ["cat-file", "--batch"], []),
            env=_environment(self._folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    async def prepare(self) -> None:
        """Make the bare repository; raises BuildFailure where there is no fit git."""
        try:
            version = await self._git(["version"], is_plain=True)
            found = re.match(rb"git version ([0-9]{1,4})\.([0-9]{1,4})", version)
            if found is None or (int(found[1]), int(found[2])) < VERSION_LEAST:
                detail = f"git {'.'.join(map(str, VERSION_LEAST))} or newer is needed: {version!r}"
                raise BuildFailure("REFUSED", "no git", detail)
            await self._git(
                ["init", "--quiet", "--bare", "--template=", str(self._folder)], is_plain=True
            )
        except (_GitError, OSError) as error:
            raise BuildFailure("REFUSED", "no git", str(error)) from error

    async def _git(
        self,
        arguments: Sequence[str],
        *,
        seconds: float = LOCAL_SECONDS,
        options: Sequence[str] = (),
        is_plain: bool = False,
    ) -> bytes:
        """Run git and return what it prints; ends it and its children, however this ends."""
        command = _command(None if is_plain else self._folder, arguments, options)
        process = await _started(
            command, environment=_environment(self._folder), folder=self._folder
        )
        assert process.stdout is not None
        assert process.stderr is not None
        is_ended = False
        try:
            async with asyncio.timeout(seconds):
                out, said = await asyncio.gather(_bounded(process.stdout), _bounded(process.stderr))
                status = await process.wait()
            is_ended = True
        except TimeoutError as error:
            raise _GitError(f"not done after {seconds:.0f} s") from error
        finally:
            # Somebody of the group is there still, or its output would have ended: so the number
            # is not another's yet.
            if not is_ended:
                await _kill_group(process)
        if status != 0:
            raise _GitError(_printable(said) or f"status {status}")
        return out


class _GitError(Exception):
    """Git ended badly."""


async def _started(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path
) -> asyncio.subprocess.Process:
    """Start a program that leads a group of its own; nothing of it is left if we are cancelled."""
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            env=environment,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # Cancelled itself it would end the leader alone, and leave the leader's helpers.
        await _kill_group(await starting)
        raise


async def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _printable(text: bytes) -> str:
    """Return what git said, some of which a server told it to say."""
    shown = text.decode(errors="replace").strip()
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in shown)


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    """Read to the end and keep the beginning."""
    kept = bytearray()
    while data := await stream.read(OUTPUT_BYTES_MAX):
        kept += data[: OUTPUT_BYTES_MAX - len(kept)]
    return bytes(kept)


def _command(folder: Path | None, arguments: Sequence[str], options: Sequence[str]) -> list[str]:
    chosen = [word for each in (*_OPTIONS, *options) for word in ("-c", each)]
    where = [] if folder is None else [f"--git-dir={folder}"]
    limits = (
        f"--fsize={PACK_BYTES_MAX}",
        f"--as={MEMORY_BYTES_MAX}",
        f"--cpu={CPU_SECONDS_MAX}",
        "--core=0",
    )
    return ["prlimit", *limits, "git", *chosen, *where, *arguments]


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "https",
        "GIT_NO_REPLACE_OBJECTS": "1",
    }


def _fetch_failure(error: _GitError, origin: GitOrigin, *, tag: str, commit: str) -> BuildFailure:
    text = str(error)
    wanted = f"tag {tag}" if tag else f"commit {commit}"
    if any(each in text for each in _ABSENT):
        cause = "no such tag" if tag else "no such commit"
        return BuildFailure("SOURCE_UNAVAILABLE", cause, f"{origin.url} has no {wanted}")
    return BuildFailure("SOURCE_UNAVAILABLE", "source host", f"{origin.url}: {text[:1000]}")


def _write(
    process: subprocess.Popen[bytes], commit: str, tar: Path, limits: ArchiveLimits
) -> SourceFacts:
    assert process.stdin is not None
    assert process.stdout is not None
    with tar.open("wb") as out:
        return write_tree(ObjectReader(process.stdin, process.stdout), commit, out, limits)


def _reap(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    for end in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if end is not None:
                end.close()


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[GitRepository]:
    """Yield a new bare repository below ``folder``, which is removed afterwards.

    Raises:
        BuildFailure: REFUSED: this machine has no git that would do.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="git-") as path:
        repository = GitRepository(Path(path))
        await repository.prepare()
        yield repository
