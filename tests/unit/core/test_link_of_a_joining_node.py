"""What a core says of methods that need the log, while it has none."""

from __future__ import annotations

from pathlib import Path

from buildpipelines.spec.framing import Failure, Request, encode_answer
from pyrsia_node.core.joining_node import OTHERS
from pyrsia_node.core.link_server import LinkServer

ASKED = Request(7, "search", {})


async def test_methods_that_need_the_log_are_unavailable_for_the_time_being(tmp_path: Path) -> None:
    answer, fatal = await LinkServer(tmp_path / "core.sock", {}, others=OTHERS).answer(ASKED)
    assert (answer, fatal) == (encode_answer(Failure(7, "unavailable", OTHERS)), None)


async def test_methods_that_no_node_has_are_a_fault_of_the_asker(tmp_path: Path) -> None:
    answer, fatal = await LinkServer(tmp_path / "core.sock", {}).answer(ASKED)
    text = "unknown method 'search'; allowed: "
    assert (answer, fatal) == (encode_answer(Failure(7, "invalid", text)), None)
