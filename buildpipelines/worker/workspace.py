"""Where a job keeps its files: one folder a job, removed with it.

``<work>/jobs/<job>/`` holds ``log.txt``, ``out/`` and ``upstream/`` (files for the node to adopt)
and, while the job runs, ``tmp/``. Files are readable by the node, which may run as another user.
Sockets live in a folder of the system's temporary directory, because the sandbox's user must
reach them and must not pass through the work folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


class Workspace:
    """The folders of all jobs of one worker."""

    def __init__(self, work: Path) -> None:
        """Create what is missing and remove the jobs of an earlier life: nobody asks for them."""
        self.cache = work / "cache"
        self._jobs = work / "jobs"
        work.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._jobs, ignore_errors=True)
        self._jobs.mkdir()

    def create(self, job: str) -> JobFolder:
        """Make the folder of a new job."""
        folder = JobFolder(self._jobs / job)
        for path in (folder.root, folder.out, folder.temporary):
            path.mkdir(mode=0o755)
        folder.log.touch(mode=0o644)
        return folder

    def remove(self, job: str) -> None:
        """Remove a job's folder."""
        shutil.rmtree(self._jobs / job, ignore_errors=True)


class JobFolder:
    """The folder of one job."""

    def __init__(self, root: Path) -> None:
        """Name the parts of the folder at ``root``; nothing is created."""
        self.root = root
        self.out = root / "out"
        self.log = root / "log.txt"
        self.temporary = root / "tmp"

    def note(self, text: str) -> None:
        """Add a line of our own to the log."""
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"--- {text}\n")

    def log_tail(self, characters: int) -> str:
        """Return the end of the log as text."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - 4 * characters))
                return file.read().decode(errors="replace")[-characters:]
        except FileNotFoundError:
            return ""

    def clear_temporary(self) -> None:
        """Remove what only the running job needed."""
        shutil.rmtree(self.temporary, ignore_errors=True)


@contextlib.contextmanager
def socket_folder(uid: int | None) -> Iterator[Path]:
    """Yield a short-lived folder for a socket that the user ``uid`` can reach."""
    with tempfile.TemporaryDirectory(prefix="pyrsia-build-") as name:
        folder = Path(name)
        # The name is random and the socket itself lets in one user, so passing through is enough.
        folder.chmod(0o700 if uid is None else 0o711)
        yield folder
