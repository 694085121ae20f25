"""Images in the ledger: a tag is what a quorum saw, at the time at which it was asked for."""

from __future__ import annotations

import dataclasses

import pytest

from pyrsia_node.ledger.machine.context import NotYetValidError
from pyrsia_node.ledger.machine.execute import Execution
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.leaves import Accepted, Cause, Failed
from pyrsia_node.model.limits import SEEN_SLACK_MS
from tests.fakes.block_runner import BlockRunner
from tests.strategies import build_bodies as make
from tests.strategies import image_bodies as image
from tests.strategies.identities import GENESIS_TIME_MS

DAY_MS = 24 * 3_600_000


@pytest.fixture
def runner() -> BlockRunner:
    return BlockRunner()


def imported(
    runner: BlockRunner, variant: str, *, nonce: int, sponsor: int = 0, is_new: bool = True
) -> Accepted:
    """Have every member but the last see one image under the tag; return the outcome."""
    m = runner.members
    until = runner.time_ms + 60_000
    req = runner.open(image.request(m[sponsor], variant=variant, nonce=nonce, until=until))
    doc = image.document(variant)
    said = [make.batch(v, nonce, image.seen(req, doc)) for v in m[:3]]
    results = [make.result(m[0], req, doc)] if is_new else []
    [outcome] = runner.run(*said, *results).outcomes
    assert isinstance(outcome, Accepted)
    return outcome


def failed(execution: Execution) -> Failed:
    [outcome] = execution.outcomes
    assert isinstance(outcome, Failed)
    return outcome


def test_tag_is_accepted_by_a_quorum_that_saw_the_same_digest(runner: BlockRunner) -> None:
    outcome = imported(runner, "", nonce=1)
    assert (outcome.document, outcome.k, outcome.level) == (image.document(), 3, 0)


def test_one_member_that_saw_another_digest_moves_nothing(runner: BlockRunner) -> None:
    m = runner.members
    req = runner.open(image.request(m[0]))
    runner.run(make.batch(m[3], 1, image.moved(req)))
    execution = runner.run(
        *(make.batch(v, 1, image.seen(req)) for v in m[:3]),
        make.result(m[0], req, image.document()),
    )
    [outcome] = execution.outcomes
    assert isinstance(outcome, Accepted)
    assert [each.id for each in outcome.attestors] == list(m[:3])


def test_tag_that_moved_fails_and_names_for_each_member_what_it_saw(runner: BlockRunner) -> None:
    m = runner.members
    req = runner.open(image.request(m[0]))
    runner.run(make.batch(m[0], 1, image.seen(req)))
    runner.run(make.batch(m[1], 1, image.moved(req, "b")))
    outcome = failed(runner.run(make.batch(m[2], 1, image.moved(req, "c"))))
    assert outcome.causes == tuple(
        Cause(v, "MOVED", "tag moved", f"sha256:{image.root(to)}", image.SEEN_MS)
        for v, to in ((m[1], "b"), (m[2], "c"))
    )


def test_moved_tag_is_a_new_entry(runner: BlockRunner) -> None:
    first, second = (imported(runner, each, nonce=n) for n, each in enumerate("ab", 1))
    assert first.document.purl == second.document.purl
    assert first.document.digest() != second.document.digest()


def test_tag_that_moves_back_is_accepted_again_with_the_document_that_the_log_has(
    runner: BlockRunner,
) -> None:
    first = imported(runner, "a", nonce=1)
    imported(runner, "b", nonce=2)
    again = imported(runner, "a", nonce=3, is_new=False)
    assert (again.document, again.request != first.request) == (first.document, True)
    req = runner.open(image.request(runner.members[1], variant="a", nonce=9))
    with pytest.raises(InvalidInputError, match=r"document .* is in the log already"):
        runner.run(
            make.batch(runner.members[0], 4, image.seen(req, image.document("a"))),
            make.result(runner.members[0], req, image.document("a")),
        )


def test_two_digests_of_a_tag_may_be_asked_for_at_the_same_time(runner: BlockRunner) -> None:
    """A tag moved while its old digest is being fetched: the new one need not wait."""
    runner.open(image.request(runner.members[0], variant="a"))
    runner.open(image.request(runner.members[0], variant="b", nonce=1))


def test_fourth_move_within_a_day_waits_for_another_sponsor(runner: BlockRunner) -> None:
    for number in range(1, 4):
        imported(runner, f"{number}", nonce=number)
    with pytest.raises(InvalidInputError, match="requested 3 times by this sponsor"):
        imported(runner, "4", nonce=4)
    imported(runner, "4", nonce=4, sponsor=1)


