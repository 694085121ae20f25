"""The audit counts sightings of tags by itself: what a tag is, and to what it moved."""

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
from tests.strategies import image_bodies as image


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> AuditedLog:
    """Import a tag, fail because it moved, import the new image, and the first one again."""
    made = AuditedLog(tmp_path_factory.mktemp("images") / "node")
    local = made.story.local
    members = [one.id for one in local.members]
    for variant in ("", "moving", "new", ""):
        local.now_ms += 1000
        nonce, until = local.chain.tip.height, local.now_ms + 60_000
        body = image.request(members[nonce % 4], variant=variant, nonce=nonce, until=until)
        request, document = local.commit(body).transaction_ids[0], image.document(variant)
        item = image.moved(request) if variant == "moving" else image.seen(request, document)
        batches = [make.batch(m, local.chain.last_seq(m) + 1, item) for m in members[:3]]
        local.commit(*batches)
        view = local.chain.request(request)
        assert view is not None
        if view.is_open:
            local.commit(make.result(members[0], request, document))
    made.publish()
    return made


def outcomes(made: AuditedLog) -> list[str]:
    """Return the kinds of the outcomes about the image."""
    chain = made.story.chain
    found = [json.loads(leaf) for leaf in chain.leaves(2, chain.tip.size)]
    return [
        each["t"]
        for each in found
        if each["t"] in {"accepted", "failed"}
        and str(image.PURL) in (each.get("purl"), each.get("doc", {}).get("purl"))
    ]


def test_a_log_of_a_tag_that_moves_holds(made: AuditedLog) -> None:
    assert outcomes(made) == ["accepted", "failed", "accepted", "accepted"]
    assert said(audited(made.root, made)) == ""


def test_a_cause_that_tells_another_digest_is_found(made: AuditedLog, tmp_path: Path) -> None:
    shutil.copytree(made.root, tmp_path / "copy")
    forged = Forged(made, tmp_path / "copy")
    told = (i for i, leaf in enumerate(forged.leaves) if b'"t":"failed"' in leaf)
    index = max(told)
    causes = json.loads(forged.leaves[index])["causes"]
    causes[0]["moved"] = f"sha256:{image.root('lie')}"
    forged.change(index, causes=causes)
    assert "with another causes" in said(forged.publish())


def test_a_document_with_another_root_than_the_request_pins_is_found(
    made: AuditedLog, tmp_path: Path
) -> None:
    """Even where a quorum signs it: the request of the log tells the root."""
    shutil.copytree(made.root, tmp_path / "copy")
    forged = Forged(made, tmp_path / "copy")
    index = max(i for i, leaf in enumerate(forged.leaves) if b'"kind":"image"' in leaf)
    source = json.loads(forged.leaves[index])["source"]
    other = image.request(made.story.local.members[0].id, variant="other").source
    assert source["sha256"] != other.sha256
    forged.change(index, source=other.to_json())
    assert "verdicts" in said(forged.publish())
