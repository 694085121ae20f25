"""Attest batches and results: one first item, f + 1 revisions, one late item, own roots fixed."""

from __future__ import annotations

import dataclasses

import pytest

from pyrsia_node.ledger.machine.context import NotYetValidError
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.leaves import Accepted
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import Item
from tests.fakes.block_runner import BlockRunner
from tests.strategies import build_bodies as make
from tests.strategies import maven_bodies as maven
from tests.strategies.identities import identity

A, B, C = make.document(".a"), make.document(".b"), make.document(".c")


@pytest.fixture
def runner() -> BlockRunner:
    return BlockRunner()


@pytest.fixture
def req(runner: BlockRunner) -> Sha256:
    return runner.open(make.request(runner.members[0]))


def test_batches_of_a_voter_come_in_order_without_gaps(runner: BlockRunner, req: Sha256) -> None:
    voter = runner.members[0]
    with pytest.raises(NotYetValidError, match="batch 1 of this voter must come before 2"):
        runner.run(make.batch(voter, 2, make.built(req)))
    runner.run(make.batch(voter, 1, make.built(req)))
    with pytest.raises(InvalidInputError, match="batch 1 of this voter is in the log"):
        runner.run(make.batch(voter, 1, make.built(req, B)))
    runner.run(make.batch(voter, 2, make.built(req, B)), make.batch(voter, 3, make.built(req)))


def test_unknown_request_may_still_come(runner: BlockRunner) -> None:
    with pytest.raises(NotYetValidError, match="no build request"):
        runner.run(make.batch(runner.members[0], 1, make.built("0" * 64)))
    with pytest.raises(NotYetValidError, match="no build request"):
        runner.run(make.result(runner.members[0], "0" * 64))


def test_only_members_speak(runner: BlockRunner, req: Sha256) -> None:
    stranger = identity(9).id
    with pytest.raises(InvalidInputError, match="is no authorized node"):
        runner.run(make.batch(stranger, 1, make.built(req)))
    with pytest.raises(InvalidInputError, match="is no authorized node"):
        runner.run(make.result(stranger, req))


def test_only_those_speak_who_were_authorized_when_the_request_opened(
    runner: BlockRunner, req: Sha256
) -> None:
    newcomer = identity(9).id
    runner.run(make.batch(runner.members[0], 1, make.built(req)), *runner.add(identity(9)))
    assert newcomer in runner.members
    with pytest.raises(InvalidInputError, match="was not authorized when"):
        runner.run(make.batch(newcomer, 1, make.built(req)))
    with pytest.raises(InvalidInputError, match="was not authorized when"):
        runner.run(make.result(newcomer, req))


def test_batch_counts_whole_or_not_at_all(runner: BlockRunner, req: Sha256) -> None:
    voter = runner.members[0]
    with pytest.raises(NotYetValidError):
        runner.run(make.batch(voter, 1, make.built(req), make.built("0" * 64)))
    runner.run(make.batch(runner.members[1], 1, make.built(req)))
    assert list(runner.view(req).items) == [runner.members[1]]


def test_voter_has_f_plus_one_revisions(runner: BlockRunner, req: Sha256) -> None:
    voter = runner.members[0]
    for seq, doc in enumerate((A, B, C), 1):
        runner.run(make.batch(voter, seq, make.built(req, doc)))
    assert runner.view(req).items[voter].result == C.digest()
    assert runner.view(req).items[voter].first_result == A.digest()
    with pytest.raises(InvalidInputError, match="used its 2 revisions"):
        runner.run(make.batch(voter, 4, make.built(req, A)))


def test_revision_has_the_position_of_its_own_batch(runner: BlockRunner, req: Sha256) -> None:
    voter = runner.members[0]
    runner.run(make.batch(voter, 1, make.built(req, A)))
    first = len(runner.leaves) - 1
    runner.run(make.batch(voter, 2, make.built(req, B)))
    item = runner.view(req).items[voter]
    assert (item.first_at, item.at) == ((first, 0), (len(runner.leaves) - 1, 0))


def test_own_roots_never_change(runner: BlockRunner, req: Sha256) -> None:
    voter = runner.members[0]
    runner.run(make.batch(voter, 1, make.built(req, A)))
    with pytest.raises(InvalidInputError, match="roots of the own build changed"):
        runner.run(make.batch(voter, 2, make.built(req, B, own="other")))


