"""Catch-up against real blocks: hostile peers cost a round, never the process."""

from __future__ import annotations

import struct

import pytest
import trio
from trio.testing import MockClock

from consensus import wire
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.ports import PeerId
from pyrsia_node.replica.apply import apply_decision
from pyrsia_node.replica.catchup_wire import encode_range, join_prefixed, split_prefixed
from pyrsia_node.replica.follow import Follower
from pyrsia_node.replica.plan import AskKind
from pyrsia_node.replica.serving import ANSWER_S, ChainAnswers
from tests.fakes.local_chain import LocalChain
from tests.integration.replica.catchup_peers import (
    HONEST,
    HOSTILE,
    Answer,
    Peers,
    Reader,
    chain_of,
    decision,
    failing,
    replayed_tip,
    request_body,
    saying,
    serving,
    stalling,
)
from tests.strategies.identities import identity


def test_the_next_decision_is_committed_and_any_other_height_is_left_alone() -> None:
    source = chain_of(3)
    reader = Reader(source)
    assert apply_decision(reader.chain, decision(source, 2)) is None
    found = apply_decision(reader.chain, decision(source, 1))
    assert found is not None
    assert found[0].tip.block_hash == reader.chain.tip.block_hash
    assert apply_decision(reader.chain, decision(source, 1)) is None
    assert reader.chain.tip.height == 1


def test_a_decision_that_came_too_late_is_left_alone_though_its_block_changed_the_set() -> None:
    source = chain_of(1)
    committed = source.commit(*source.add(identity(9)))
    assert len(committed.tip.members.members) == 5
    # Three of four signed it; of the five that the tip now has, four would be needed.
    late = decision(source, committed.tip.height)
    assert apply_decision(source.chain, late) is None
    assert apply_decision(source.chain, decision(source, 1)) is None


def test_the_tips_block_under_a_made_up_certificate_is_no_next_block() -> None:
    source = chain_of(2)
    reader = Reader(source)
    apply_decision(reader.chain, decision(source, 1))
    with pytest.raises(VerificationError, match="certificate of height 2, block of height 1"):
        apply_decision(reader.chain, replayed_tip(source, 1))
    assert apply_decision(reader.chain, decision(source, 2)) is not None


@pytest.mark.parametrize("cut", [0, 3, 40, 200])
def test_a_decision_cut_short_is_invalid_input(cut: int) -> None:
    source = chain_of(1)
    with pytest.raises(InvalidInputError):
        apply_decision(Reader(source).chain, decision(source, 1)[:cut])


def test_a_decision_of_another_chain_does_not_hold() -> None:
    other = LocalChain(7)
    other.commit(request_body(other, 1))
    with pytest.raises((VerificationError, InvalidInputError)):
        apply_decision(Reader(chain_of(0)).chain, decision(other, 1))


async def test_a_busy_node_answers_with_what_it_found_before_its_asker_gives_up(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = chain_of(8)
    read = Chain.decision

    def slowly(chain: Chain, height: int) -> tuple[bytes, bytes] | None:
        autojump_clock.jump(1.0)
        return read(chain, height)

    monkeypatch.setattr(Chain, "decision", slowly)
    began = trio.current_time()
    answer = await ChainAnswers(source.chain).decisions(encode_range(first=1, count=8))
    assert trio.current_time() - began <= ANSWER_S + 1.0
    monkeypatch.undo()
    found = split_prefixed(answer, items_max=8)
    assert found == [decision(source, height) for height in range(1, len(found) + 1)]
    assert 1 <= len(found) < 8


async def test_a_follower_reaches_the_tip_of_an_honest_peer(autojump_clock: MockClock) -> None:
    source = chain_of(5)
    reader = Reader(source)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.follow(Peers({HONEST: serving(source)})).run)
        await reader.until(5)
        nursery.cancel_scope.cancel()
    assert reader.chain.tip.root == source.chain.tip.root


HOSTILE_ANSWERS = {
    "not prefixed": saying(b"\xff" * 9),
    "a length past the end": saying(struct.pack(">I", 1 << 31) + b"x"),
    "no decisions": saying(join_prefixed([b"", b"\x00" * 50])),
    "nothing": saying(b""),
    "not found": failing(NotFoundError("no such height")),
    "unavailable": failing(UnavailableError("busy")),
    "invalid": failing(InvalidInputError("what?")),
    "verification": failing(VerificationError("no")),
    "misbehaving": failing(PeerMisbehaviorError("hostile", "an answer without a known status")),
    "stalling": stalling,
}


@pytest.mark.parametrize("name", HOSTILE_ANSWERS)
async def test_a_hostile_peer_costs_rounds_and_never_ends_the_follower(
    name: str, autojump_clock: MockClock
) -> None:
    source = chain_of(3)
    reader = Reader(source)
    peers = Peers({HOSTILE: HOSTILE_ANSWERS[name], HONEST: serving(source)})
    follower = reader.follow(peers)
    async with trio.open_nursery() as nursery:
        follower.hint(HOSTILE, 1_000_000)
        nursery.start_soon(follower.run)
        await reader.until(3)
        nursery.cancel_scope.cancel()
    assert HOSTILE in peers.asked


