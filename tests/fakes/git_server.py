"""Git repositories for tests: commits with links, submodules, executables, annotated tags, times.

The server itself is the one of development networks (``pyrsia_node.devnet.git_server``).
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from pyrsia_node.devnet.git_server import GitServer, run_git

COMMIT_TIME_S = 1_700_000_000
_WHO = "Tests <tests@example.test>"


def repository_url(server: GitServer, name: str) -> str:
    """Return the address of a repository as builds name it."""
    return f"git+{server.url}/{name}"


def make_commit(
    target: Path,
    files: Mapping[str, bytes],
    tag: str,
    *,
    modes: Mapping[str, str] | None = None,
    time_s: int = COMMIT_TIME_S,
    is_annotated: bool = False,
) -> str:
    """Add a commit of exactly these files, and its tag, to a bare repository; return its id.

    ``files`` has contents by path; of a link (mode 120000) its target, of a submodule (160000) its
    commit. The repository is made if it is not there; a tag that is there is moved.
    """
    if not target.exists():
        run_git("init", "--quiet", "--bare", str(target))
    stamp = f"{_WHO} {time_s} +0000"
    lines = [
        f"commit refs/heads/main\nmark :1\nauthor {stamp}\ncommitter {stamp}\n".encode(),
        b"data 8\nrelease\n\ndeleteall\n",
    ]
    for name, content in sorted(files.items()):
        mode = (modes or {}).get(name, "100644")
        quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
        if mode == "160000":
            lines.append(f"M {mode} {content.decode()} {quoted}\n".encode())
        else:
            lines.append(f"M {mode} inline {quoted}\ndata {len(content)}\n".encode() + content)
            lines.append(b"\n")
    if is_annotated:
        lines.append(f"tag {tag}\nfrom :1\ntagger {stamp}\ndata 8\nrelease\n\n".encode())
    else:
        lines.append(f"reset refs/tags/{tag}\nfrom :1\n\n".encode())
    _feed(target, ["fast-import", "--quiet", "--force"], b"".join(lines))
    return run_git("--git-dir", str(target), "rev-parse", "refs/heads/main").strip()


def commit_object(target: Path, tree: bytes, tag: str) -> str:
    """Tag a commit whose tree is these very bytes, which no client would write; return its id."""
    if not target.exists():
        run_git("init", "--quiet", "--bare", str(target))
    literally = ["hash-object", "-w", "--literally", "--stdin", "-t"]
    tree_id = _feed(target, [*literally, "tree"], tree)
    stamp = f"{_WHO} {COMMIT_TIME_S} +0000"
    commit = f"tree {tree_id}\nauthor {stamp}\ncommitter {stamp}\n\nrelease\n"
    commit_id = _feed(target, [*literally, "commit"], commit.encode())
    run_git("--git-dir", str(target), "update-ref", f"refs/tags/{tag}", commit_id)
    return commit_id


def _feed(target: Path, words: list[str], data: bytes) -> str:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", "--git-dir", str(target), *words],
        input=data,
        capture_output=True,
        check=True,
        env=environment,
    )
    return done.stdout.decode().strip()