@pytest.mark.parametrize("first_is_built", [True, False])
def test_failure_is_no_revision_and_is_not_revised(
    runner: BlockRunner, req: Sha256, *, first_is_built: bool
) -> None:
    voter = runner.members[0]
    words: list[Item] = [make.built(req), make.failed(req)]
    first, second = words if first_is_built else words[::-1]
    runner.run(make.batch(voter, 1, first))
    with pytest.raises(InvalidInputError, match="only a BUILT item can be revised"):
        runner.run(make.batch(voter, 2, second))


def test_result_needs_an_item_of_its_voter_that_names_it(runner: BlockRunner, req: Sha256) -> None:
    voter = runner.members[0]
    with pytest.raises(NotYetValidError, match="no counted item"):
        runner.run(make.result(voter, req, A))
    runner.run(make.batch(voter, 1, make.built(req, A)))
    with pytest.raises(NotYetValidError, match="no counted item"):
        runner.run(make.result(voter, req, B))
    with pytest.raises(NotYetValidError, match="no counted item"):
        runner.run(make.result(runner.members[1], req, A))
    runner.run(make.result(voter, req, A))
    assert runner.view(req).documents == {A.digest()}
    assert runner.view(req).documents_needed == ()


def test_result_counts_by_the_latest_item(runner: BlockRunner, req: Sha256) -> None:
    voter = runner.members[0]
    runner.run(make.batch(voter, 1, make.built(req, A)), make.batch(voter, 2, make.built(req, B)))
    with pytest.raises(NotYetValidError, match="no counted item"):
        runner.run(make.result(voter, req, A))


def test_document_is_in_the_log_once(runner: BlockRunner, req: Sha256) -> None:
    one, two = runner.members[:2]
    runner.run(
        make.batch(one, 1, make.built(req)),
        make.batch(two, 1, make.built(req)),
        make.result(one, req),
    )
    with pytest.raises(InvalidInputError, match="in the log already"):
        runner.run(make.result(two, req))


def test_document_of_an_earlier_request_serves_a_later_one(
    runner: BlockRunner, req: Sha256
) -> None:
    members = runner.members
    runner.run(
        *(make.batch(m, 1, make.built(req)) for m in members[:3]), make.result(members[0], req)
    )
    again = runner.open(make.request(members[0], lock="newer"))
    execution = runner.run(*(make.batch(m, 2, make.built(again)) for m in members[:3]))
    assert [type(each) for each in execution.outcomes] == [Accepted]


def test_result_about_another_package_is_invalid(runner: BlockRunner, req: Sha256) -> None:
    voter = runner.members[0]
    other = make.document(purl=Purl.parse("pkg:pypi/seven@1.0"))
    runner.run(make.batch(voter, 1, make.built(req, other)))
    with pytest.raises(InvalidInputError, match=r"about pkg:pypi/seven@1\.0"):
        runner.run(make.result(voter, req, other))


def test_items_that_name_another_packages_document_never_accept(
    runner: BlockRunner, req: Sha256
) -> None:
    members = runner.members
    seven = Purl.parse("pkg:pypi/seven@1.0")
    other = make.document(purl=seven)
    theirs = runner.open(make.request(members[0], purl=seven))
    runner.run(
        make.batch(members[0], 1, make.built(theirs, other)), make.result(members[0], theirs, other)
    )
    execution = runner.run(
        make.batch(members[0], 2, make.built(req, other)),
        *(make.batch(m, 1, make.built(req, other)) for m in members[1:]),
    )
    assert execution.outcomes == ()


@pytest.mark.parametrize(("asked", "answered"), [("rebuilt", "mirrored"), ("mirrored", "rebuilt")])
def test_claims_of_the_document_fit_the_request(
    runner: BlockRunner, asked: str, answered: str
) -> None:
    voter = runner.members[0]
    req = runner.open(make.request(voter, claim=asked))
    doc = make.document(claim=answered)
    runner.run(make.batch(voter, 1, make.built(req, doc)))
    with pytest.raises(InvalidInputError, match="claims do not fit"):
        runner.run(make.result(voter, req, doc))
    good = make.document(claim=asked)
    runner.run(make.batch(voter, 2, make.built(req, good)), make.result(voter, req, good))


