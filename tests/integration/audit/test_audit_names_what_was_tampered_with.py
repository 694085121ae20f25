"""Every kind of published file, damaged one at a time: the audit says which, and why."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from consensus.quorum import quorum
from pyrsia_node.audit.auditor import audit
from pyrsia_node.audit.index import audit_index
from pyrsia_node.audit.report import AREAS, Report
from pyrsia_node.audit.source import DirectorySource
from pyrsia_node.ledger.certificates import NEWEST
from pyrsia_node.ledger.tiles import TileWriter
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonValue
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.model.leaves import Header
from pyrsia_node.model.transactions import decode_transaction
from pyrsia_node.store.files import write_atomic
from pyrsia_node.tlog.checkpoint import Checkpoint, SignedCheckpoint
from pyrsia_node.tlog.tile import decode_bundle, tile_width
from pyrsia_node.tlog.tree import leaf_hash, root
from tests.fakes.audited_log import AuditedLog
from tests.strategies.identities import identity
from tests.strategies.small_logs import cosigned


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> AuditedLog:
    return AuditedLog(tmp_path_factory.mktemp("audited") / "node")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> AuditedLog:
    """More than one bundle, and a tile of the second level."""
    return AuditedLog(tmp_path_factory.mktemp("large") / "node", more=110)


@pytest.fixture(scope="module")
def changing(tmp_path_factory: pytest.TempPathFactory) -> AuditedLog:
    """Members come, go and rotate their keys; parameters change; entries are closed."""
    return AuditedLog(tmp_path_factory.mktemp("changing") / "node", set_changes=True)


@pytest.fixture
def copy_of_changing(changing: AuditedLog, tmp_path: Path) -> Path:
    shutil.copytree(changing.root, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def copy_of_large(large: AuditedLog, tmp_path: Path) -> Path:
    shutil.copytree(large.root, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def copy(made: AuditedLog, tmp_path: Path) -> Path:
    shutil.copytree(made.root, tmp_path / "copy")
    return tmp_path / "copy"


def audited(folder: Path, made: AuditedLog) -> Report:
    source = DirectorySource(folder)
    report = audit(source, network_id=made.network_id)
    audit_index(source, report)
    return report


def said(report: Report) -> str:
    return "\n".join(f"{each.area} {each}" for each in report.contradictions)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def leaves_of(log: Path, size: int) -> list[bytes]:
    leaves: list[bytes] = []
    for number in range(-(-size // 256)):
        width = tile_width(0, number, size=size)
        name = f"{number:03}" if width == 256 else f"{number:03}.p/{width}"
        leaves += decode_bundle((log / "tile/entries" / name).read_bytes(), width=width)
    return leaves


class Forged:
    """A log that a quorum of traitors signs: other leaves, and everything above made to fit."""

    def __init__(self, made: AuditedLog, folder: Path) -> None:
        self.made, self.folder = made, folder
        self.size = made.story.chain.tip.size
        self.leaves = leaves_of(folder / "log", self.size)

    def find(self, kind: str, skip: int = 0) -> int:
        found = [i for i, leaf in enumerate(self.leaves) if json.loads(leaf).get("t") == kind]
        return found[skip]

    def change(self, index: int, **members: JsonValue) -> None:
        self.leaves[index] = canonical.dumps({**json.loads(self.leaves[index]), **members})

    def publish(self) -> Report:
        """Give every header what follows from the leaves; write tiles and a signed checkpoint."""
        parent, at = leaf_hash(self.leaves[0]), 2
        while at < len(self.leaves):
            header = json.loads(self.leaves[at])
            body = [leaf_hash(leaf) for leaf in self.leaves[at + 1 : at + 1 + header["n_leaves"]]]
            hashes = [leaf_hash(leaf) for leaf in self.leaves[:at]]
            header |= {"parent": parent.hex(), "prev_root": root(hashes).hex()}
            header["body_root"] = root(body).hex()
            self.leaves[at] = canonical.dumps(header)
            parent = leaf_hash(self.leaves[at])
            at += 1 + header["n_leaves"]
        shutil.rmtree(self.folder / "log" / "tile")
        writer = TileWriter(self.folder / "log")
        writer.extend(self.leaves)
        local = self.made.story.local
        head = Checkpoint(local.genesis.origin, len(self.leaves), writer.frontier().root())
        lines = tuple(cosigned(head, member) for member in local.members)
        write_atomic(self.folder / "log/checkpoint", SignedCheckpoint(head, lines).encode())
        return audited(self.folder, self.made)


def test_an_honest_log_holds_in_every_area(large: AuditedLog) -> None:
    made = large
    report = audited(made.root, made)
    assert said(report) == ""
    assert report.unchecked == {}
    assert (report.size, report.height) == (made.story.chain.tip.size, made.story.chain.tip.height)
    assert report.facts["accepted"] == 3
    checked = [area for area in AREAS if report.counted[area]]
    missing = {"heads", "sets", "evidence"}
    assert checked == [area for area in AREAS if area not in missing], "no set changed in this log"


def test_a_log_whose_members_and_rules_change_holds(changing: AuditedLog) -> None:
    report = audited(changing.root, changing)
    assert said(report) == ""
    assert report.unchecked == {}
    assert report.epoch == 3
    done = ("add_node", "rotate_key", "remove_node", "set_param", "withdraw", "revoke")
    assert [report.facts[kind] for kind in done] == [1, 1, 1, 2, 1, 1]
    assert report.counted["sets"] == 7
    assert report.counted["evidence"] == report.facts["evidence"] == 5


FILES = {
    "tile/0/000": "tree tile/0/000: hash 1 is",
    "tile/1/000.p/1": "tree tile/1/000.p/1: hash 0 is",
    "checkpoint": "checkpoint",
}


@pytest.mark.parametrize(("name", "expected"), FILES.items())
def test_a_flipped_bit_in_a_tile_is_named(
    large: AuditedLog, copy_of_large: Path, name: str, expected: str
) -> None:
    flip(copy_of_large / "log" / name, 33 if name == "tile/0/000" else 20)
    assert expected in said(audited(copy_of_large, large))


@pytest.mark.parametrize("name", ["tile/0/000", "tile/entries/000", "tile/1/000.p/1"])
def test_a_missing_file_is_named(large: AuditedLog, copy_of_large: Path, name: str) -> None:
    (copy_of_large / "log" / name).unlink()
    assert f"tree {name}: cannot be read" in said(audited(copy_of_large, large))


def test_a_flipped_bit_in_an_entry_is_named_with_its_block(
    large: AuditedLog, copy_of_large: Path
) -> None:
    flip(copy_of_large / "log/tile/entries/000", 5_000)
    found = said(audited(copy_of_large, large))
    assert "tree tile/0/000: hash" in found
    assert "tree checkpoint: root is" in found


def test_a_bundle_that_ends_early_stops_the_audit_and_says_so(
    large: AuditedLog, copy_of_large: Path
) -> None:
    path = copy_of_large / "log/tile/entries/000"
    path.write_bytes(path.read_bytes()[:-10])
    report = audited(copy_of_large, large)
    assert "tree tile/entries/000: cannot be read" in said(report)
    assert "not read beyond tile/entries/000" in report.unchecked["verdicts"]


def test_a_certificate_that_was_changed_is_named_by_its_height(
    made: AuditedLog, copy: Path
) -> None:
    (path,) = sorted((copy / "log/certs").glob("*/*"))[-1:]
    data = bytearray(path.read_bytes())
    at = 2 + int.from_bytes(data[:2], "big") + 2 + 60  # within a signature of height 2
    data[at] ^= 1
    path.write_bytes(data)
    found = said(audited(copy, made))
    assert "certificates certificate of height 2: " in found
    assert "block 3 (leaf" in found, "the next header names the hash of the one that was carried"
    assert "execution block 2 (leaf" in found


def test_the_newest_certificate_is_checked_too(made: AuditedLog, copy: Path) -> None:
    flip(copy / "log" / NEWEST, 100)
    assert f"certificate of height {made.story.chain.tip.height}" in said(audited(copy, made))


def test_without_certificates_the_audit_says_what_it_could_not_check(
    made: AuditedLog, copy: Path
) -> None:
    shutil.rmtree(copy / "log/certs")
    report = audited(copy, made)
    assert report.holds
    assert "the publisher serves no certs/" in report.unchecked["certificates"]
    assert "certificates are missing from height 1 on" in report.unchecked["execution"]
    assert report.counted["certificates"] == report.counted["execution"] == 0
    assert report.counted["verdicts"] == 5, "verdicts are counted without them"


def test_a_head_that_too_few_cosigned_does_not_hold(made: AuditedLog, copy: Path) -> None:
    signed = SignedCheckpoint.parse((copy / "log/checkpoint").read_bytes())
    few = SignedCheckpoint(signed.checkpoint, signed.signatures[:3])  # the log's own, and two
    (copy / "log/checkpoint").write_bytes(few.encode())
    assert "has 2 cosignatures of epoch 0, needs 3 of 4" in said(audited(copy, made))


def test_a_checkpoint_that_is_none_is_named(made: AuditedLog, copy: Path) -> None:
    (copy / "log/checkpoint").write_bytes(b"\xff\x00 no note")
    assert said(audited(copy, made)).startswith("checkpoint checkpoint: ")


def test_a_log_of_another_network_is_refused(made: AuditedLog) -> None:
    report = audit(DirectorySource(made.root), network_id=bytes(32))
    assert "leaf 0: the genesis is of network" in said(report)


def test_a_changed_row_of_the_index_is_named_by_its_table(made: AuditedLog, copy: Path) -> None:
    (name,) = copy.glob("index-*.sqlite")
    with sqlite3.connect(name) as db:
        db.execute("UPDATE block SET time_ms = time_ms + 1 WHERE height = 2")
    assert "index " in said(audited(copy, made))
    assert "table block differs" in said(audited(copy, made))


def test_an_index_that_is_no_database_is_named(made: AuditedLog, copy: Path) -> None:
    (name,) = copy.glob("index-*.sqlite")
    name.write_bytes(b"nothing of the kind" * 100)
    assert "index index.current: " in said(audited(copy, made))


def test_a_folder_without_a_log_is_no_contradiction(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="has no log"):
        DirectorySource(tmp_path)


# ---------------------------------------------------------------- lies that a quorum signs


def test_an_accepted_leaf_that_nobody_earned_is_found_by_counting(
    made: AuditedLog, copy: Path
) -> None:
    forged = Forged(made, copy)
    index = forged.find("accepted")
    forged.change(index, attestors=json.loads(forged.leaves[index])["attestors"][:2], k=2)
    report = forged.publish()
    assert f"leaf {index}: request" in said(report)
    assert "verdicts" in said(report)
    assert "with another attestors" in said(report)
    assert f"certificate of height {height_of(forged, index)}" in said(report)


def test_a_verdict_turned_round_is_found_by_counting(made: AuditedLog, copy: Path) -> None:
    forged = Forged(made, copy)
    index = forged.find("failed")
    leaf = json.loads(forged.leaves[index])
    forged.leaves[index] = canonical.dumps(
        {"t": "expired", "v": 1, "req": leaf["req"], "purl": leaf["purl"], "silent": []}
    )
    found = said(forged.publish())
    assert "the log says expired, the items give failed" in found


def test_an_outcome_that_was_left_out_is_found(made: AuditedLog, copy: Path) -> None:
    forged = Forged(made, copy)
    index = forged.find("diverged")
    at = max(i for i in range(index) if json.loads(forged.leaves[i]).get("t") == "block")
    del forged.leaves[index]
    forged.change(at, n_leaves=json.loads(forged.leaves[at])["n_leaves"] - 1)
    shift_sizes(forged)
    found = said(forged.publish())
    assert "the log says nothing, the items give diverged" in found


def test_a_transaction_with_a_foreign_signature_is_found(made: AuditedLog, copy: Path) -> None:
    forged = Forged(made, copy)
    index = forged.find("attest_batch")
    leaf = json.loads(forged.leaves[index])
    bare = decode_transaction(forged.leaves[index], network_id=made.network_id)
    stranger = identity(9).sign["tx"](bare.signed_bytes).hex()
    forged.change(index, sigs=[{"by": leaf["voter"], "sig": stranger}])
    found = said(forged.publish())
    assert f"leaf {index}: transaction" in found
    assert "does not hold" in found


@pytest.mark.parametrize("kind", ["add_node", "rotate_key", "remove_node", "withdraw", "revoke"])
def test_an_operation_without_its_quorum_of_approvals_is_found(
    changing: AuditedLog, copy_of_changing: Path, kind: str
) -> None:
    forged = Forged(changing, copy_of_changing)
    index = forged.find(kind)
    spoilt = 0
    for i in range(index):
        leaf = json.loads(forged.leaves[i])
        if leaf.get("t") == "approve" and leaf["op"] == kind and spoilt < 2:
            forged.change(i, subject="cd" * 32)
            spoilt += 1
    found = said(forged.publish())
    assert f"leaf {index}: {kind} has the approvals of" in found


def _swapped(leaf: dict[str, Any], _: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"second": {**leaf["second"], "sig": leaf["first"]["sig"]}}


def _another_culprit(leaf: dict[str, JsonValue], _: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"culprit": leaf["by"]}


def _never_voted(leaf: dict[str, JsonValue], _: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"culprit": identity(9).id}


def _same_block(leaf: dict[str, Any], _: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"second": {**leaf["second"], "block": leaf["first"]["block"]}}


def _from_the_future(leaf: dict[str, Any], _: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"height": leaf["height"] + 100}


def _twice(_: dict[str, JsonValue], other: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {name: other[name] for name in ("culprit", "height", "view", "set", "first", "second")}


ACCUSATIONS: dict[str, tuple[Callable[..., dict[str, JsonValue]], str]] = {
    "signature of another statement": (_swapped, "the member did not sign the"),
    "another member": (_another_culprit, "the member did not sign the"),
    "no member": (_never_voted, "the member had no vote in the set"),
    "one block": (_same_block, "an honest member may sign both"),
    "not yet": (_from_the_future, "nobody has voted at that height yet"),
    "once more": (_twice, "the log convicts the member of this already"),
}


@pytest.mark.parametrize("name", ACCUSATIONS)
def test_an_accusation_that_proves_nothing_is_found(
    changing: AuditedLog, copy_of_changing: Path, name: str
) -> None:
    change, expected = ACCUSATIONS[name]
    forged = Forged(changing, copy_of_changing)
    other, index = (forged.find("evidence", skip=n) for n in range(2))
    pair = [json.loads(forged.leaves[each]) for each in (index, other)]
    forged.change(index, **change(*pair))
    shutil.rmtree(copy_of_changing / "log/certs")  # then nothing is executed
    report = forged.publish()
    found = [str(each) for each in report.contradictions if each.area == "evidence"]
    assert len(found) == 1, said(report)
    assert f"leaf {index}: " in found[0]
    assert expected in found[0]


def test_a_member_that_slips_into_the_set_is_found(
    changing: AuditedLog, copy_of_changing: Path
) -> None:
    forged = Forged(changing, copy_of_changing)
    index = forged.find("set", skip=1)
    leaf = json.loads(forged.leaves[index])
    slipped = identity(20).member.record
    members = sorted([*leaf["members"], slipped.to_json()], key=lambda each: str(each["id"]))
    forged.change(index, members=members, q=quorum(len(members)))
    at = max(i for i in range(index) if json.loads(forged.leaves[i]).get("t") == "block")
    forged.change(at, next_set=sha256_of(forged.leaves[index]))
    found = said(forged.publish())
    assert "the next set is not what its operations make of the set" in found
    assert slipped.id in found


HEADERS: dict[str, tuple[Callable[[Header], JsonValue], str]] = {
    "time_ms": (lambda header: header.time_ms - 10_000_000, "its parent's is"),
    "height": (lambda header: header.height + 1, "what stands around gives"),
    "prev_epoch_height": (lambda header: header.prev_epoch_height + 1, "what stands around gives"),
    "proposer": (lambda _header: identity(9).id, "is no member of its set"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_does_not_follow_is_named(made: AuditedLog, copy: Path, name: str) -> None:
    change, expected = HEADERS[name]
    forged = Forged(made, copy)
    index = forged.find("block", skip=4)
    forged.change(index, **{name: change(Header.decode(forged.leaves[index]))})
    found = said(forged.publish())
    assert f"(leaf {index}): {name} " in found
    assert expected in found


@pytest.mark.parametrize(
    ("height", "expected"),
    [
        (0, "is no block header"),
        (1, "what stands around gives"),
        (5, "what stands around gives"),
        (10**9, "what stands around gives"),
    ],
)
def test_a_last_header_of_another_height_ends_the_reading_of_certificates(
    made: AuditedLog, copy: Path, height: int, expected: str
) -> None:
    forged = Forged(made, copy)
    last = made.story.chain.tip.height
    forged.change(forged.find("block", skip=last - 1), height=height)
    report = forged.publish()
    assert expected in said(report)
    beyond = f"certificates height {height + 1}: the log goes on, though the last header in it"
    assert (beyond in said(report)) == (height < last)


def test_a_state_root_that_execution_does_not_give_is_found(made: AuditedLog, copy: Path) -> None:
    forged = Forged(made, copy)
    index = forged.find("block", skip=6)
    forged.change(index, state_root="ab" * 32)
    report = forged.publish()
    assert "certificates" in said(report), "no quorum finalized this block"
    assert report.unchecked["execution"].startswith("stopped at height 7")


def height_of(forged: Forged, index: int) -> int:
    return sum(json.loads(leaf).get("t") == "block" for leaf in forged.leaves[:index])


def shift_sizes(forged: Forged) -> None:
    at = 2
    while at < len(forged.leaves):
        forged.change(at, prev_size=at)
        at += 1 + json.loads(forged.leaves[at])["n_leaves"]
