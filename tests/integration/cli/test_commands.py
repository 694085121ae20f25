"""``pyrsia-node`` as people type it: what it makes, what it refuses, and how it says so."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pyrsia_node.cli.data_lock import hold_data_directory
from pyrsia_node.cli.main import cli
from pyrsia_node.core.founding import read_genesis
from pyrsia_node.model.errors import PyrsiaError, UnavailableError
from pyrsia_node.model.members import SignedMember
from pyrsia_node.ports.registry import RepositoryBlob
from pyrsia_node.schema.config import parse_config
from pyrsia_node.schema.exit_codes import exit_code_of
from pyrsia_node.schema.layout import Layout
from pyrsia_node.store.registry_db import SqliteRegistryDb

PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def refused(*arguments: str | Path) -> tuple[int, str]:
    """Run a command that fails; return the exit code and the text that a user would get."""
    result = run(*arguments)
    assert isinstance(result.exception, PyrsiaError), result.output
    return exit_code_of(result.exception), str(result.exception)


def init(folder: Path, label: str, *options: str, role: str = "authorized") -> Layout:
    result = run("init", "--data", folder, "--label", label, "--role", role, *options)
    assert result.exit_code == 0, result.output
    return Layout(folder)


def found(tmp_path: Path, *layouts: Layout, name: str = "devnet-t") -> Path:
    records = [word for layout in layouts for word in ("--member", str(layout.member_record))]
    out = tmp_path / f"{name}.json"
    result = run("network", "init", "--name", name, *records, "--out", out)
    assert result.exit_code == 0, result.output
    assert read_genesis(out).network_id.hex() in result.output
    return out


def test_init_makes_a_whole_private_node(tmp_path: Path) -> None:
    layout = init(tmp_path / "a" / "node", "north")
    for folder, mode in layout.folders():
        assert stat.S_IMODE(folder.stat().st_mode) == mode, folder
    assert stat.S_IMODE(layout.node_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.registry.stat().st_mode) == 0o600
    assert stat.S_IMODE((layout.root / "admin.token").stat().st_mode) == 0o600
    member = SignedMember.decode(layout.member_record.read_bytes())
    assert member.record.label == "north"
    config = parse_config(layout.config.read_text())
    assert config.node.role == "authorized"
    assert config.build.enabled


def test_regular_node_does_not_build(tmp_path: Path) -> None:
    layout = init(tmp_path / "node", "south", "--http-port", "7999", role="regular")
    config = parse_config(layout.config.read_text())
    assert not config.build.enabled
    assert config.http.port == 7999


def test_node_that_does_not_vote_gets_no_next_keys(tmp_path: Path) -> None:
    layout = init(tmp_path / "a", "alice", role="regular")
    code, text = refused("rotate-key", "--data", layout.root)
    assert (code, "alice is a regular node" in text) == (2, True)
    assert not layout.next_key.exists()


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    layout = init(tmp_path / "node", "north")
    before = {path: path.read_bytes() for path in layout.root.rglob("*") if path.is_file()}
    code, text = refused("init", "--data", layout.root, "--label", "b", "--role", "regular")
    assert code == 2
    assert "holds a node already" in text
    assert {path: path.read_bytes() for path in before} == before


def test_init_refuses_a_folder_in_use_and_an_unfinished_node(tmp_path: Path) -> None:
    used = tmp_path / "used"
    used.mkdir()
    (used / "photo.jpg").touch()
    assert "is not empty" in refused("init", "--data", used, "--label", "a", "--role", "regular")[1]
    layout = init(tmp_path / "node", "north")
    layout.config.unlink()  # as if the power had gone just before the last step
    text = refused("init", "--data", layout.root, "--label", "a", "--role", "regular")[1]
    assert "cut short" in text


def test_init_takes_an_empty_volume(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    (volume / "lost+found").mkdir(parents=True)
    assert init(volume, "north").config.exists()


def test_init_explains_a_label_that_is_not_allowed(tmp_path: Path) -> None:
    code, text = refused("init", "--data", tmp_path / "n", "--label", "N!", "--role", "regular")
    assert code == 2
    assert 'node.label = "N!"; allowed: 1 to 64 characters' in text
    assert not (tmp_path / "n").exists()


def test_join_brings_a_node_into_the_network_and_keeps_the_operators_comments(
    tmp_path: Path,
) -> None:
    member, other = init(tmp_path / "a", "a"), init(tmp_path / "b", "b", role="regular")
    genesis = found(tmp_path, member)
    other.config.write_text("# mine\n" + other.config.read_text())
    first = f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}"
    second = f"/ip4/127.0.0.1/tcp/2/p2p/{PEER}"
    result = run("join", genesis, "--peer", first, "--data", other.root)
    assert result.exit_code == 0, result.output
    assert read_genesis(genesis).network_id.hex() in result.output
    run("join", genesis, "--peer", first, "--peer", second, "--data", other.root)
    text = other.config.read_text()
    assert text.startswith("# mine\n")
    assert parse_config(text).p2p.bootstrap == (first, second)
    assert other.genesis.read_bytes() == genesis.read_bytes()


def test_join_copes_with_a_bootstrap_list_over_several_lines(tmp_path: Path) -> None:
    member, other = init(tmp_path / "a", "a"), init(tmp_path / "b", "b", role="regular")
    old = f"/ip4/127.0.0.1/tcp/9/p2p/{PEER}"
    text = other.config.read_text().replace("bootstrap = []", f'bootstrap = [\n  "{old}",\n]')
    other.config.write_text(text)
    new = f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}"
    assert run("join", found(tmp_path, member), "--peer", new, "--data", other.root).exit_code == 0
    assert parse_config(other.config.read_text()).p2p.bootstrap == (old, new)


def test_node_of_one_network_refuses_another_and_names_both(tmp_path: Path) -> None:
    a, b = init(tmp_path / "a", "a"), init(tmp_path / "b", "b")
    ours, theirs = found(tmp_path, a, name="devnet-x"), found(tmp_path, b, name="devnet-y")
    assert run("join", ours, "--data", a.root).exit_code == 0
    code, text = refused("join", theirs, "--data", a.root)
    assert code == 2
    assert read_genesis(ours).network_id.hex() in text
    assert read_genesis(theirs).network_id.hex() in text
    assert a.genesis.read_bytes() == ours.read_bytes()


def test_tampered_genesis_fails_verification(tmp_path: Path) -> None:
    layout = init(tmp_path / "a", "a")
    genesis = found(tmp_path, layout)
    document = json.loads(genesis.read_text())
    document["members"][0]["label"] = "b"
    genesis.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")))
    code, text = refused("join", genesis, "--data", layout.root)
    assert code == 3
    assert "signature" in text


@pytest.mark.parametrize("peer", ["127.0.0.1:44000", "/ip4/127.0.0.1/tcp/1", "/ip4/x/tcp/1"])
def test_peer_address_out_of_form_is_explained(tmp_path: Path, peer: str) -> None:
    layout = init(tmp_path / "a", "a")
    code, text = refused("join", found(tmp_path, layout), "--peer", peer, "--data", layout.root)
    assert code == 2
    assert peer in text
    assert "/p2p/PEER" in text
    assert not layout.genesis.exists()


def test_faults_are_refused_where_the_network_is_no_devnet(tmp_path: Path) -> None:
    layout = init(tmp_path / "a", "a")
    edited = _switch(layout.config.read_text(), "[fault]", "enabled = false", "enabled = true")
    layout.config.write_text(edited)
    code, message = refused("join", found(tmp_path, layout, name="public"), "--data", layout.root)
    assert code == 2
    assert "fault.enabled = true" in message


def _switch(text: str, section: str, old: str, new: str) -> str:
    before, header, after = text.partition(section)
    return before + header + after.replace(old, new, 1)


def test_network_init_overwrites_nothing_and_names_a_bad_record(tmp_path: Path) -> None:
    layout = init(tmp_path / "a", "a")
    out = found(tmp_path, layout)
    record = str(layout.member_record)
    code, text = refused("network", "init", "--name", "n", "--member", record, "--out", out)
    assert (code, "never overwritten" in text) == (2, True)
    bad = tmp_path / "bad.record"
    bad.write_text("{}")
    text = refused("network", "init", "--name", "n", "--member", bad, "--out", tmp_path / "o")[1]
    assert str(bad) in text
    code, text = refused(
        "network", "init", "--name", "n", "--member", record, "--member", record, "--out", "o"
    )
    assert code == 2


@pytest.mark.parametrize(
    ("lost", "command"),
    [
        ("node.toml", "pyrsia-node init"),
        ("genesis.json", "pyrsia-node join"),
        ("keys/node.key", "pyrsia-node init"),
        ("wal", "pyrsia-node init"),
    ],
)
def test_run_refuses_what_is_missing_and_names_what_makes_it(
    tmp_path: Path, lost: str, command: str
) -> None:
    layout = init(tmp_path / "a", "a")
    run("join", found(tmp_path, layout), "--data", layout.root)
    path = layout.root / lost
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    code, text = refused("run", "--data", layout.root)
    assert code == 4
    assert str(path) in text
    assert command in text


def test_run_refuses_a_key_that_others_can_read(tmp_path: Path) -> None:
    layout = init(tmp_path / "a", "a")
    run("join", found(tmp_path, layout), "--data", layout.root)
    layout.node_key.chmod(0o640)
    code, text = refused("run", "--data", layout.root)
    assert code == 2
    assert f"chmod 600 {layout.node_key}" in text


def test_second_user_of_a_data_directory_is_told_the_first(tmp_path: Path) -> None:
    layout = init(tmp_path / "a", "a")
    run("join", found(tmp_path, layout), "--data", layout.root)
    with hold_data_directory(layout):
        code, text = refused("fsck", "--data", layout.root)
    assert code == 5
    assert f"in use by process {os.getpid()}" in text
    assert run("fsck", "--data", layout.root).exit_code == 0


def test_lock_is_given_back_when_its_holder_is_killed(tmp_path: Path) -> None:
    layout = init(tmp_path / "a", "a")
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from pyrsia_node.cli.data_lock import hold_data_directory\n"
        "from pyrsia_node.schema.layout import Layout\n"
        "with hold_data_directory(Layout(Path(sys.argv[1]))):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, layout.root], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UnavailableError, match=f"process {holder.pid}"),
            hold_data_directory(layout),
        ):
            pass
        holder.kill()
        holder.wait()
        with hold_data_directory(layout):
            pass


def test_fsck_and_reindex_of_a_fresh_node_find_nothing_wrong(tmp_path: Path) -> None:
    layout = init(tmp_path / "a", "a")
    run("join", found(tmp_path, layout), "--data", layout.root)
    assert run("reindex", "--data", layout.root).exit_code == 0
    result = run("fsck", "--data", layout.root)
    assert result.exit_code == 0, result.output
    assert "nothing is wrong" in result.output


def test_fsck_names_pushed_blobs_that_were_changed_or_lost(tmp_path: Path) -> None:
    layout = init(tmp_path / "a", "a")
    run("join", found(tmp_path, layout), "--data", layout.root)
    sha256 = "ab" * 32
    path = layout.blobs / "local" / sha256[:2] / sha256
    path.parent.mkdir(parents=True)
    path.write_bytes(b"evil")
    db = SqliteRegistryDb(layout.registry)
    db.add_blob("team/app", RepositoryBlob(f"sha256:{sha256}", sha256, 4), now_ms=1)
    db.close()
    assert run("fsck", "--data", layout.root).exit_code == 0
    result = run("fsck", "--bytes", "--data", layout.root)
    assert result.exit_code != 0
    assert str(path) in result.output
    assert f"sha256:{sha256} of team/app has no bytes" in result.output
    assert not path.exists()


def test_fsck_names_a_damaged_memory_of_maven_and_puts_it_aside_when_repairing(
    tmp_path: Path,
) -> None:
    layout = init(tmp_path / "a", "a")
    run("join", found(tmp_path, layout), "--data", layout.root)
    layout.maven.write_bytes(b"no database" * 100)
    result = run("fsck", "--data", layout.root)
    assert result.exit_code == 6
    assert f"{layout.maven}: file is not a database; repair: pyrsia-node fsck" in result.output
    assert layout.maven.exists()
    assert run("fsck", "--repair", "--data", layout.root).exit_code == 0
    assert layout.maven.with_name("maven.sqlite.damaged").exists()
    assert not layout.maven.exists()


def program(*arguments: str, flags: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, "-m", "pyrsia_node.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_errors_become_one_line_and_an_exit_code(tmp_path: Path) -> None:
    done = program("run", "--data", str(tmp_path / "none"))
    assert done.returncode == 4
    assert done.stderr.startswith("pyrsia-node: ")
    assert done.stderr.count("\n") == 1
    assert program("run", "--prot").returncode == 2


def test_command_refuses_to_run_without_assertions() -> None:
    done = program("--help", flags=["-O"])
    assert done.returncode == 2
    assert "python -O" in done.stderr
