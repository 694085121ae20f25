"""The audit counts promises and openings of sealed requests by itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.fakes.audited_log import AuditedLog
from tests.integration.audit.test_audit_names_what_was_tampered_with import (
    Forged,
    audited,
    said,
)
from tests.strategies import build_bodies as make
from tests.strategies.small_logs import document, wheel

SEALED = document("pkg:pypi/sealed@1", wheel("sealed-1-py3-none-any.whl", b"sealed"))
SILENT_MS = 600_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> AuditedLog:
    """Three promise and show, one is waited for in vain; another request has one promise."""
    made = AuditedLog(tmp_path_factory.mktemp("sealed") / "node")
    story, local = made.story, made.story.local
    network, members = made.network_id, [one.id for one in local.members]
    local.now_ms += 1000
    local.commit(*local.set_param("sealed", 1))
    good, lonely = story.ask("pkg:pypi/sealed@1"), story.ask("pkg:pypi/lonely@1")
    items = [make.salted(make.built(good, SEALED), number) for number in range(3)]
    promises = [make.commit(members[each], items[each], network) for each in range(3)]
    one = make.commit(members[0], make.salted(make.failed(lonely)), network)
    local.now_ms += 1000
    local.commit(*promises, one)
    local.now_ms = local.chain.due_ms() or 0
    local.commit()
    story.answer(items)
    story._commit(make.result(members[0], good, SEALED))
    local.now_ms += SILENT_MS
    local.commit()
    made.publish()
    return made


def test_a_log_with_sealed_requests_holds(made: AuditedLog) -> None:
    report = audited(made.root, made)
    assert said(report) == ""
    kinds = [
        json.loads(leaf)["t"] for leaf in made.story.chain.leaves(2, made.story.chain.tip.size)
    ]
    assert kinds.count("unsealed") == 1
    assert kinds[-1] == "expired"


def test_a_promise_that_nobody_made_is_found(made: AuditedLog, tmp_path: Path) -> None:
    shutil.copytree(made.root, tmp_path / "copy")
    forged = Forged(made, tmp_path / "copy")
    index = forged.find("unsealed")
    forged.change(index, committed=[one.id for one in made.story.local.members])
    assert "with another committed" in said(forged.publish())


def test_an_item_that_was_not_promised_is_found(made: AuditedLog, tmp_path: Path) -> None:
    shutil.copytree(made.root, tmp_path / "copy")
    forged = Forged(made, tmp_path / "copy")
    index = max(i for i, leaf in enumerate(forged.leaves) if b'"t":"attest_batch"' in leaf)
    items = json.loads(forged.leaves[index])["items"]
    forged.change(index, items=[{**items[0], "level": 2}])
    voter = json.loads(forged.leaves[index])["voter"]
    assert f"{voter} shows what it did not promise" in said(forged.publish())
