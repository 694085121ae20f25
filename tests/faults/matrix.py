"""Every write, every way to fail: one child process each, and another that starts on what is left.

Children are forked from a process that has imported everything and opened nothing, so a case costs
what its core costs. The parent never runs an event loop and never opens a database.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from pyrsia_node.schema.exit_codes import REFUSALS, exit_code_of
from tests.faults.doors import Doors, Failure
from tests.faults.scenario import Told, examine, found, go_on, work

_WRONG: Final = 70
"""Exit code of a child whose examination found something; it says what on its pipe."""


@dataclass(frozen=True, slots=True)
class Case:
    """The write that fails, the first being 1, and how."""

    fail_at: int
    failure: Failure

    def __str__(self) -> str:
        """Return the form that ``--only`` takes."""
        return f"{self.fail_at}:{self.failure.value}"

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read what ``str`` wrote."""
        number, _, failure = text.partition(":")
        return cls(int(number), Failure(failure))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case ended.

    Attributes:
        case: which.
        ended: the exit code of the failing process; negative is the signal that ended it.
        told: lines that its client was told.
        wrong: what did not hold afterwards; empty if all did.
    """

    case: Case
    ended: int
    told: int
    wrong: tuple[str, ...]


class Matrix:
    """Founds one node and runs cases on copies of it."""

    def __init__(self, folder: Path) -> None:
        """Work in ``folder``, which must be empty."""
        self._folder = folder
        self._template = folder / "template"
        self._transactions = found(self._template)

    def writes(self) -> list[str]:
        """Run the scenario without a failure; return the durable writes that it made."""
        node = self._copy("count")
        doors = Doors(node, fail_at=0, failure=Failure.REFUSED)

        def count(tell: Callable[[str], None]) -> None:
            doors.install()
            trio.run(work, node, self._transactions, lambda _line: None)
            for name in doors.names:
                tell(name)

        code, names = _in_child(count)
        assert code == 0, f"the scenario fails by itself: {names[-20:]}"
        shutil.rmtree(node)
        return names

    def run(self, case: Case) -> Outcome:
        """Fail, start again, examine."""
        node = self._copy(str(case).replace(":", "-"))
        doors = Doors(node, fail_at=case.fail_at, failure=case.failure)

        def fail(tell: Callable[[str], None]) -> None:
            doors.install()
            trio.run(work, node, self._transactions, tell)

        def restart(tell: Callable[[str], None]) -> None:
            wrong = trio.run(go_on, node, self._transactions, told)
            for each in wrong or examine(node, self._transactions):
                tell(each)

        ended, lines = _in_child(fail)
        told = Told.of([line for line in lines if line.startswith("[")])
        problems = []
        if ended in REFUSALS:
            problems.append(f"a supervisor would not start it again: exit code {ended}, {lines}")
        code, wrong = _in_child(restart)
        problems += wrong
        if code != 0:
            problems.append(f"the restart ended with {code}")
        if not problems:
            for path in (node, node.with_name(f"{node.name}-fresh")):
                shutil.rmtree(path)
        return Outcome(case, ended, len(lines), tuple(problems))

    def _copy(self, name: str) -> Path:
        node = self._folder / name
        shutil.copytree(self._template, node)
        return node


def cases(writes: int, *, every: int = 1, start: int = 1) -> Iterator[Case]:
    """Yield each way to fail of each so manyth write."""
    for number in range(start, writes + 1, every):
        for failure in Failure:
            yield Case(number, failure)


def _in_child(body: Callable[[Callable[[str], None]], None]) -> tuple[int, list[str]]:
    """Run ``body`` in a forked process; return its exit code and the whole lines that it told."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_child(body, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    lines = content.decode().split("\n")[:-1]
    return os.waitstatus_to_exitcode(status), lines


def _be_child(body: Callable[[Callable[[str], None]], None], writing: int) -> None:
    """Run ``body`` and end this process; never return, whatever happens."""
    code = 0
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        body(lambda line: _tell(writing, line))
    except BaseException as error:  # noqa: BLE001 - the exit code tells the parent
        code = exit_code_of(error)
        _tell(writing, repr(error).replace("\n", " ")[:500])
    finally:
        os._exit(code)


def _tell(writing: int, line: str) -> None:
    os.write(writing, f"{line}\n".encode())
