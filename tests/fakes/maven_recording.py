"""Records every request that Maven makes, for a replay without a Java machine.

``python -m tests.fakes.maven_recording > tests/vectors/maven/maven-requests.json`` runs Maven with
empty local repositories against Debian's repository: a build, a version range, a goal by its
prefix, a plugin's download, and a deployment, which a repository of ours refuses.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from pyrsia_node.devnet.maven_repository import Asked, debian_repository, serve_repository
from tests.fakes.maven_project import make_project, run_maven

KEPT_HEADERS = frozenset({"accept", "accept-encoding", "cache-control", "pragma"})
RANGE = "commons-io:commons-io:[2.0,3.0)"
GET = ("dependency:get", "-Dartifact=commons-cli:commons-cli:1.5.0", "-Dtransitive=false")


def record(folder: Path) -> list[Asked]:
    """Run Maven's ways of asking one after the other; return all requests."""
    with serve_repository(debian_repository()) as repository:
        plain = make_project(folder / "plain", "commons-io:commons-io:2.11.0")
        ranged = make_project(folder / "ranged", RANGE)
        run_maven(plain, repository.url, folder / "one", "package")
        run_maven(ranged, repository.url, folder / "one", "-U", "compile")
        run_maven(plain, repository.url, folder / "one", *GET)
        run_maven(plain, repository.url, folder / "one", "source:jar-no-fork")
        target = f"-DaltDeploymentRepository=node::{repository.url}"
        run_maven(plain, repository.url, folder / "one", "deploy", target)
        return list(repository.asked)


def main() -> None:
    """Write the recording, one request a line."""
    maven = subprocess.run(["mvn", "-v"], capture_output=True, text=True, check=True).stdout
    sys.stderr.write(maven)
    with tempfile.TemporaryDirectory() as folder:
        asked = record(Path(folder))
    shared = {name: value for name, value in asked[0].headers.items() if name in KEPT_HEADERS}
    lines = [json.dumps({"headers": shared})]
    for each in asked:
        own = {k: v for k, v in each.headers.items() if k in KEPT_HEADERS and shared.get(k) != v}
        row: list[object] = [each.method, each.path, each.status]
        lines.append(json.dumps([*row, own] if own else row))
    print("[\n" + ",\n".join(lines) + "\n]")  # noqa: T201 - it is what is asked for


if __name__ == "__main__":
    main()
