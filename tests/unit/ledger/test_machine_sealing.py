"""Sealed requests: commits first, then an unsealed leaf, then only items that open a commit."""

from __future__ import annotations

import pytest

from consensus.types import NodeId
from pyrsia_node.ledger.machine.context import NotYetValidError
from pyrsia_node.ledger.machine.execute import Execution
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.leaves import (
    Accepted,
    Diverged,
    Expired,
    Failed,
    LateDivergence,
    Level,
    Unsealed,
)
from pyrsia_node.model.sealing import commitment
from pyrsia_node.model.transactions import AttestCommit, Item
from tests.fakes.block_runner import NETWORK, BlockRunner
from tests.strategies import build_bodies as make
from tests.strategies import member_bodies as change
from tests.strategies.identities import identity

SHORT_MS = 600_000
PATIENCE_MS = SHORT_MS // 16
OTHER = make.document(".other")


@pytest.fixture
def runner() -> BlockRunner:
    runner = BlockRunner()
    runner.run(*runner.approved(change.set_param(runner.members[0], "sealed", 1, nonce=1)))
    return runner


@pytest.fixture
def req(runner: BlockRunner) -> Sha256:
    return runner.open(make.request(runner.members[0]))


def commit(runner: BlockRunner, voter: int, item: Item) -> AttestCommit:
    return make.commit(runner.members[voter], item, NETWORK)


def shown(req: Sha256, voter: int, *, own: str = "", level: int = 0) -> Item:
    return make.salted(make.built(req, own=own, level=level), voter + 1)


def commit_all(runner: BlockRunner, req: Sha256, *voters: int) -> Execution:
    return runner.run(*(commit(runner, each, shown(req, each)) for each in voters))


def reveal(runner: BlockRunner, req: Sha256, *voters: int, seq: int = 1) -> Execution:
    return runner.run(*(make.batch(runner.members[each], seq, shown(req, each)) for each in voters))


def test_unsealed_when_all_committed_and_accepted_when_k_showed(
    runner: BlockRunner, req: Sha256
) -> None:
    execution = commit_all(runner, req, 0, 1, 2, 3)
    assert execution.outcomes == (Unsealed(req, runner.members),)
    assert runner.view(req).unsealed_leaf == len(runner.leaves) - 1
    assert not reveal(runner, req, 0, 1, 2).outcomes
    execution = runner.run(make.result(runner.members[0], req))
    assert [type(each) for each in execution.outcomes] == [Accepted]


def test_no_item_is_valid_before_the_unsealed_leaf(runner: BlockRunner, req: Sha256) -> None:
    voter = runner.members[0]
    with pytest.raises(NotYetValidError, match="is sealed: members commit, nobody shows"):
        runner.run(make.batch(voter, 1, make.built(req)))
    commits = [commit(runner, each, shown(req, each)) for each in range(4)]
    with pytest.raises(NotYetValidError, match="is sealed"):
        # Not even behind the last commit: the leaf is at the end of the block.
        runner.run(*commits, make.batch(voter, 1, shown(req, 0)))
    with pytest.raises(NotYetValidError, match="no counted item"):
        runner.run(*commits, make.result(voter, req))


def test_a_copycat_that_waits_for_the_others_cannot_be_counted(
    runner: BlockRunner, req: Sha256
) -> None:
    copycat = runner.members[3]
    commit_all(runner, req, 0, 1, 2)
    runner.run(after_ms=PATIENCE_MS)
    reveal(runner, req, 0, 1)
    # It sees what the others say, and has nothing that this opens.
    with pytest.raises(InvalidInputError, match="takes no commits any more"):
        runner.run(commit(runner, 3, shown(req, 3)))
    with pytest.raises(NotYetValidError, match="made no commit"):
        runner.run(make.batch(copycat, 1, shown(req, 3)))
    with pytest.raises(NotYetValidError, match="made no commit"):
        runner.run(make.batch(copycat, 1, make.built(req)))
    execution = runner.run(
        make.batch(runner.members[2], 1, shown(req, 2)), make.result(runner.members[0], req)
    )
    (accepted,) = execution.outcomes
    assert isinstance(accepted, Accepted)
    assert [each.id for each in accepted.attestors] == sorted(runner.members[:3])


