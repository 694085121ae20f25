"""One child process of the supervisor: started, listened to, stopped, without leaving anything.

A child gets a pipe whose other end only the supervisor holds (store/parent.py), a process group of
its own (so that Ctrl-C in a terminal reaches the supervisor alone), no standard input, and one pipe
for everything that it prints.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from pyrsia_node.store.parent import PARENT_FD_VARIABLE

LINE_CHARACTERS_MAX: Final = 4000
"""Longer lines are cut: a build may print anything."""

_LAST_LINES: Final = 12
_READ_BYTES: Final = 64 * 1024
_DRAIN_TIMEOUT_S: Final = 0.5

PrintLine = Callable[[str, str], None]
"""Takes a child's name and one clean line."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start one child, and how long it may take to stop."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    stop_timeout_s: float = 10.0


@dataclass(slots=True)
class Ended:
    """How a child ended.

    Attributes:
        code: the exit code; negative when a signal ended it, as in ``subprocess``.
        lived_s: seconds between start and end.
        last_lines: the last that it printed.
    """

    code: int
    lived_s: float
    last_lines: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """Say in words how the child ended."""
        if self.code < 0:
            return f"killed by {signal.Signals(-self.code).name} after {self.lived_s:.1f} s"
        return f"ended with code {self.code} after {self.lived_s:.1f} s"


class Child:
    """A running child. Made by :func:`start_child`, which must be followed by :meth:`run`."""

    def __init__(self, spec: ChildSpec, process: subprocess.Popen[bytes], parent_fd: int) -> None:
        """Wrap a process that was just started."""
        self.spec = spec
        self._process = process
        self._parent_fd: int | None = parent_fd
        self._ended = trio.Event()
        self._started_s = trio.current_time()
        self._last_lines: deque[str] = deque(maxlen=_LAST_LINES)

    @property
    def pid(self) -> int:
        """The process id; also that of its process group."""
        return self._process.pid

    async def run(self, print_line: PrintLine) -> Ended:
        """Print the child's lines until it ends; return how it ended.

        When this is cancelled, the child's whole group is killed first.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._print_lines, print_line)
                await self._wait_until_dead()
                # A grandchild may hold the pipe open; the child's own last words are there already.
                nursery.cancel_scope.deadline = trio.current_time() + _DRAIN_TIMEOUT_S
        finally:
            # The group is killed while its leader is not yet reaped: its id cannot be another's.
            self._kill_group()
            self._close_pipe()
            with trio.CancelScope(shield=True):
                await self._wait_until_dead()
            code = self._process.wait()  # It is dead: this only reaps it.
            self._ended.set()
        return Ended(code, trio.current_time() - self._started_s, list(self._last_lines))

    async def stop(self) -> None:
        """Ask the child to stop by closing its pipe, and kill its group when time is up.

        :meth:`run`, in its own task, notices the end and cleans up.
        """
        self._close_pipe()
        with trio.move_on_after(self.spec.stop_timeout_s) as scope:
            await self._ended.wait()
        if scope.cancelled_caught:
            self._kill_group()
            await self._ended.wait()

    async def _wait_until_dead(self) -> None:
        descriptor = os.pidfd_open(self.pid)
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)

    def _close_pipe(self) -> None:
        if self._parent_fd is not None:
            os.close(self._parent_fd)
            self._parent_fd = None

    def _kill_group(self) -> None:
        if self._ended.is_set():
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _print_lines(self, print_line: PrintLine) -> None:
        assert self._process.stdout is not None
        output = trio.lowlevel.FdStream(os.dup(self._process.stdout.fileno()))
        self._process.stdout.close()
        rest = b""
        async with output:
            async for data in output:
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self._print(line, print_line)
                if len(rest) > LINE_CHARACTERS_MAX:
                    self._print(rest, print_line)
                    rest = b""
        if rest:
            self._print(rest, print_line)

    def _print(self, line: bytes, print_line: PrintLine) -> None:
        text = clean_line(line)
        self._last_lines.append(text)
        print_line(self.spec.name, text)


def clean_line(line: bytes) -> str:
    """Return a line that a terminal can show safely: no control characters, bounded length.

    Builds print what they like; escape sequences in it must not reach the operator's terminal.
    """
    text = line.rstrip(b"\r").decode(errors="replace")[:LINE_CHARACTERS_MAX]
    return "".join(
        each if each.isprintable() or each == "\t" else f"\\x{ord(each):02x}" for each in text
    )


def start_child(spec: ChildSpec) -> Child:
    """Start a child by exec, never by fork alone: it shares no memory and no descriptor with us.

    To be called in the main thread: a child that asks to die with its parent (bubblewrap does)
    dies with the thread that started it, and the threads of a pool come and go.

    Raises:
        OSError: the program cannot be started.
    """
    reading, writing = os.pipe()  # Both close on exec; the child is handed the reading end alone.
    try:
        process = subprocess.Popen(
            [*spec.command],
            env={**spec.environment, PARENT_FD_VARIABLE: str(reading)},
            cwd=spec.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(reading,),
            start_new_session=True,
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    return Child(spec, process, writing)
