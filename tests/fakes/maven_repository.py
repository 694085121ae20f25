"""Debian's Maven repository as an upstream, and the server it stands on, for tests.

``python -m tests.fakes.maven_repository --port 8081 [FOLDER...]`` runs it until it is ended.
"""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from pyrsia_node.devnet.maven_repository import (
    Asked,
    MavenRepository,
    debian_repository,
    serve_repository,
)

__all__ = ["Asked", "MavenRepository", "debian_repository", "serve_repository"]


def main() -> None:
    """Run Debian's repository, behind the folders that are named."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    repository = debian_repository(*given.folders)
    repository.url = f"http://127.0.0.1:{given.port}/maven2"
    with serve_repository(repository):
        print(repository.url, flush=True)  # noqa: T201 - it is what the caller waits for
        threading.Event().wait()


if __name__ == "__main__":
    main()
