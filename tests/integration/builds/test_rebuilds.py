"""Open requests are answered, whatever restarts in between and whatever a sponsor asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from buildpipelines.spec import canonical as build_canonical
from buildpipelines.spec.lock import Lock
from buildpipelines.spec.messages import BuildResult, JobFailure
from pyrsia_node.builds.attester import Attester
from pyrsia_node.builds.documents import Documents
from pyrsia_node.builds.rebuilder import Rebuilder
from pyrsia_node.builds.records import OwnItem
from pyrsia_node.core.main import flatten
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.errors import CorruptStateError, InvalidInputError, UnavailableError
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import AttestBatch, FailedItem, decode_transaction
from pyrsia_node.ports import PeerId
from tests.fakes.build_site import BuildSite
from tests.strategies.build_bodies import request
from tests.strategies.identities import GENESIS_TIME_MS

LOCK = build_canonical.dumps(Lock(()).document())


def opened(site: BuildSite, *, number: int = 17, lock: bytes = LOCK) -> Sha256:
    """Have member 1 ask for a build, in the log; return the request's id."""
    body = request(
        site.local.members[1].id,
        purl=Purl.pypi("six", f"1.{number}.0"),
        lock=lock.decode(),
        until=GENESIS_TIME_MS + 12 * 3_600_000,
        nonce=number,
    )
    committed = site.local.commit(body)
    site.local.now_ms += 1_000
    site.watch.advance(committed.tip.height)
    return committed.transaction_ids[0]


@asynccontextmanager
async def rebuilding(site: BuildSite) -> AsyncIterator[Rebuilder]:
    answered = trio.Event()
    rebuilder = Rebuilder(site.context, Documents(site.context), answered.set)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rebuilder.run, nursery)
        yield rebuilder
        nursery.cancel_scope.cancel()


async def answer(site: BuildSite, wanted: Sha256, *, within_s: float = 300) -> OwnItem:
    with trio.fail_after(within_s):
        while (own := site.records.item(wanted)) is None:
            await trio.sleep(0.1)
    return own