def test_a_copycat_that_commits_to_anything_cannot_open_it_as_what_others_built(
    runner: BlockRunner, req: Sha256
) -> None:
    runner.run(
        *(commit(runner, each, shown(req, each)) for each in (0, 1, 2)),
        AttestCommit(runner.members[3], req, make.digest("whatever")),
    )
    reveal(runner, req, 0, 1)
    with pytest.raises(InvalidInputError, match=r"opens .*, not"):
        runner.run(make.batch(runner.members[3], 1, shown(req, 3)))


def test_a_commit_of_another_member_opens_nothing(runner: BlockRunner, req: Sha256) -> None:
    theirs = commit(runner, 0, shown(req, 0))
    copied = AttestCommit(runner.members[1], req, theirs.commit)
    runner.run(theirs, copied, *(commit(runner, each, shown(req, each)) for each in (2, 3)))
    with pytest.raises(InvalidInputError, match="opens"):
        runner.run(make.batch(runner.members[1], 1, shown(req, 0)))


@pytest.mark.parametrize(
    "changed", [{"level": 1}, {"own": "other"}], ids=["another level", "another build"]
)
def test_an_item_must_be_the_one_that_was_promised(
    runner: BlockRunner, req: Sha256, changed: dict[str, str]
) -> None:
    commit_all(runner, req, 0, 1, 2, 3)
    item = shown(req, 0, **changed)  # type: ignore[arg-type]  # two keywords of two types
    with pytest.raises(InvalidInputError, match="opens"):
        runner.run(make.batch(runner.members[0], 1, item))
    with pytest.raises(InvalidInputError, match="lacks the salt"):
        runner.run(make.batch(runner.members[0], 1, make.built(req)))


def test_salt_stands_only_in_the_item_that_opens(runner: BlockRunner, req: Sha256) -> None:
    commit_all(runner, req, 0, 1, 2, 3)
    reveal(runner, req, 0)
    revised = make.salted(make.built(req, OTHER))
    with pytest.raises(InvalidInputError, match="salt opens no commit"):
        runner.run(make.batch(runner.members[0], 2, revised))
    runner.run(make.batch(runner.members[0], 2, make.built(req, OTHER)))


def test_request_that_is_not_sealed_takes_neither_commit_nor_salt() -> None:
    runner = BlockRunner()
    req = runner.open(make.request(runner.members[0]))
    with pytest.raises(InvalidInputError, match="is not sealed: it takes no commits"):
        commit_all(runner, req, 0)
    with pytest.raises(InvalidInputError, match="salt opens no commit"):
        reveal(runner, req, 0)


def test_what_was_opened_unsealed_stays_so(runner: BlockRunner, req: Sha256) -> None:
    runner.run(*runner.approved(change.set_param(runner.members[0], "sealed", 0, nonce=2)))
    with pytest.raises(NotYetValidError, match="is sealed"):
        runner.run(make.batch(runner.members[0], 1, make.built(req)))
    commit_all(runner, req, 0, 1, 2, 3)


def test_each_refusal_of_a_commit_names_its_rule(runner: BlockRunner, req: Sha256) -> None:
    stranger = identity(9)
    with pytest.raises(InvalidInputError, match="no authorized node"):
        runner.run(AttestCommit(stranger.id, req, make.digest("x")))
    with pytest.raises(NotYetValidError, match="no build request"):
        runner.run(AttestCommit(runner.members[0], make.digest("other"), make.digest("x")))
    commit_all(runner, req, 0)
    with pytest.raises(InvalidInputError, match=r"has committed .* already"):
        runner.run(AttestCommit(runner.members[0], req, make.digest("x")))
    runner.run(*runner.add(stranger))
    with pytest.raises(InvalidInputError, match="was not authorized when"):
        runner.run(AttestCommit(stranger.id, req, make.digest("x")))
    runner.run(after_ms=SHORT_MS)
    with pytest.raises(InvalidInputError, match="is closed"):
        runner.run(AttestCommit(runner.members[1], req, make.digest("x")))