def accepted(runner: BlockRunner, req: Sha256, *, level: int = 0) -> None:
    """Let the first three members accept document A."""
    voters = runner.members[:3]
    runner.run(
        *(make.batch(m, 1, make.built(req, A, level=level)) for m in voters),
        make.result(voters[0], req, A),
    )
    assert runner.view(req).outcome == "accepted"


def test_result_for_a_closed_request_is_invalid(runner: BlockRunner, req: Sha256) -> None:
    accepted(runner, req)
    with pytest.raises(InvalidInputError, match="is closed"):
        runner.run(make.result(runner.members[0], req, B))


def test_voter_has_one_late_item(runner: BlockRunner, req: Sha256) -> None:
    accepted(runner, req)
    late = runner.members[3]
    runner.run(make.batch(late, 1, make.built(req, A)))
    with pytest.raises(InvalidInputError, match="used its late item"):
        runner.run(make.batch(late, 2, make.built(req, A)))


def test_late_item_of_one_who_spoke_keeps_its_own_roots(runner: BlockRunner, req: Sha256) -> None:
    accepted(runner, req)
    voter = runner.members[0]
    with pytest.raises(InvalidInputError, match="roots of the own build changed"):
        runner.run(make.batch(voter, 2, make.built(req, A, own="other")))
    with pytest.raises(InvalidInputError, match="cannot be taken back"):
        runner.run(make.batch(voter, 2, make.failed(req)))
    runner.run(make.batch(voter, 2, make.built(req, A)))
    with pytest.raises(InvalidInputError, match="used its late item"):
        runner.run(make.batch(voter, 3, make.built(req, A)))


def test_refused_batch_changes_nothing(runner: BlockRunner, req: Sha256) -> None:
    runner.run(make.batch(runner.members[0], 1, make.built(req)))
    before = dict(runner.state.scan(b""))
    with pytest.raises(InvalidInputError):
        runner.run(make.batch(runner.members[0], 2, make.built(req, own="other")))
    assert dict(runner.state.scan(b"")) == before
    item = runner.view(req).items[runner.members[0]]
    assert dataclasses.replace(item, revisions=0) == item


CLAIMED = {"rebuilt": maven.document(), "external": maven.document(claim="external")}


@pytest.mark.parametrize("claim", CLAIMED)
def test_document_claims_what_was_asked_for_and_nothing_more(claim: str) -> None:
    runner = BlockRunner()
    req = runner.open(maven.request(runner.members[0], claim=claim))
    other = next(each for name, each in CLAIMED.items() if name != claim)
    both = dataclasses.replace(
        other, files=(*other.files, maven.file("z.jar", claim=claim)), contradicts=()
    )
    mirrored = dataclasses.replace(
        other, files=tuple(each for each in other.files if each.claim == "mirrored")
    )
    for number, wrong in enumerate((other, both, mirrored)):
        runner.run(make.batch(runner.members[number], 1, make.built(req, wrong)))
        with pytest.raises(InvalidInputError, match="claims do not fit the request's claim"):
            runner.run(make.result(runner.members[number], req, wrong))
    right = CLAIMED[claim]
    runner.run(
        make.batch(runner.members[3], 1, make.built(req, right)),
        make.result(runner.members[3], req, right),
    )
    assert right.digest() in runner.view(req).documents


def test_external_build_is_accepted_as_external_alone() -> None:
    runner = BlockRunner()
    req = runner.open(maven.request(runner.members[0], claim="external"))
    doc = CLAIMED["external"]
    said = [make.batch(each, 1, make.built(req, doc)) for each in runner.members[:3]]
    [outcome] = runner.run(*said, make.result(runner.members[0], req, doc)).outcomes
    assert isinstance(outcome, Accepted)
    assert {each.claim for each in outcome.document.files} == {"external", "mirrored"}


def test_revision_names_another_explanation_or_none(runner: BlockRunner, req: Sha256) -> None:
    voter = runner.members[0]
    first = dataclasses.replace(make.built(req, A), explained=make.digest("first"))
    runner.run(make.batch(voter, 1, first))
    again = dataclasses.replace(first, result=B.digest(), explained=make.digest("second"))
    runner.run(make.batch(voter, 2, again))
    runner.run(make.batch(voter, 3, make.built(req, C)))
    assert runner.view(req).items[voter].result == C.digest()