async def test_a_request_is_answered_with_what_was_built(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    wanted = opened(site)
    async with rebuilding(site) as rebuilder:
        own = await answer(site, wanted)
        await trio.sleep(1)
        assert rebuilder.wanted() == []
        progress = rebuilder.progress(wanted)
    assert own.item["outcome"] == "BUILT"
    assert own.document is not None
    assert progress is not None
    assert progress.state == "done"
    assert site.worker.jobs == {}
    assert rebuilder._running == {}, "what is done takes no memory"


async def test_a_job_that_outlived_a_restart_of_this_node_is_taken_up_not_refused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    wanted = opened(site)
    site.worker.jobs[f"rebuild-{wanted[:32]}"] = site.result()  # started by an earlier core
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert own.item["outcome"] == "BUILT"
    assert site.worker.started == []


async def test_a_worker_restarted_in_the_middle_builds_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    results: list[object] = [None, site.result()]
    site.worker._results = lambda _method, _params: results.pop(0)
    wanted = opened(site)
    async with rebuilding(site):
        while not site.worker.started:
            await trio.sleep(0.1)
        await trio.sleep(1)
        site.worker.restart()
        own = await answer(site, wanted)
    assert own.item["outcome"] == "BUILT"
    assert len(site.worker.started) == 2


async def test_a_gateway_restarted_in_the_middle_is_waited_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    site.gateway.is_away = True
    wanted = opened(site)
    async with rebuilding(site):
        await trio.sleep(20)
        assert site.records.item(wanted) is None
        site.gateway.is_away = False
        own = await answer(site, wanted)
    assert own.item["outcome"] == "BUILT"


async def test_a_file_that_went_with_its_worker_costs_an_attempt_not_the_node(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    attempts = 0

    def results(_method: str, _params: Mapping[str, object]) -> BuildResult:
        nonlocal attempts
        attempts += 1
        result = site.result(upstream=True)
        if attempts == 1:
            (tmp_path / "upstream.whl").unlink()
        return result

    site.worker._results = results
    wanted = opened(site)
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert own.item["outcome"] == "BUILT"
    assert attempts == 2


async def test_a_failed_build_is_an_answer(tmp_path: Path, autojump_clock: MockClock) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    site.worker._results = lambda *_: JobFailure("BUILD_FAILED", "exit 1", "no compiler")
    wanted = opened(site)
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert (own.item["outcome"], own.item["cause"]) == ("BUILD_FAILED", "exit 1")


async def test_a_recipe_that_the_worker_refuses_is_answered_not_tried_for_ever(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    site.worker._results = lambda *_: InvalidInputError("recipe.umask: not a mode")
    wanted = opened(site)
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert (own.item["outcome"], own.item["cause"]) == ("REFUSED", "request")


async def test_a_document_that_is_no_lock_is_refused(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(b"not a lock")
    wanted = opened(site, lock=b"not a lock")
    async with rebuilding(site):
        own = await answer(site, wanted)
    assert (own.item["outcome"], own.item["cause"]) == ("REFUSED", "lock")


async def test_a_lock_that_nobody_has_does_not_keep_other_requests_from_being_built(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path, parallel=1)
    site.records.add_document(LOCK)
    withheld = opened(site, number=1, lock=b"withheld")
    wanted = opened(site)
    async with rebuilding(site) as rebuilder:
        own = await answer(site, wanted, within_s=30)
        progress = rebuilder.progress(withheld)
    assert own.item["outcome"] == "BUILT"
    assert progress is not None
    assert "not to be had" in progress.detail


async def test_who_was_removed_gives_up_what_it_builds_and_begins_nothing(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    withheld = opened(site, number=1, lock=b"withheld")
    async with rebuilding(site) as rebuilder:
        await trio.sleep(1)
        assert rebuilder.progress(withheld) is not None
        site.is_member = False
        site.records.add_document(LOCK)
        wanted = opened(site)
        await trio.sleep(300)
        assert rebuilder.progress(withheld) is None
        assert rebuilder.wanted() == []
    assert site.worker.started == []
    assert site.records.item(wanted) is None


async def test_a_lock_is_found_at_any_peer_and_kept_and_a_false_one_is_not(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.peers.peers = [PeerId("liar"), PeerId("honest")]

    async def ask(to: PeerId, method: str, _payload: bytes) -> bytes:
        if to not in site.peers.peers:
            raise UnavailableError("away")
        return LOCK if to == "honest" else b"other bytes"

    site.peers.answer = ask
    wanted = opened(site)
    async with rebuilding(site):
        await answer(site, wanted)
    documents = Documents(site.context)
    lock = site.local.chain.request(wanted)
    assert lock is not None
    assert await documents.serve(PeerId("x"), lock.request.lock.encode()) == LOCK


async def test_a_build_that_never_ends_is_given_up_when_its_time_is_over(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    site.worker._results = lambda *_: None
    wanted = opened(site)
    async with rebuilding(site) as rebuilder:
        await trio.sleep(600 + 120)  # class S and the grace
        assert rebuilder.progress(wanted) is None
    assert site.worker.jobs == {}
    assert site.records.item(wanted) is None


async def test_another_package_than_asked_for_is_never_attested(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    site.worker._results = lambda *_: site.result(purl="pkg:pypi/seven@1.17.0")
    wanted = opened(site)
    async with rebuilding(site):
        await trio.sleep(60)
    assert site.records.item(wanted) is None


async def test_our_own_corrupt_state_ends_the_node(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    site.worker._results = lambda *_: CorruptStateError("a leaf is missing")
    opened(site)
    with pytest.raises(BaseExceptionGroup) as caught:
        async with rebuilding(site):
            await trio.sleep(60)
    assert [type(error) for error in flatten(caught.value)] == [CorruptStateError]


# ------------------------------------------------------------ putting answers into the log


def failed(site: BuildSite, wanted: Sha256) -> None:
    item = FailedItem(wanted, "BUILD_FAILED", "exit 1")
    site.records.save_item(wanted, OwnItem(item.to_json(), None, {}))


def items_of(site: BuildSite, transaction: bytes) -> list[str]:
    body = decode_transaction(transaction, network_id=site.local.network_id).body
    return [item.request for item in body.items] if isinstance(body, AttestBatch) else []


async def test_item_then_document_reach_the_log(tmp_path: Path, autojump_clock: MockClock) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    wanted = opened(site)
    async with rebuilding(site):
        own = await answer(site, wanted)
    attester = Attester(site.context)
    for _ in range(2):  # the batch, then the document that it names
        await attester.look()
        assert site.commit_pending() == 1
    await attester.look()
    assert site.commit_pending() == 0
    view = site.local.chain.request(wanted)
    assert view is not None
    assert own.document is not None
    assert own.document.digest() in view.documents


async def test_an_item_that_the_ledger_refuses_does_not_block_the_others(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    wanted = [opened(site, number=number) for number in range(5)]
    for each in wanted:
        failed(site, each)
    spoiled = wanted[3]
    site.refusing = lambda transaction: (
        InvalidInputError("item 0 is invalid") if spoiled in items_of(site, transaction) else None
    )
    attester = Attester(site.context)
    for _ in range(20):
        await attester.look()
        site.commit_pending()
    told = [
        each
        for each in wanted
        if (view := site.local.chain.request(each)) is not None and site.me in view.items
    ]
    assert told == [each for each in wanted if each != spoiled]
    assert attester.unsent() == []


async def test_a_full_mempool_is_waited_for(tmp_path: Path, autojump_clock: MockClock) -> None:
    site = BuildSite(tmp_path)
    wanted = opened(site)
    failed(site, wanted)
    site.refusing = lambda _transaction: UnavailableError("the mempool is full")
    attester = Attester(site.context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attester.run)
        await trio.sleep(10)
        site.refusing = lambda _transaction: None
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert site.commit_pending() == 1


async def test_a_finished_build_is_sent_at_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    site = BuildSite(tmp_path)
    wanted = opened(site)
    attester = Attester(site.context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(attester.run)
        await trio.testing.wait_all_tasks_blocked()
        failed(site, wanted)
        attester.wake()
        await trio.testing.wait_all_tasks_blocked()
        assert len(site.pending.known()) == 1
        nursery.cancel_scope.cancel()


async def test_an_answer_that_comes_after_the_outcome_is_sent_as_well(tmp_path: Path) -> None:
    site = BuildSite(tmp_path)
    wanted = opened(site)
    attester = Attester(site.context)
    assert attester.unsent() == []
    me = site.context.identity.me
    for member in site.local.members:
        if member.id != me:
            item = FailedItem(wanted, "BUILD_FAILED", "it rains")
            site.watch.advance(site.local.commit(AttestBatch(member.id, 1, (item,), {})).tip.height)
    view = site.context.chain.request(wanted)
    assert view is not None
    assert not view.is_open
    late = FailedItem(wanted, "TIMEOUT", "slow")
    site.records.save_item(wanted, OwnItem(late.to_json(), None, {}))
    await attester.look()
    assert site.commit_pending() == 1
    after = site.context.chain.request(wanted)
    assert after is not None
    assert me in after.items
    assert attester.unsent() == []
