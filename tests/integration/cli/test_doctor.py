"""The doctor names what is wrong and what to do; it changes nothing."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

from click.testing import CliRunner

from consensus.types import Height
from pyrsia_node.cli.doctor import examine
from pyrsia_node.cli.doctor_clock import judge_skew
from pyrsia_node.cli.doctor_votes import GUIDE
from pyrsia_node.cli.findings import Finding
from pyrsia_node.cli.main import cli
from pyrsia_node.core.clock import SystemClock
from pyrsia_node.core.founding import found_network, initialize, join_network
from pyrsia_node.replica.silence import Silence, SilenceFile
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.layout import Layout
from pyrsia_node.schema.maven_repositories import MavenUpstream
from pyrsia_node.schema.sections import (
    BuildSection,
    DataSection,
    HttpSection,
    MavenSection,
    NodeSection,
    P2pSection,
)
from tests.fakes.scripted_pipeline import serving_pipeline


def make_node(
    folder: Path,
    *,
    http_port: int = 0,
    builds: bool = False,
    maven: MavenSection | None = None,
    external: str = "",
) -> Layout:
    config = Config(
        node=NodeSection("north", "authorized"),
        http=HttpSection(port=http_port),
        data=DataSection(host="127.0.0.1", port=0),
        p2p=P2pSection(listen=("/ip4/127.0.0.1/tcp/0",)),
        build=BuildSection(enabled=builds, external=external, external_private=True),
        maven=maven or MavenSection(),
    )
    layout = Layout(folder)
    initialize(layout, config)
    genesis = found_network("devnet-d", [layout.member_record], clock=SystemClock())
    join_network(layout, genesis, [])
    return layout


def findings(layout: Layout, check: str) -> list[Finding]:
    return [finding for finding in examine(layout, SystemClock()) if finding.check == check]


def levels(layout: Layout) -> dict[str, str]:
    worst = {"ok": 0, "warn": 1, "fail": 2}
    found: dict[str, str] = {}
    for finding in examine(layout, SystemClock()):
        before = found.get(finding.check, "ok")
        found[finding.check] = max(before, finding.level, key=worst.__getitem__)
    return found


def test_whole_node_has_nothing_that_keeps_it_from_its_work(tmp_path: Path) -> None:
    layout = make_node(tmp_path / "node", builds=True)
    found = levels(layout)
    assert "fail" not in found.values(), found
    assert {"python", "folders", "keys", "network", "disk", "ports", "clock"} <= found.keys()
    assert {"sandbox", "limits", "worker's user"} <= found.keys()


def test_doctor_says_with_which_jdks_artifacts_are_rebuilt(tmp_path: Path) -> None:
    central = MavenUpstream("central", "https://repository.example/maven2")
    paid = MavenUpstream("paid", "https://user:word@repository.example/paid")
    for name, maven, says in (
        ("nothing", MavenSection(), "not rebuilt here: maven.upstreams names nothing for builds"),
        ("paid", MavenSection(upstreams=(paid,)), "not rebuilt here: maven.upstreams names"),
        ("offline", MavenSection(upstreams=(central,), offline=True), "maven.offline is set"),
        ("node", MavenSection(upstreams=(paid, central)), "artifacts are rebuilt with JDK 17"),
    ):
        [finding] = findings(make_node(tmp_path / name, builds=True, maven=maven), "maven")
        assert finding.level == "ok"
        assert says in finding.found


def test_doctor_says_whether_an_external_pipeline_answers(tmp_path: Path) -> None:
    assert findings(make_node(tmp_path / "none", builds=True), "external pipeline") == []
    with serving_pipeline() as pipeline:
        url = pipeline.url
        layout = make_node(tmp_path / "node", builds=True, external=url)
        [finding] = findings(layout, "external pipeline")
        assert (finding.level, finding.found) == ("ok", f"{url} answers")
    [finding] = findings(layout, "external pipeline")
    assert finding.level == "warn"
    assert finding.found.startswith(f"{url}: the pipeline does not answer")


def test_doctor_changes_nothing(tmp_path: Path) -> None:
    layout = make_node(tmp_path / "node", builds=True)
    (layout.root / "stray").write_text("left by somebody")
    layout.wal.rmdir()

    def everything() -> list[tuple[str, int, int, bytes]]:
        return [
            (
                str(path),
                each.st_mode,
                each.st_mtime_ns,
                path.read_bytes() if path.is_file() else b"",
            )
            for path in sorted(layout.root.rglob("*"))
            for each in [path.lstat()]
        ]

    before = everything()
    examine(layout, SystemClock())
    assert everything() == before


def test_every_finding_that_is_not_ok_says_what_to_do(tmp_path: Path) -> None:
    layout = make_node(tmp_path / "node", builds=True)
    layout.wal.rmdir()
    layout.genesis.unlink()
    for finding in examine(layout, SystemClock()):
        assert (finding.level == "ok") == (not finding.advice), finding


def test_readable_key_fails_with_the_mode_and_the_cure(tmp_path: Path) -> None:
    layout = make_node(tmp_path / "node")
    layout.node_key.chmod(0o644)
    (finding,) = [each for each in findings(layout, "keys") if each.level == "fail"]
    assert "mode 644" in finding.found
    assert f"chmod go-rwx {layout.node_key}" in finding.advice


def test_taken_port_fails_by_number(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        layout = make_node(tmp_path / "node", http_port=port)
        (finding,) = [each for each in findings(layout, "ports") if each.level == "fail"]
    assert finding.found == f"http 127.0.0.1 port {port}: taken"


def test_leftovers_of_a_killed_node_are_named(tmp_path: Path) -> None:
    layout = make_node(tmp_path / "node")
    (layout.run / "core.sock").touch()
    for kept in ("jobs/7", "cache/ab", "contract/6f96"):
        (layout.build_jobs / kept).mkdir(parents=True)
    (finding,) = findings(layout, "leftovers")
    assert (finding.level, finding.found) == ("warn", "core.sock, build job 7")


def test_directory_that_is_no_node_is_examined_all_the_same(tmp_path: Path) -> None:
    found = levels(Layout(tmp_path / "none"))
    assert found["configuration"] == found["folders"] == found["keys"] == "fail"
    assert found["disk"] != "fail"


def test_broken_configuration_is_shown_with_all_its_problems(tmp_path: Path) -> None:
    layout = make_node(tmp_path / "node")
    layout.config.write_text('[node]\nlabel = "A"\nrole = "x"\n')
    (finding,) = findings(layout, "configuration")
    assert finding.level == "fail"
    assert "node.label" in finding.found
    assert "node.role" in finding.found


def test_skew_is_judged_by_what_consensus_tolerates() -> None:
    assert [judge_skew(skew, 3).level for skew in (0.4, -3.0, 11.0)] == ["ok", "warn", "fail"]
    assert judge_skew(-3.0, 3).found == "-3.0 s against the median of 3 peers"


def test_exit_code_and_json_tell_scripts_the_same(tmp_path: Path) -> None:
    layout = make_node(tmp_path / "node")
    arguments = ["doctor", "--data", str(layout.root), "--format", "json"]
    healthy = CliRunner().invoke(cli, arguments)
    assert healthy.exit_code == 0, healthy.output
    layout.node_key.chmod(0o644)
    sick = CliRunner().invoke(cli, arguments)
    assert sick.exit_code == 1
    assert {each["level"] for each in json.loads(sick.output)} >= {"ok", "fail"}


def mark(layout: Layout, **changes: object) -> None:
    silence = replace(Silence(b"k" * 32, "the file is gone", None), **changes)  # type: ignore[arg-type]  # named by each caller
    SilenceFile(layout.wal).write(silence)


def test_silence_of_a_stopped_member_is_shown_with_its_way_back(tmp_path: Path) -> None:
    layout = make_node(tmp_path / "node")
    assert [each.level for each in findings(layout, "votes")] == ["ok"]
    mark(layout)
    (waiting,) = findings(layout, "votes")
    assert (waiting.level, "the file is gone" in waiting.found) == ("warn", True)
    assert "let it run" in waiting.advice
    mark(layout, first_height=Height(9))
    assert "from height 9 on" in findings(layout, "votes")[0].found
    mark(layout, is_doubled=True)
    (doubled,) = findings(layout, "votes")
    assert (doubled.level, "KEY IN USE TWICE" in doubled.found) == ("fail", True)
    assert "rotate" in doubled.advice
    (layout.wal / "silence.json").write_text("rubbish")
    assert findings(layout, "votes")[0].level == "warn"


def test_guide_has_every_section_that_the_doctor_and_the_node_name() -> None:
    guide = (Path(__file__).parents[3] / GUIDE).read_text()
    titles = {line.lstrip("# ") for line in guide.splitlines() if line.startswith("#")}
    assert {
        "A member that lost its votes",
        "The same key on two machines",
        "Continuing by hand",
        "The log has forked",
    } <= titles