def test_slower_members_are_waited_for_as_long_again_as_the_kth_took(
    runner: BlockRunner, req: Sha256
) -> None:
    runner.run(after_ms=99_000)
    commit_all(runner, req, 0, 1, 2)
    execution = runner.run()
    assert execution.due_ms == runner.time_ms - 1_000 + 100_000
    execution = runner.run(after_ms=execution.due_ms - runner.time_ms - 1)
    assert not execution.outcomes
    execution = runner.run(after_ms=1)
    assert execution.outcomes == (Unsealed(req, runner.members[:3]),)
    assert execution.due_ms == runner.view(req).deadline_ms


def test_a_quarter_of_the_time_stays_for_the_items(runner: BlockRunner, req: Sha256) -> None:
    runner.run(after_ms=SHORT_MS // 2)
    execution = commit_all(runner, req, 0, 1, 2)
    assert execution.due_ms == runner.view(req).deadline_ms - SHORT_MS // 4
    runner.run(after_ms=execution.due_ms - runner.time_ms)
    assert runner.view(req).unsealed_leaf is not None


def test_late_kth_commit_unseals_at_once(runner: BlockRunner, req: Sha256) -> None:
    runner.run(after_ms=SHORT_MS - SHORT_MS // 8)
    assert commit_all(runner, req, 0, 1, 2).outcomes == (Unsealed(req, runner.members[:3]),)


def test_too_few_commits_expire_and_name_who_was_silent(runner: BlockRunner, req: Sha256) -> None:
    commit_all(runner, req, 0, 1)
    execution = runner.run(after_ms=SHORT_MS)
    assert execution.outcomes == (Expired(req, make.PURL, runner.members[2:]),)
    # After the deadline they may show what they built, for whoever wants to know.
    reveal(runner, req, 0, 1)
    assert len(runner.view(req).items) == 2


def test_who_commits_and_shows_nothing_cannot_stop_the_others(
    runner: BlockRunner, req: Sha256
) -> None:
    commit_all(runner, req, 0, 1, 2, 3)
    reveal(runner, req, 0, 1, 2)
    execution = runner.run(make.result(runner.members[0], req))
    assert [type(each) for each in execution.outcomes] == [Accepted]


def test_failures_are_promised_and_shown_like_builds(runner: BlockRunner, req: Sha256) -> None:
    items: list[Item] = [make.salted(make.failed(req), each) for each in range(4)]
    runner.run(*(commit(runner, each, items[each]) for each in range(4)))
    runner.run(make.batch(runner.members[0], 1, items[0]))
    execution = runner.run(make.batch(runner.members[1], 1, items[1]))
    assert [type(each) for each in execution.outcomes] == [Failed]


def test_no_hope_without_k_who_committed(runner: BlockRunner, req: Sha256) -> None:
    commit_all(runner, req, 0, 1, 2)
    runner.run(after_ms=PATIENCE_MS)
    failed = make.salted(make.failed(req), 9)
    items = [shown(req, 0), shown(req, 1, own="other")]
    runner.run(*(make.batch(runner.members[each], 1, items[each]) for each in (0,)))
    with pytest.raises(InvalidInputError, match="opens"):
        runner.run(make.batch(runner.members[2], 1, failed))
    execution = runner.run(*runner.remove(runner.members[2]))
    # Of four two are left that may show something, and three are needed.
    assert [type(each) for each in execution.outcomes] == [Failed]


def test_members_with_different_results_diverge(runner: BlockRunner, req: Sha256) -> None:
    documents = [make.document(f".{each}") for each in range(4)]
    items = [
        make.salted(make.built(req, documents[each], own=f"{each}"), each) for each in range(4)
    ]
    runner.run(*(commit(runner, each, items[each]) for each in range(4)))
    execution = runner.run(*(make.batch(runner.members[each], 1, items[each]) for each in range(4)))
    assert [type(each) for each in execution.outcomes] == [Diverged]


def accepted_without(runner: BlockRunner, req: Sha256, *, level: int) -> NodeId:
    """Have members 0 to 2 accept at a level; return the member that made no commit."""
    items = [shown(req, each, level=level) for each in range(3)]
    runner.run(*(commit(runner, each, items[each]) for each in range(3)))
    runner.run(after_ms=PATIENCE_MS)
    runner.run(
        *(make.batch(runner.members[each], 1, items[each]) for each in range(3)),
        make.result(runner.members[0], req),
    )
    assert runner.view(req).outcome == "accepted"
    return runner.members[3]


def test_late_item_without_a_commit_tells_a_difference(runner: BlockRunner, req: Sha256) -> None:
    late = accepted_without(runner, req, level=0)
    with pytest.raises(InvalidInputError, match="salt opens no commit"):
        runner.run(make.batch(late, 1, make.salted(make.built(req, own="late"))))
    execution = runner.run(make.batch(late, 1, make.built(req, own="late")))
    assert execution.outcomes == (LateDivergence(req, late, make.own_roots("late")[0]),)


def test_late_item_without_a_commit_lowers_no_level(runner: BlockRunner, req: Sha256) -> None:
    copycat = accepted_without(runner, req, level=1)
    for voter in runner.members[:2]:
        assert not runner.run(make.batch(voter, 2, make.built(req, level=0))).outcomes
    assert not runner.run(make.batch(copycat, 1, make.built(req, level=0))).outcomes
    execution = runner.run(make.batch(runner.members[2], 2, make.built(req, level=0)))
    assert execution.outcomes == (Level(req, 0),)


def test_last_missing_member_that_leaves_unseals(runner: BlockRunner, req: Sha256) -> None:
    commit_all(runner, req, 0, 1, 2)
    execution = runner.run(*runner.remove(runner.members[3]))
    assert execution.outcomes == (Unsealed(req, runner.members),)


def test_who_left_is_not_counted_among_the_committed(runner: BlockRunner, req: Sha256) -> None:
    commit_all(runner, req, 0, 1, 2)
    execution = runner.run(*runner.remove(runner.members[0]))
    assert not execution.outcomes
    assert execution.due_ms == runner.view(req).deadline_ms
    missing = runner.members[2]
    execution = runner.run(
        make.commit(missing, make.salted(make.built(req), 4), NETWORK), after_ms=1
    )
    assert execution.outcomes == (Unsealed(req, runner.members),)


def test_too_few_members_that_stay_fail(runner: BlockRunner, req: Sha256) -> None:
    runner.run(*runner.remove(runner.members[0]))
    execution = runner.run(*runner.remove(runner.members[0]))
    assert execution.outcomes == (Failed(req, make.PURL, ()),)


def test_commit_binds_item_voter_network_and_salt(runner: BlockRunner, req: Sha256) -> None:
    one, other = runner.members[:2]
    item = shown(req, 0)
    found = {
        commitment(item, voter=one, network_id=NETWORK),
        commitment(item, voter=other, network_id=NETWORK),
        commitment(item, voter=one, network_id=bytes(31) + b"\1"),
        commitment(shown(req, 1), voter=one, network_id=NETWORK),
        commitment(shown(req, 0, level=1), voter=one, network_id=NETWORK),
        commitment(make.salted(make.failed(req)), voter=one, network_id=NETWORK),
    }
    assert len(found) == 6
