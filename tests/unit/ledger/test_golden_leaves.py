"""Golden bytes of every leaf schema, and of stories of blocks that derive every outcome."""

from __future__ import annotations

import dataclasses
import json
import os
import tomllib
from pathlib import Path

import pytest

from pyrsia_node.ledger.machine.context import Head
from pyrsia_node.model.digest import ZERO_SHA256, sha256_of
from pyrsia_node.model.evidence import Evidence, SignedStatement
from pyrsia_node.model.genesis import DEFAULT_PARAMS
from pyrsia_node.model.leaves import (
    Accepted,
    Attestor,
    Cause,
    Difference,
    Diverged,
    Expired,
    Failed,
    Header,
    LateDivergence,
    Level,
    Outcome,
    ResultClass,
    Unsealed,
    encode_outcome,
)
from pyrsia_node.model.mappings import SourceMapping
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import (
    TRANSACTION_KINDS,
    AttestCommit,
    Deprecate,
    Revoke,
    Transaction,
    Vulnerable,
    Withdraw,
)
from tests.fakes.local_chain import LocalChain
from tests.strategies import build_bodies as make
from tests.strategies import image_bodies as image
from tests.strategies import maven_bodies as maven
from tests.strategies import member_bodies as change
from tests.strategies.identities import genesis_of, identities, identity

PATH = Path(__file__).parents[2] / "vectors/ledger/golden-leaves.toml"
PARAMS = dataclasses.replace(DEFAULT_PARAMS, k={"docker": 0, "pypi": 0})
"""Every signature hangs on the network's id: these networks keep the parameters they had."""

D = [make.digest(f"{number}") for number in range(9)]


def leaves() -> dict[str, bytes]:
    """Return one leaf of every schema."""
    local = LocalChain(params=PARAMS)
    one, two, three, four = (member.id for member in local.members)
    header = Header(
        network=D[0], height=7, parent=D[1], prev_size=40, prev_root=D[2], view=3, proposer=two,
        time_ms=1_700_000_123_456, n_leaves=5, body_root=D[3], state_root=D[4], set=D[5],
        next_set=D[6], prev_epoch_height=0, parent_cert=D[7],
    )  # fmt: skip
    batch = make.batch(one, 1, make.built(D[0], level=1), make.failed(D[1], "TIMEOUT", "600 s"))
    opening = dataclasses.replace(batch, items=tuple(make.salted(each) for each in batch.items))
    agreed = (Attestor(one, 45, 0), Attestor(two, 46, 1), Attestor(three, 47, 0))
    accepted = Accepted(D[0], make.document(), 3, 1, agreed, (Difference(four, D[8]),))
    classes = (
        ResultClass(make.own_roots(), (one, three), D[1]),
        ResultClass(make.own_roots("x"), (two,), D[2]),
    )
    outcomes: dict[str, Outcome] = {
        "accepted": accepted,
        "diverged": Diverged(D[0], make.PURL, classes),
        "failed": Failed(D[0], make.PURL, (Cause(two, "REFUSED", "toolchain"),)),
        "expired": Expired(D[0], make.PURL, (three, four)),
        "level": Level(D[0], 0),
        "unsealed": Unsealed(D[0], (one, three)),
        "late_divergence": LateDivergence(D[0], four, D[8]),
    }
    explained = dataclasses.replace(make.built(D[0]), explained=D[1])
    external = maven.document(claim="external")
    sightings = (image.seen(D[0]), image.moved(D[1]))
    moved = Cause(two, "MOVED", "tag moved", moved=f"sha256:{D[2]}", seen_ms=image.SEEN_MS)
    genesis = genesis_of(identities(4), PARAMS)
    network, head, nonce = genesis.network_id, Head(40, D[1]), "0f" * 16
    newcomer = identity(100)
    renewed = change.renewed(local.members[1].member.record, identity(101))
    bodies: list[Transaction] = [
        AttestCommit(one, D[0], D[1]),
        change.approve(two, change.remove(one, four), network, since=900, expiry=1_000),
        change.add(one, newcomer, network, height=7, head=head),
        change.rotate(renewed, network, height=7, head=head),
        change.remove(one, four, nonce=1),
        change.set_param(one, "k.pypi", 3, nonce=2),
        Evidence(
            by=one, culprit=three, height=7, view=3, set=D[5],
            first=SignedStatement("nullify", ZERO_SHA256, bytes(64)),
            second=SignedStatement("finalize", D[2], bytes(range(64))),
        ),
        Withdraw(one, make.PURL, 45, "built from another source", nonce),
        Revoke(two, make.PURL, D[3], "steals tokens \u2014 see PYSEC", nonce),
        Deprecate(three, make.PURL.without_version(), "no longer kept", make.PURL, nonce),
        Vulnerable(four, make.PURL, "PYSEC-2023-100", "remote code execution", nonce),
        maven.add_source(one),
    ]  # fmt: skip
    return {
        **{body.kind: local.sign(body).encoded for body in bodies},
        "genesis": genesis.encode(),
        "set": genesis.set_leaf().encode(),
        "block": header.encode(),
        "build_request": local.sign(make.request(one)).encoded,
        "attest_batch": local.sign(batch).encoded,
        "attest_batch_sealed": local.sign(opening).encoded,
        "attest_batch_image": local.sign(make.batch(one, 2, *sightings)).encoded,
        "build_request_maven": local.sign(maven.request(one)).encoded,
        "build_request_external": local.sign(maven.request(one, claim="external")).encoded,
        "result_external": local.sign(make.result(one, D[0], external)).encoded,
        "attest_batch_explained": local.sign(make.batch(one, 3, explained)).encoded,
        "build_request_image": local.sign(image.request(one)).encoded,
        "result_image": local.sign(make.result(one, D[0], image.document())).encoded,
        "failed_moved": encode_outcome(Failed(D[0], image.PURL, (moved,))),
        "result": local.sign(make.result(one, D[0])).encoded,
        **{name: encode_outcome(outcome) for name, outcome in outcomes.items()},
    }


