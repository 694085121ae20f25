"""The audit counts by itself what a build claims, and who approved where its source is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pyrsia_node.model.documents import Document
from pyrsia_node.model.mappings import SourceMapping
from tests.fakes.audited_log import AuditedLog
from tests.integration.audit.test_audit_names_what_was_tampered_with import (
    Forged,
    audited,
    said,
)
from tests.strategies import build_bodies as make
from tests.strategies import maven_bodies as maven

REBUILT, EXTERNAL = maven.document(), maven.document(claim="external")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> AuditedLog:
    """Map a source; accept a rebuild; offer its document to an external request; accept that."""
    made = AuditedLog(tmp_path_factory.mktemp("claims") / "node")
    local = made.story.local
    members = [one.id for one in local.members]
    statement = maven.add_source(members[0])
    back = maven.add_source(members[1], SourceMapping(statement.mapping.pattern, ""))
    for each in (statement, back):
        local.now_ms += 1000
        local.commit(*local.approved(each))

    def answered(claim: str, *documents: Document) -> None:
        local.now_ms += 1000
        nonce = local.chain.tip.height
        body = maven.request(members[0], claim=claim, nonce=nonce)
        request = local.commit(body).transaction_ids[0]
        for document in documents:
            item = make.built(request, document)
            local.commit(*(make.batch(m, local.chain.last_seq(m) + 1, item) for m in members[:3]))
        local.commit(make.result(members[0], request, documents[-1]))

    answered("rebuilt", REBUILT)
    # The log has the rebuilt document already; a quorum that names it here gets nothing by it.
    answered("external", REBUILT, EXTERNAL)
    made.publish()
    return made


def test_a_log_with_every_claim_and_a_mapping_holds(made: AuditedLog) -> None:
    chain = made.story.chain
    leaves = [json.loads(leaf) for leaf in chain.leaves(2, chain.tip.size)]
    accepted = [each for each in leaves if each["t"] == "accepted"]
    claims = [{file["claim"] for file in each["doc"]["files"]} for each in accepted]
    assert claims[-2:] == [{"rebuilt", "mirrored"}, {"external", "mirrored"}]
    report = audited(made.root, made)
    assert said(report) == ""
    assert report.facts["add_source"] == 2


def test_a_rebuilt_document_as_the_answer_to_an_external_request_is_found(
    made: AuditedLog, tmp_path: Path
) -> None:
    shutil.copytree(made.root, tmp_path / "copy")
    forged = Forged(made, tmp_path / "copy")
    index = max(i for i, leaf in enumerate(forged.leaves) if b'"claim":"rebuilt","class"' in leaf)
    request = json.loads(forged.leaves[index])
    assert request["t"] == "build_request"
    forged.change(index, claim="external", source=maven.source("mapping").to_json())
    assert "verdicts" in said(forged.publish())


@pytest.mark.parametrize("change", [{"tag": "thief-{version}"}, {"reason": "another"}])
def test_a_mapping_that_nobody_approved_is_found(
    made: AuditedLog, tmp_path: Path, change: dict[str, str]
) -> None:
    shutil.copytree(made.root, tmp_path / "copy")
    forged = Forged(made, tmp_path / "copy")
    index = forged.find("add_source")
    forged.change(index, **change)
    found = said(forged.publish())
    assert f"leaf {index}: add_source has the approvals of 0 members" in found
