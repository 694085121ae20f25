"""In a sealed network an answer is promised first, and shown when nobody can promise any more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trio.testing import MockClock

from pyrsia_node.builds.attester import LARGE_ITEMS_MAX, Attester
from pyrsia_node.builds.records import BuildRecords, OwnItem
from pyrsia_node.model.canonical import INTEGER_MAX
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.limits import ENVIRONMENT_BYTES_MAX, LEAF_BYTES_MAX
from pyrsia_node.model.transactions import (
    AttestBatch,
    AttestCommit,
    Transaction,
    decode_transaction,
    parse_item,
)
from tests.fakes.build_site import BuildSite
from tests.integration.builds.test_rebuilds import LOCK, answer, opened, rebuilding
from tests.strategies import build_bodies as make


def sealed_site(folder: Path) -> BuildSite:
    site = BuildSite(folder)
    site.records.add_document(LOCK)
    site.local.commit(*site.local.set_param("sealed", 1))
    return site


def sent(site: BuildSite) -> list[Transaction]:
    """Return what this node has submitted and no block holds."""
    found = [site.pending._mempool.get(each) for each in site.pending.known()]
    network = site.local.network_id
    return [decode_transaction(each, network_id=network).body for each in found if each]


def others_promise(site: BuildSite, wanted: Sha256, *, members: int = 3) -> None:
    for member in site.local.members[1 : 1 + members]:
        item = make.salted(make.built(wanted))
        site.local.commit(make.commit(member.id, item, site.local.network_id))


def wait_for_the_slow(site: BuildSite) -> None:
    """Let the time pass for which a sealed request waits for more promises."""
    site.local.now_ms = site.local.chain.due_ms() or 0
    site.watch.advance(site.local.commit().tip.height)


async def answered(site: BuildSite, wanted: Sha256) -> OwnItem:
    async with rebuilding(site):
        return await answer(site, wanted)


async def test_an_answer_is_promised_then_shown_then_its_document(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = sealed_site(tmp_path)
    wanted = opened(site)
    own = await answered(site, wanted)
    attester = Attester(site.context)
    await attester.look()
    (promise,) = sent(site)
    assert isinstance(promise, AttestCommit)
    assert site.commit_pending() == 1
    for _ in range(3):
        await attester.look()
        assert sent(site) == [], "nothing is shown while promises are taken"
    others_promise(site, wanted)
    await attester.look()
    (batch,) = sent(site)
    assert isinstance(batch, AttestBatch)
    assert batch.items == (parse_item(own.item),)
    assert len(batch.items[0].salt) == 32
    assert site.commit_pending() == 1
    await attester.look()
    assert site.commit_pending() == 1
    view = site.local.chain.request(wanted)
    assert view is not None
    assert own.document is not None
    assert own.document.digest() in view.documents


async def test_what_was_promised_before_a_kill_is_shown_after_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = sealed_site(tmp_path)
    wanted = opened(site)
    await answered(site, wanted)
    await Attester(site.context).look()
    (promise,) = sent(site)
    # Killed before a block holds the promise: a new process knows what the store has.
    again = replace(site.context, records=BuildRecords(site.local.store))
    reborn = Attester(again)
    await reborn.look()
    assert sent(site) == [promise], "the same promise, not another one"
    site.commit_pending()
    others_promise(site, wanted)
    async with rebuilding(site):
        await reborn.look()
    assert len(site.worker.started) == 1, "it is not built again"
    assert site.commit_pending() == 1
    view = site.local.chain.request(wanted)
    assert view is not None
    assert view.items[site.me].is_built


async def test_who_was_too_slow_to_promise_shows_its_answer_after_the_outcome(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = sealed_site(tmp_path)
    wanted = opened(site)
    others_promise(site, wanted)
    wait_for_the_slow(site)
    await answered(site, wanted)
    attester = Attester(site.context)
    await attester.look()
    assert sent(site) == []
    said = [
        make.batch(each.id, 1, make.salted(make.built(wanted))) for each in site.local.members[1:]
    ]
    site.local.commit(*said, make.result(said[0].voter, wanted))
    assert site.local.chain.open_requests() == []
    await attester.look()
    (batch,) = sent(site)
    assert isinstance(batch, AttestBatch)
    assert batch.items[0].salt == ""
    assert site.commit_pending() == 1


async def test_answer_of_an_open_network_has_no_salt(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site = BuildSite(tmp_path)
    site.records.add_document(LOCK)
    wanted = opened(site)
    own = await answered(site, wanted)
    assert "salt" not in own.item


async def test_view_of_a_sealed_request_names_who_promised(tmp_path: Path) -> None:
    site = sealed_site(tmp_path)
    wanted = opened(site)
    others_promise(site, wanted, members=1)
    view = site.local.chain.request(wanted)
    assert view is not None
    assert view.takes_commits
    assert view.committed == (site.local.members[1].id,)


def test_largest_batch_of_salted_explained_sightings_fits_a_leaf(tmp_path: Path) -> None:
    site = BuildSite(tmp_path)
    digests = [sha256_of(bytes([number])) for number in range(LARGE_ITEMS_MAX)]
    items = tuple(
        replace(
            make.built(each, level=2), salt=f"{1:032x}", seen_ms=INTEGER_MAX, explained=digests[0]
        )
        for each in digests
    )
    environment: dict[str, str | int] = {"k": "x" * (ENVIRONMENT_BYTES_MAX - len('{"k":""}'))}
    body = AttestBatch(site.me, 2**53 - 1, items, environment)
    signed = site.local.sign(body)
    assert len(signed.encoded) <= LEAF_BYTES_MAX