def changes() -> dict[str, str]:
    """Commit every change of the set and of a parameter; return what it comes to."""
    local = LocalChain(params=PARAMS)
    local.commit(make.request(local.members[0].id))
    local.commit(*local.add(identity(100)))
    local.commit(*local.rotate(local.members[0].id, identity(101)))
    local.commit(*local.set_param("k.pypi", 2))
    local.commit(*local.remove(local.members[1].id))
    chain = local.chain
    kinds = [json.loads(leaf)["t"] for leaf in chain.leaves(2, chain.tip.size)]
    return {
        "kinds": " ".join(kind for kind in kinds if kind != "block"),
        **{f"set_{epoch}": chain.set_leaf_of(epoch).digest() for epoch in range(4)},
        "block": chain.tip.block_hash.hex(),
        "state_root": chain.tip.state_root.hex(),
        "tree_root": chain.tip.root.hex(),
    }


def story() -> dict[str, str]:
    """Commit blocks in which every outcome, slots and a late item occur; return their hashes."""
    local = LocalChain(params=dataclasses.replace(PARAMS, min_authorized=1))
    members = [member.id for member in local.members]
    names = ["good", "split", "failing", "silent", "slow"]
    bodies = [
        make.request(members[number % 4], purl=Purl.pypi(name, "1.0"), time_class="SM"[number > 3])
        for number, name in enumerate(names)
    ]
    ids = dict(zip(names, (local.sign(body).id for body in bodies), strict=True))
    docs = {name: make.document(purl=Purl.pypi(name, "1.0")) for name in names}
    other = make.document(".x", purl=docs["slow"].purl)
    third = make.document(".y", purl=docs["slow"].purl)
    local.commit(*bodies)
    for number, member in enumerate(members[:3]):
        split = make.built(ids["split"], docs["split"], own=f"{number}")
        slow = make.built(ids["slow"], [docs["slow"], other, third][number])
        good = make.built(ids["good"], docs["good"], level=number)
        failing = make.failed(ids["failing"], "TIMEOUT", f"{number}")
        local.commit(make.batch(member, 1, good, split, slow, failing))
    local.commit(make.result(members[0], ids["good"], docs["good"]))
    local.commit(
        make.batch(members[3], 1, make.built(ids["good"], own="late"), make.failed(ids["split"]))
    )
    local.commit(make.batch(members[2], 2, make.built(ids["good"], docs["good"], level=0)))
    for _ in range(2):
        local.now_ms = local.chain.due_ms() or 0
        local.commit()
    chain = local.chain
    kinds = [json.loads(leaf)["t"] for leaf in chain.leaves(2, chain.tip.size)]
    return {
        "kinds": " ".join(kind for kind in kinds if kind != "block"),
        **{
            f"block_{height}": chain.block(height).hash for height in range(1, chain.tip.height + 1)
        },
        "state_root": chain.tip.state_root.hex(),
        "tree_root": chain.tip.root.hex(),
    }


