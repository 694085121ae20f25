"""R7: certificates reach everybody, and bodies are asked for."""

from __future__ import annotations

from consensus.effects import (
    Persist,
    RecordKind,
    RequestBody,
    Send,
)
from consensus.types import Certificate, Height, NodeId, View
from tests.unit.consensus.committee import (
    N,
    X,
    alone,
    certificate_of,
    member_set,
    names,
    of_type,
    proposal_of,
    vote_of,
)
from tests.unit.consensus.first_height import (
    B0,
    H0,
    SET,
    notarized,
    nullified,
    proposal_0,
)


def relayed(effects: list[object], certificate: Certificate) -> list[str]:
    return [
        effect.to
        for effect in effects
        if isinstance(effect, Send) and effect.message == certificate
    ]


def test_r7_certificate_goes_to_all_once_and_is_durable() -> None:
    node = alone(4, 0)
    certificate = nullified(0)
    effects = node.tell("m002", certificate)
    assert relayed([*effects], certificate) == ["m001", "m002", "m003"]
    assert of_type(effects, Persist)[0].records[0].kind is RecordKind.CERTIFICATE
    assert relayed([*node.tell("m003", certificate)], certificate) == []


def test_r7_certificate_inside_a_refused_proposal_counts() -> None:
    node = alone(4, 0)
    effects = node.tell(
        "m003", proposal_of("m003", SET, B0, view=5, nullifications=(nullified(4),))
    )
    assert node.replica.view == 5
    assert relayed([*effects], nullified(4))


def test_r7_own_votes_make_certificates_too() -> None:
    node = alone(4, 0)
    node.tell("m001", vote_of("m001", SET, N, view=0, block_hash=H0))
    node.tell("m002", vote_of("m002", SET, N, view=0, block_hash=H0))
    assert node.replica.view == 0
    node.tell("m001", proposal_0())
    assert node.replica.view == 1


def test_r7_large_sets_tell_the_next_leaders_and_two_collectors() -> None:
    members = member_set(names(20))
    node = alone(20, 0)
    certificate = certificate_of(members, X, view=0)
    told = relayed([*node.tell("m005", certificate)], certificate)
    assert 2 <= len(told) <= 4
    assert {node.replica.leader(View(1)), node.replica.leader(View(2))} <= {*told}


def test_r7_a_collector_of_a_large_set_tells_all() -> None:
    members = member_set(names(20))
    certificate = certificate_of(members, X, view=0)
    told = [
        len(relayed([*alone(20, me).tell("m019", certificate)], certificate)) for me in range(19)
    ]
    assert told.count(19) == 2


def test_certificate_asks_for_the_body_that_is_missing() -> None:
    node = alone(4, 0)
    (request,) = of_type(node.tell("m002", notarized()), RequestBody)
    assert request == RequestBody(Height(1), H0, (NodeId("m001"), NodeId("m002")))
