"""``pyrsia audit``: a real log over real HTTP, a folder, and what the exit codes say."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.trust import TrustFile
from tests.fakes.audited_log import AuditedLog
from tests.strategies.small_logs import cosigned

PYRSIA = Path(sys.executable).with_name("pyrsia")
OK, INVALID, CONTRADICTED, NOT_FOUND, UNAVAILABLE = 0, 2, 3, 4, 5


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> AuditedLog:
    return AuditedLog(tmp_path_factory.mktemp("audited") / "node")


@pytest.fixture
def address(made: AuditedLog) -> Iterator[str]:
    """The log behind a static file server: what any mirror could offer."""
    handler = functools.partial(Quiet, directory=str(made.root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def run(
    *arguments: str | Path, settings: Path = Path("none.toml")
) -> subprocess.CompletedProcess[str]:
    command = [str(PYRSIA), "audit", *map(str, arguments)]
    env = {**os.environ, "PYRSIA_CONFIG": str(settings)}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)


def test_a_folder_is_audited_with_its_index(made: AuditedLog) -> None:
    done = run(made.root, "--network-id", made.network_id.hex(), "--strict", "--format", "json")
    assert done.returncode == OK, done.stderr + done.stdout
    document = json.loads(done.stdout)
    assert document["holds"] is True
    assert document["checked"]["index"] > 5
    assert document["checked"]["execution"] == document["height"]


def test_a_log_behind_http_is_audited_and_the_lack_of_an_index_is_told(
    made: AuditedLog, address: str
) -> None:
    done = run(address, "--network-id", made.network_id.hex())
    assert done.returncode == OK, done.stderr + done.stdout
    assert "not checked  index: only a data directory has one" in done.stdout
    assert done.stdout.endswith("holds\n")
    assert re.search(r"^heads +0 +none ", done.stdout, re.MULTILINE)
    assert run(address + "/log/", "--strict").returncode == UNAVAILABLE


def test_what_is_tampered_with_ends_with_three(made: AuditedLog, tmp_path: Path) -> None:
    shutil.copytree(made.root, tmp_path / "copy")
    (path,) = (tmp_path / "copy/log/tile/0").glob("*/*")
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    done = run(tmp_path / "copy")
    assert done.returncode == CONTRADICTED, done.stderr + done.stdout
    assert "contradiction  tree: tile/0/000.p/" in done.stdout
    assert "does not hold" in done.stdout


def test_the_genesis_of_another_network_ends_with_three(made: AuditedLog) -> None:
    done = run(made.root, "--network-id", "00" * 32)
    assert done.returncode == CONTRADICTED
    assert "the genesis is of network" in done.stdout


def test_a_trust_file_names_the_network(made: AuditedLog, tmp_path: Path) -> None:
    genesis = made.story.local.genesis.encode()
    (tmp_path / "net.trust").write_bytes(TrustFile(genesis).encode())
    assert run(made.root, "--trust", tmp_path / "net.trust").returncode == OK
    both = run(made.root, "--trust", tmp_path / "net.trust", "--network-id", "00" * 32)
    assert both.returncode == INVALID
    assert "not 0000" in both.stderr


def test_the_configured_trust_file_names_the_network_unless_another_is_given(
    made: AuditedLog, tmp_path: Path
) -> None:
    genesis = made.story.local.genesis.encode()
    trust, settings = tmp_path / "net.trust", tmp_path / "pyrsia.toml"
    trust.write_bytes(TrustFile(genesis).encode())
    settings.write_text(f"trust = '{trust}'\n")
    shutil.copy(made.log / "checkpoint", tmp_path / "net.trust.head")
    done = run(made.root, "--format", "json", settings=settings)
    assert done.returncode == OK, done.stderr + done.stdout
    found = json.loads(done.stdout)
    assert (found["genesis_is_given"], found["checked"]["heads"]) == (True, 1)
    other = run(made.root, "--network-id", "00" * 32, settings=settings)
    assert other.returncode == CONTRADICTED
    trust.write_text("vm.swappiness = 1")
    wrong = run(made.root, settings=settings)
    assert wrong.returncode == INVALID
    assert str(trust) in wrong.stderr


def test_heads_seen_before_are_given_by_file_or_lie_beside_the_trust_file(
    made: AuditedLog, tmp_path: Path
) -> None:
    (tmp_path / "net.trust").write_bytes(TrustFile(made.story.local.genesis.encode()).encode())
    shutil.copy(made.log / "checkpoint", tmp_path / "net.trust.head")
    shutil.copy(made.log / "checkpoint", tmp_path / "elsewhere")
    trust = ("--trust", tmp_path / "net.trust", "--format", "json")
    done = run(made.root, *trust, "--head", tmp_path / "elsewhere")
    assert done.returncode == OK, done.stderr + done.stdout
    assert json.loads(done.stdout)["checked"]["heads"] == 2
    members = made.story.local.members
    lie = Checkpoint(made.story.local.genesis.origin, made.story.chain.tip.size, bytes(32))
    lines = tuple(cosigned(lie, member) for member in members)
    (tmp_path / "net.trust.head").write_bytes(SignedCheckpoint(lie, lines).encode())
    done = run(made.root, *trust)
    assert done.returncode == CONTRADICTED
    (found,) = json.loads(done.stdout)["contradictions"]
    assert found["place"] == str(tmp_path / "net.trust.head")
    (tmp_path / "elsewhere").write_text("no checkpoint")
    refused = run(made.root, "--head", tmp_path / "elsewhere")
    assert refused.returncode == INVALID
    assert "is no checkpoint" in refused.stderr


def test_what_cannot_be_read_is_no_contradiction(tmp_path: Path, address: str) -> None:
    assert run(tmp_path).returncode == NOT_FOUND
    assert run("http://127.0.0.1:9/").returncode == UNAVAILABLE
    assert run(address, "--network-id", "xyz").returncode == INVALID
    assert run("http://").returncode == INVALID


def test_what_is_handed_on_is_taught_by_the_name_that_was_typed() -> None:
    shown = " ".join(run("-h").stdout.split())
    assert shown.startswith("Usage: pyrsia audit [OPTIONS] URL|DIR Derive")
    assert "`pyrsia audit` takes that of `pyrsia config trust`" in shown
    own = subprocess.run(
        [PYRSIA.with_name("pyrsia-node"), "audit", "-h"], capture_output=True, text=True, check=True
    )
    assert own.stdout.startswith("Usage: pyrsia-node audit [OPTIONS] URL|DIR\n")
