"""The git server of development networks, where tests look for it."""

from __future__ import annotations

from pyrsia_node.devnet.git_server import (
    COMMIT_TIME_S,
    GitServer,
    make_repository,
    make_repository_of,
    serve_git,
)

__all__ = ["COMMIT_TIME_S", "GitServer", "make_repository", "make_repository_of", "serve_git"]