def sealed() -> dict[str, str]:
    """Have a sealed network commit, unseal, show and accept; return what it comes to."""
    local = LocalChain(params=PARAMS)
    members = [member.id for member in local.members]
    local.commit(*local.set_param("sealed", 1))
    request = local.commit(make.request(members[0])).transaction_ids[0]
    items = [make.salted(make.built(request), number) for number in range(3)]
    said = list(zip(members, items, strict=False))
    local.commit(*(make.commit(member, item, local.network_id) for member, item in said))
    local.now_ms = local.chain.due_ms() or 0
    local.commit()
    local.commit(
        *(make.batch(member, 1, item) for member, item in said), make.result(members[0], request)
    )
    chain = local.chain
    kinds = [json.loads(leaf)["t"] for leaf in chain.leaves(2, chain.tip.size)]
    return {
        "kinds": " ".join(kind for kind in kinds if kind not in {"block", "approve"}),
        "commit": make.commit(members[0], items[0], local.network_id).commit,
        "block": chain.tip.block_hash.hex(),
        "state_root": chain.tip.state_root.hex(),
        "tree_root": chain.tip.root.hex(),
    }


def images() -> dict[str, str]:
    """Import a tag, fail because it moved, import the new one, and the first one again."""
    local = LocalChain(params=PARAMS)
    members = [member.id for member in local.members]
    for number, variant in enumerate(("", "moving", "new", "")):
        body = image.request(members[number], variant=variant)
        request, doc = local.commit(body).transaction_ids[0], image.document(variant)
        said = image.moved(request) if variant == "moving" else image.seen(request, doc)
        local.commit(*(make.batch(m, number + 1, said) for m in members[:3]))
        if variant not in {"moving", ""} or number == 0:
            local.commit(make.result(members[0], request, doc))
    chain = local.chain
    kinds = [json.loads(leaf)["t"] for leaf in chain.leaves(2, chain.tip.size)]
    return {
        "kinds": " ".join(kind for kind in kinds if kind != "block"),
        "block": chain.tip.block_hash.hex(),
        "state_root": chain.tip.state_root.hex(),
        "tree_root": chain.tip.root.hex(),
    }


def mappings() -> dict[str, str]:
    """Map a group and an artifact of it, take the artifact's back; return what it comes to."""
    local = LocalChain(params=dataclasses.replace(PARAMS, k={**PARAMS.k, "maven": 0}))
    by = local.members[0].id
    artifact, group = maven.mapping(), maven.mapping("pkg:maven/commons-codec/*")
    for nonce, each in enumerate((group, artifact, SourceMapping(artifact.pattern, ""))):
        local.commit(*local.approved(maven.add_source(by, each, nonce=nonce)))
    chain = local.chain
    assert chain.source_for(maven.PURL) == group
    kinds = [json.loads(leaf)["t"] for leaf in chain.leaves(2, chain.tip.size)]
    return {
        "kinds": " ".join(kind for kind in kinds if kind not in {"approve", "block"}),
        "block": chain.tip.block_hash.hex(),
        "state_root": chain.tip.state_root.hex(),
        "tree_root": chain.tip.root.hex(),
    }


STORIES = {
    "story": story,
    "changes": changes,
    "sealed": sealed,
    "images": images,
    "mappings": mappings,
}


@pytest.fixture(scope="module")
def golden() -> dict[str, dict[str, str]]:
    if os.environ.get("PYRSIA_GOLDEN") == "write":
        lines = ["# See README.md; rewritten by `make golden`.", "", "[leaves]"]
        lines += [f"{name} = '{leaf.decode()}'" for name, leaf in sorted(leaves().items())]
        lines += ["", "[sha256]"]
        lines += [f'{name} = "{sha256_of(leaf)}"' for name, leaf in sorted(leaves().items())]
        for title, tell in STORIES.items():
            lines += ["", f"[{title}]", *(f'{name} = "{text}"' for name, text in tell().items())]
        lines.append("")
        PATH.write_text("\n".join(lines))
    return tomllib.loads(PATH.read_text())


@pytest.mark.parametrize("name", sorted(leaves()))
def test_golden_leaf_of_every_schema_is_unchanged(
    golden: dict[str, dict[str, str]], name: str
) -> None:
    leaf = leaves()[name]
    assert leaf.decode() == golden["leaves"][name]
    assert sha256_of(leaf) == golden["sha256"][name]


@pytest.mark.parametrize("title", STORIES)
def test_golden_story_of_blocks_is_unchanged(golden: dict[str, dict[str, str]], title: str) -> None:
    assert STORIES[title]() == golden[title]


def test_every_kind_of_transaction_has_a_golden_leaf() -> None:
    assert leaves().keys() >= TRANSACTION_KINDS


def test_golden_stories_derive_every_outcome(golden: dict[str, dict[str, str]]) -> None:
    assert {"attest_commit", "unsealed"} <= set(golden["sealed"]["kinds"].split())
    kinds = set(golden["story"]["kinds"].split())
    derived = {"accepted", "diverged", "failed", "expired", "level", "late_divergence"}
    assert kinds == derived | {"build_request", "attest_batch", "result"}
