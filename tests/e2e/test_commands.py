"""The pyrsia command against a live network: what it prints, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from pyrsia_node.devnet.ports import free_ports
from tests.e2e.walking import SIX, Walking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.xdist_group("walking"),
]

INVALID, VERIFICATION, NOT_FOUND, UNAVAILABLE = 2, 3, 4, 5


def test_status_and_list_show_the_network(walking: Walking) -> None:
    assert "Connection successful" in walking.pyrsia("ping").ok().out
    status = walking.pyrsia("status", "--format", "json").json()
    assert (status["n"], status["f"], status["q"]) == (4, 1, 3)
    assert {member["label"] for member in status["set"]} == {f"authorized-{n}" for n in range(1, 5)}
    peers = walking.pyrsia("list", "--format", "csv").ok().out
    rows = list(csv.DictReader(io.StringIO(peers)))
    assert {row["label"] for row in rows} >= {f"authorized-{n}" for n in range(1, 5)}


def test_log_tells_the_whole_story_of_a_package_with_proofs(walking: Walking) -> None:
    found = walking.pyrsia("inspect-log", "pypi", f"six=={SIX}", "--format", "json").json()
    assert found["complete"] is True
    kinds = [entry["type"] for entry in found["entries"]]
    assert kinds[0] == "build_request"
    assert kinds.count("accepted") == 1
    accepted = next(entry for entry in found["entries"] if entry["type"] == "accepted")
    leaf = accepted["leaf"]
    assert len(leaf["attestors"]) >= 3
    assert not leaf["differ"]
    served = {(each["filename"], each["hashes"]["sha256"]) for each in walking.page()["files"]}
    assert served == {(each["name"], each["sha256"]) for each in leaf["doc"]["files"]}


def test_search_finds_by_name_digest_and_status(walking: Walking) -> None:
    digest = walking.wheel()["hashes"]["sha256"]
    for query in (f"sha256:{digest}", f"pkg:pypi/six@{SIX} status:accepted"):
        hits = walking.pyrsia("search", *query.split(), "--format", "json").json()["hits"]
        assert any(hit["type"] == "accepted" for hit in hits), query
    nothing = walking.pyrsia("search", "nobody-built-this", "--format", "json").json()
    assert nothing["hits"] == []


def test_log_of_a_live_network_is_searched_browsed_and_watched(
    walking: Walking, tmp_path: Path
) -> None:
    # Who built it is known from batches, who asked from the request: one build answers to all.
    query = f"pkg:pypi/six@{SIX} builder:authorized-2 status:accepted since:2000-01-01"
    found = walking.pyrsia("search", *query.split(), "--proof", "--format", "json").json()
    (hit,) = found["hits"]
    height, index = str(hit["block"]["height"]), str(hit["index"])
    blocks = walking.pyrsia("log", "list", "--top", height, "--format", "csv").ok().out
    assert next(csv.DictReader(io.StringIO(blocks)))["height"] == height
    entries = walking.pyrsia("log", "show", height, "--format", "json").json()["entries"]
    assert hit["index"] in {entry["index"] for entry in entries}
    assert walking.pyrsia("log", "show", "--entry", index).json() == hit["leaf"]
    state = tmp_path / "watch.json"
    words = ("watch", "pkg:pypi/six", "--state", str(state), "--until-caught-up")
    events = walking.pyrsia(*words, "--from", index).ok().out.splitlines()
    assert json.loads(events[0])["index"] == hit["index"]
    assert not walking.pyrsia(*words).ok().out
    wrong = walking.pyrsia("search", f"pkg:pypi/six@{SIX}", "(dep:six")
    assert wrong.code == INVALID
    assert wrong.err.splitlines()[-1] == " " * len(f"  pkg:pypi/six@{SIX} ") + "^"


def test_file_is_verified_offline_and_a_changed_one_is_refused(
    walking: Walking, tmp_path: Path
) -> None:
    wheel = walking.wheel()
    path = "/pypi/files/{}/{}".format(wheel["hashes"]["sha256"], wheel["filename"])
    file, bundle = tmp_path / wheel["filename"], tmp_path / "six.tlog-proof"
    file.write_bytes(walking.get(path).content)
    bundle.write_bytes(walking.get(f"{path}.tlog-proof").content)
    closed = tmp_path / "nowhere.toml"
    closed.write_text(f"port = {free_ports(1)[0]}\n")
    words = [str(file), "--bundle", str(bundle), "--trust", walking.cluster.plan.trust]
    offline = {"PYRSIA_CONFIG": str(closed)}
    row = walking.pyrsia("verify", *words, "--format", "json", **offline).json()
    assert row["purl"] == f"pkg:pypi/six@{SIX}"
    assert len(row["cosigned_by"]) >= 3
    with file.open("ab") as changed:
        changed.write(b"!")
    assert walking.pyrsia("verify", *words, **offline).code == VERIFICATION
    stranger = tmp_path / "stranger.trust"
    stranger.write_text("no trust file\n")
    words[-1] = str(stranger)
    assert walking.pyrsia("verify", *words, **offline).code in {INVALID, VERIFICATION}


def test_exit_codes_tell_what_was_wrong(walking: Walking, tmp_path: Path) -> None:
    assert walking.pyrsia("build", "pypi", "six").code == INVALID
    missing = walking.pyrsia("build", "status", "--id", "b-0000000000000000")
    assert missing.code == NOT_FOUND
    assert "b-0000000000000000" in missing.err
    closed = tmp_path / "nowhere.toml"
    closed.write_text(f"port = {free_ports(1)[0]}\n")
    assert walking.pyrsia("ping", PYRSIA_CONFIG=str(closed)).code == UNAVAILABLE


def test_build_of_a_version_that_does_not_exist_is_refused_with_the_reason(
    walking: Walking,
) -> None:
    done = walking.pyrsia("build", "pypi", "six==0.0.1.dev77", "--format", "json")
    assert done.code == 1
    assert '"refused"' in done.out
    assert "0.0.1.dev77" in done.out


def test_build_without_the_admin_token_is_refused(walking: Walking, tmp_path: Path) -> None:
    port = walking.url.rpartition(":")[2]
    bare = tmp_path / "bare.toml"
    bare.write_text(f"port = {port}\n")
    done = walking.pyrsia("build", "pypi", f"six=={SIX}", PYRSIA_CONFIG=str(bare))
    assert done.code == INVALID
    assert "token" in done.err


def test_configure_pip_points_pip_at_the_node_and_back(walking: Walking, tmp_path: Path) -> None:
    file = tmp_path / "pip.conf"
    before = "[global]\ntimeout = 20\n"
    file.write_text(before)
    settings = {"PIP_CONFIG_FILE": str(file)}
    walking.pyrsia("configure", "pip", **settings).ok()
    assert walking.index in file.read_text()
    once = file.read_text()
    walking.pyrsia("configure", "pip", **settings).ok()
    assert file.read_text() == once
    words = ["-m", "pip", "download", "--no-cache-dir", "--dest", tmp_path / "files", "six"]
    walking.run([sys.executable, *words], environment=settings).ok()
    walking.pyrsia("configure", "pip", "--remove", **settings).ok()
    assert file.read_text() == before
