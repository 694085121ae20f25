"""Where a job keeps its files: one folder a job, removed with it.

``<work>/jobs/<job>/`` holds ``log.txt``, ``out/`` and ``upstream/`` (files for the node to adopt)
and, while the job runs, ``tmp/``. Files are readable by the node, which may run as another user.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "pyrsia-build-"


class Workspace:
    """The folders of all jobs of one worker."""

    def __init__(self, work: Path) -> None:
        """Create what is missing and remove the jobs of an earlier life: nobody asks for them."""
        self.cache = work / "cache"
        self._jobs = work / "jobs"
        work.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._jobs, ignore_errors=True)
        _remove_abandoned_folders()
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
def socket_folder(job: JobFolder, uid: int | None) -> Iterator[Path]:
    """Yield a short-lived folder for a socket that the sandbox's user can reach.

    Where that is our own user (``uid`` is None) it is the job's own temporary folder. Another
    user could not pass through the work folder, so he gets one in the system's.
    """
    if uid is None:
        yield job.temporary
        return
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as name:
        folder = Path(name)
        # The name is random and the socket itself lets in one user, so passing through is enough.
        folder.chmod(0o711)
        yield folder


def _remove_abandoned_folders() -> None:
    """Remove the socket folders of workers that were killed; their names hold the worker's pid."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(folder)