async def test_a_replayed_tip_never_ends_the_follower(autojump_clock: MockClock) -> None:
    source = chain_of(3)
    reader = Reader(source)
    await reader.apply(decision(source, 1))
    peers = Peers(
        {HOSTILE: saying(join_prefixed([replayed_tip(source, 1)])), HONEST: serving(source)}
    )
    follower = reader.follow(peers)
    async with trio.open_nursery() as nursery:
        follower.hint(HOSTILE, 9)
        nursery.start_soon(follower.run)
        await reader.until(3)
        nursery.cancel_scope.cancel()
    assert HOSTILE in peers.asked


async def test_a_peer_that_stalls_and_hints_without_end_does_not_hold_the_follower(
    autojump_clock: MockClock,
) -> None:
    source = chain_of(1)
    reader = Reader(source)
    peers = Peers({HOSTILE: stalling, HONEST: serving(source)})
    follower = reader.follow(peers)

    async def hint_without_end() -> None:
        while True:
            follower.hint(HOSTILE, 1_000_000)
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hint_without_end)
        nursery.start_soon(follower.run)
        with trio.fail_after(25):  # one stalled round is 10 s
            await reader.watch.beyond(0)
        nursery.cancel_scope.cancel()


async def test_our_own_corrupt_state_stops_the_follower(autojump_clock: MockClock) -> None:
    async def apply(decision: bytes, *, is_proved: bool) -> bool:
        raise CorruptStateError("leaf 7 is missing")

    source = chain_of(1)
    peers = Peers({HONEST: serving(source)})
    follower = Follower(requests=peers, chain=Reader(source).chain, apply=apply)
    with trio.fail_after(30):
        with pytest.RaisesGroup(pytest.RaisesExc(CorruptStateError, match="leaf 7")):
            await follower.run()


# ---------------------------------------------------------------- ranges, and what they prove


def tampered(source: LocalChain, height: int, *, transaction: int = 0) -> bytes:
    """Return the decision of a height with one byte of a transaction's signature changed."""
    found = source.chain.decision(height)
    assert found is not None
    parts = wire.split_block(found[0])
    changed = list(parts.transactions)
    at = changed[transaction].rindex(b'"sig":"') + 7
    digit = b"0" if changed[transaction][at : at + 1] != b"0" else b"1"
    changed[transaction] = changed[transaction][:at] + digit + changed[transaction][at + 1 :]
    block = wire.encode_block(parts.header, parts.parent_certificate, changed)
    return wire.join_decision(block, found[1])


async def test_a_long_chain_comes_in_ranges_from_several_peers(autojump_clock: MockClock) -> None:
    source = chain_of(150)
    reader = Reader(source)
    names = [PeerId(f"peer-{number}") for number in range(5)]
    peers = Peers({name: serving(source) for name in names})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.follow(peers).run)
        await reader.until(150)
        nursery.cancel_scope.cancel()
    assert reader.chain.tip.root == source.chain.tip.root
    assert len(set(peers.asked)) > 1


async def test_transactions_changed_on_the_way_are_their_senders_fault_alone(
    autojump_clock: MockClock,
) -> None:
    source = chain_of(4)
    reader = Reader(source)
    bad = [decision(source, 1), tampered(source, 2), decision(source, 3), decision(source, 4)]
    peers = Peers({HOSTILE: saying(join_prefixed(bad)), HONEST: serving(source)})
    follower = reader.follow(peers)
    async with trio.open_nursery() as nursery:
        follower._plan.connected([HOSTILE, HONEST], trio.current_time())
        follower.hint(HOSTILE, 4)
        nursery.start_soon(follower.run)
        await reader.until(4)
        nursery.cancel_scope.cancel()
    assert peers.asked[0] == HOSTILE
    assert reader.chain.tip.root == source.chain.tip.root
    assert not reader.contradictions
    assert not follower.is_halted


async def test_a_block_that_nobody_sends_as_it_executes_is_an_alarm_and_one_good_sender_ends_it(
    autojump_clock: MockClock,
) -> None:
    source = chain_of(2)
    reader = Reader(source)
    answers: dict[PeerId, Answer] = {
        PeerId(f"liar-{number}"): saying(join_prefixed([tampered(source, 1)]))
        for number in range(3)
    }
    peers = Peers(answers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.follow(peers).run)
        with trio.fail_after(600):
            while not reader.alarms:
                await trio.sleep(1)
        assert "what 3 nodes sent of it does not execute" in reader.alarms[0]
        assert reader.chain.tip.height == 0
        answers[HONEST] = serving(source)
        peers._answers = answers
        await reader.until(2)
        nursery.cancel_scope.cancel()
    assert reader.alarms[-1] == ""