def test_who_says_what_a_tag_is_says_when_it_was_seen(runner: BlockRunner) -> None:
    req = runner.open(image.request(runner.members[0]))
    unseen = dataclasses.replace(image.seen(req), seen_ms=None)
    with pytest.raises(InvalidInputError, match="about a tag: a BUILT item says when"):
        runner.run(make.batch(runner.members[0], 1, unseen))
    runner.run(make.batch(runner.members[0], 1, make.failed(req, "SOURCE_UNAVAILABLE", "down")))


@pytest.mark.parametrize(("is_after", "past"), [(False, 0), (False, 1), (True, 0), (True, 1)])
def test_sighting_is_of_the_time_of_its_request(
    runner: BlockRunner, *, is_after: bool, past: int
) -> None:
    """Ten minutes of a wrong clock are borne; another year is no sighting of this request."""
    req = runner.open(image.request(runner.members[0]))
    opened_ms = runner.time_ms
    latest_ms = opened_ms + 1_000 + SEEN_SLACK_MS + past
    seen_ms = latest_ms if is_after else opened_ms - SEEN_SLACK_MS - past
    items = (image.seen(req), image.moved(req))
    for item in (dataclasses.replace(each, seen_ms=seen_ms) for each in items):
        batch = make.batch(runner.members[0], 1, item)
        if past:
            with pytest.raises(InvalidInputError, match="the tag was seen at"):
                runner.run(batch)
        else:
            runner.trial(batch)


def test_image_asked_for_by_digest_has_nothing_to_see(runner: BlockRunner) -> None:
    m = runner.members
    req = runner.open(image.request(m[0], purl=image.by_digest()))
    for item in (image.seen(req), image.moved(req)):
        with pytest.raises(InvalidInputError, match="is about no tag"):
            runner.run(make.batch(m[0], 1, item))
    doc = image.document(purl=image.by_digest())
    said = dataclasses.replace(image.seen(req, doc), seen_ms=None)
    execution = runner.run(*(make.batch(v, 1, said) for v in m[:3]), make.result(m[1], req, doc))
    assert isinstance(execution.outcomes[0], Accepted)


def test_nothing_is_seen_of_what_is_rebuilt(runner: BlockRunner) -> None:
    req = runner.open(make.request(runner.members[0]))
    with pytest.raises(InvalidInputError, match="is about no tag: MOVED is no answer"):
        runner.run(make.batch(runner.members[0], 1, image.moved(req)))


def test_document_with_another_root_than_the_request_answers_nothing(runner: BlockRunner) -> None:
    """However many name it: the request pins the digest that its sponsor saw."""
    m = runner.members
    req = runner.open(image.request(m[0], variant="a"))
    other = image.document("b")
    with pytest.raises(InvalidInputError, match="root is not the one of the request"):
        runner.run(
            *(make.batch(v, 1, image.seen(req, other)) for v in m),
            make.result(m[0], req, other),
        )


def test_document_that_is_in_the_log_does_not_answer_a_request_for_another_root(
    runner: BlockRunner,
) -> None:
    m = runner.members
    imported(runner, "a", nonce=1)
    req = runner.open(image.request(m[1], variant="b", nonce=2))
    doc = image.document("a")
    execution = runner.run(*(make.batch(v, 2, image.seen(req, doc)) for v in m[:3]))
    assert execution.outcomes == ()
    assert runner.view(req).is_open


def test_first_word_of_a_moved_tag_stays_while_the_request_is_open(runner: BlockRunner) -> None:
    m = runner.members
    req = runner.open(image.request(m[0]))
    runner.run(make.batch(m[0], 1, image.moved(req)))
    with pytest.raises(InvalidInputError, match="only a BUILT item can be revised"):
        runner.run(make.batch(m[0], 2, image.seen(req)))


def test_late_word_replaces_what_was_said_of_the_move(runner: BlockRunner) -> None:
    m = runner.members
    req = runner.open(image.request(m[0]))
    runner.run(make.batch(m[0], 1, image.moved(req)), make.batch(m[1], 1, image.moved(req)))
    runner.run(make.batch(m[0], 2, image.seen(req)))
    said = runner.view(req).items[m[0]]
    assert (said.outcome, said.moved, said.seen_ms, said.is_late) == ("BUILT", "", None, True)


def test_batch_about_a_tag_waits_for_its_request(runner: BlockRunner) -> None:
    with pytest.raises(NotYetValidError):
        runner.run(make.batch(runner.members[0], 1, image.moved(Sha256("0" * 64))))


def test_sponsors_attempts_at_one_tag_count_for_a_day(runner: BlockRunner) -> None:
    for number in range(1, 4):
        imported(runner, f"{number}", nonce=number)
    until = runner.time_ms + DAY_MS
    late = image.request(runner.members[0], variant="4", nonce=4, until=until)
    runner.open(late, after_ms=GENESIS_TIME_MS + DAY_MS - runner.time_ms + 2_000)