def exchanging(source: LocalChain, parent_certificate: bytes) -> Answer:
    """Serve a chain, but with another parent certificate in each range's first block."""
    honest = serving(source)

    async def answer(method: str, payload: bytes) -> bytes:
        found = await honest(method, payload)
        decisions = split_prefixed(found, items_max=4096) if method == "decisions" else ()
        if not decisions:
            return found
        block, certificate = wire.split_decision(decisions[0])
        parts = wire.split_block(block)
        changed = wire.encode_block(parts.header, parent_certificate, list(parts.transactions))
        return join_prefixed([wire.join_decision(changed, certificate), *decisions[1:]])

    return answer


@pytest.mark.parametrize("begin", [0, 2], ids=["first block", "later block"])
@pytest.mark.parametrize("which", ["left out", "another"])
async def test_a_parent_certificate_that_was_exchanged_is_its_senders_fault_alone(
    which: str, begin: int, autojump_clock: MockClock
) -> None:
    source = chain_of(6)
    reader = Reader(source)
    for height in range(1, begin + 1):
        await reader.apply(decision(source, height))
    other = wire.split_decision(decision(source, 5))[1]
    hostile = exchanging(source, b"" if which == "left out" else other)
    peers = Peers({HOSTILE: hostile, HONEST: serving(source)})
    follower = reader.follow(peers)
    async with trio.open_nursery() as nursery:
        follower.hint(HOSTILE, 6)
        nursery.start_soon(follower.run)
        await reader.until(6)
        nursery.cancel_scope.cancel()
    assert not follower.is_halted
    assert not reader.contradictions


async def test_a_node_that_may_not_go_on_stops_asking_and_serves_on(
    autojump_clock: MockClock,
) -> None:
    """A fork, or rules that it does not know: the process must not end of it."""
    source = chain_of(3)
    reader = Reader(source)

    async def refusing(decision: bytes, *, is_proved: bool = False) -> bool:
        raise UnavailableError("upgrade to rules >= 2")

    reader.apply = refusing  # type: ignore[method-assign]
    peers = Peers({HONEST: serving(source)})
    follower = reader.follow(peers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        with trio.fail_after(60):
            while not follower.is_halted:
                await trio.sleep(1)
        asked = len(peers.asked)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert len(peers.asked) <= asked + 1
    assert reader.alarms == ["upgrade to rules >= 2"]
    assert not reader.contradictions


async def test_a_final_header_that_cannot_follow_halts_the_follower_and_keeps_the_proof(
    autojump_clock: MockClock,
) -> None:
    ours, theirs = chain_of(1), LocalChain(4)
    theirs.now_ms += 5_000
    theirs.commit(request_body(theirs, 3))
    theirs.commit(request_body(theirs, 4))
    reader = Reader(ours)
    await reader.apply(decision(ours, 1))
    follower = reader.follow(Peers({HOSTILE: serving(theirs)}))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        with trio.fail_after(60):
            while not follower.is_halted:
                await trio.sleep(1)
        nursery.cancel_scope.cancel()
    (found,) = reader.contradictions
    assert (found.height, found.block) == (2, theirs.chain.decision(2)[0])  # type: ignore[index]
    assert "parent" in found.reason
    assert "ask the other operators" in reader.alarms[-1]
    assert reader.chain.tip.height == 1
    # The next process of this node asks nobody either, and raises the alarm before anything else.
    reader.alarms.clear()
    peers = Peers({HOSTILE: serving(theirs)})
    follower = reader.follow(peers, contradiction=found)
    assert follower.is_halted
    assert "that cannot follow this node's chain" in reader.alarms[-1]
    with trio.move_on_after(60):
        await follower.run()
    assert peers.asked == []


async def test_asa_2025_001_a_height_that_is_claimed_and_not_shown_holds_nobody(
    autojump_clock: MockClock,
) -> None:
    """CometBFT ASA-2025-001: a peer that claims a great height, then a smaller one."""
    source = chain_of(3)
    reader = Reader(source)
    claims = iter([10**9, 10**6, 7])

    async def shrinking(method: str, payload: bytes) -> bytes:
        follower.hint(HOSTILE, next(claims, 1))
        return b""

    peers = Peers({HOSTILE: shrinking, HONEST: serving(source)})
    follower = reader.follow(peers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await reader.until(3)
        assert follower.target == 3
        source.commit(request_body(source, 9))
        await reader.until(4)
        nursery.cancel_scope.cancel()


async def test_a_head_that_is_proved_and_withheld_does_not_hold_back_what_others_have(
    autojump_clock: MockClock,
) -> None:
    source, ahead = chain_of(3), chain_of(9)
    reader = Reader(source)

    async def withholding(method: str, payload: bytes) -> bytes:
        # 64 proved blocks would be an answer that is full; so the head is asked for by hand.
        return await serving(ahead)(method, payload) if method == "head" else b""

    peers = Peers({HOSTILE: withholding, HONEST: serving(source)})
    follower = reader.follow(peers)
    follower._plan.connected([HOSTILE, HONEST], trio.current_time())
    follower._plan._follow_up(AskKind.HEAD, HOSTILE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await reader.until(3)
        assert follower.target == 9
        nursery.cancel_scope.cancel()
