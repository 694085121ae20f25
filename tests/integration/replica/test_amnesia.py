"""Lost, cut, rotten and restored logs of votes; a key on two machines: nobody votes twice.

Real files, real chains and replicas; links in memory. Every test ends with all frames that ever
left any node being searched for two votes of one member that contradict each other.
The same over loopback, with processes: tests/integration/network/test_member_comes_back.py.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from consensus import ed25519, wire
from consensus.amnesia import Answer, decode_answer, encode_answer, encode_question
from consensus.types import ZERO_DIGEST, Certificate, Digest, Height, NodeId, View, Vote, VoteKind
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.ports import PeerId
from tests.fakes.member_network import MemberNode
from tests.integration.replica.orders import order
from tests.integration.replica.story import OWN, Story, heights_voted


@pytest.fixture
def fast_clock() -> MockClock:
    # Not one that jumps: it would jump whenever a log is being synced, and every timer would fire.
    return MockClock(rate=25)


def lose(folder: Path) -> None:
    shutil.rmtree(folder)


def lose_the_newest_file(folder: Path) -> None:
    max(folder.glob("*.wal")).unlink()


def cut_short(folder: Path) -> None:
    with max(folder.glob("*.wal")).open("r+b") as file:
        file.truncate(4096)


def rot(folder: Path) -> None:
    with min(folder.glob("*.wal")).open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 64)


@pytest.mark.parametrize("harm", [lose, lose_the_newest_file, cut_short, rot])
async def test_member_whose_log_was_harmed_waits_and_then_votes_again(
    harm: Callable[[Path], None], tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 3)
    harm(story.wal)
    async with story.life(0, 1, 2, OWN) as nodes:
        own = nodes[OWN]
        assert "may have forgotten votes" in own.gate.words
        while not own.gate.words.startswith("it has forgotten votes and votes again by itself"):
            await trio.sleep(0.1)
        tip = own.chain.tip.height
        # W = tip + 1: it is silent at tip + 1 and tip + 2.
        await story.commit(nodes, 2)
        assert heights_voted(own) == set()
        assert own.gate.words == ""
        # With another one down every later block needs its vote.
        story.network.down.add(nodes[1].me)
        others = [nodes[0], nodes[2], own]
        await story.commit(others, 2)
        assert heights_voted(own) >= {tip + 3, tip + 4}
        story.network.down.clear()
    async with story.life(0, 1, 2, OWN) as nodes:  # and the next start asks as any other does
        await trio.sleep(5)
        assert nodes[OWN].gate.words == ""
        assert not nodes[OWN].damage
    story.assert_nobody_contradicted_itself()


async def test_restored_image_is_noticed_by_what_the_others_remember(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    """Chain and log are both an older copy: nothing on this machine can show it."""
    story = Story(tmp_path)
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 1)
    image = story.disk_image()
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 3)
    story.put_back(image)
    story.network.machines_start(OWN)
    async with story.life(0, 1, 2, OWN) as nodes:
        own = nodes[OWN]
        assert own.damage == ""
        while "our log does not" not in json.dumps(silence(story)):
            await trio.sleep(0.1)
        assert heights_voted(own) == set()
        await own.until(4)
        await story.commit(nodes, 4)
        assert own.gate.words == ""
    story.assert_nobody_contradicted_itself()


def silence(story: Story) -> object:
    path = story.wal / "silence.json"
    return json.loads(path.read_text()) if path.exists() else None


async def test_image_put_back_while_the_machine_runs_on_is_noticed_at_once(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    """Nobody else has to answer: the machine knows that it has written more."""
    story = Story(tmp_path)
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 1)
    image = story.disk_image()
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 1)
    story.put_back(image)
    own = story.network.node(OWN)
    assert "an older copy was put back" in own.gate.words
    own.wal.close()


async def test_start_of_the_machine_with_a_member_down_waits_for_it_or_for_a_persons_word(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 1)
    story.network.down.add(story.network.members[2].id)
    async with story.life(0, 1, OWN) as nodes:  # another start on machines that ran on
        await story.commit(nodes, 1)
    story.network.machines_start()
    async with story.life(0, 1, OWN) as nodes:
        while not all("nothing outside this disk shows" in node.gate.words for node in nodes):
            await trio.sleep(0.1)
        assert "'pyrsia-node vouch'" in nodes[0].gate.words
        assert [heights_voted(node) for node in nodes] == [set(), set(), set()]
        for index in (0, 1, OWN):
            assert story.network.mark(index).vouch()
        await story.commit(nodes, 1)
        assert [node.gate.words for node in nodes] == ["", "", ""]
    story.network.machines_start()
    story.network.down.clear()
    async with story.life(0, 1, 2, OWN) as nodes:  # or the fourth comes back: nobody has to speak
        await story.commit(nodes, 1)
    story.assert_nobody_contradicted_itself()


async def test_while_a_start_is_in_doubt_another_start_is_in_doubt_too(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 1)
    story.network.machines_start()
    story.network.down |= {story.network.members[index].id for index in (2, OWN)}
    for _ in range(2):
        async with story.life(0, 1) as nodes:
            await nodes[0].pending.submit(order(story.network, 9))
            await trio.sleep(30)
            assert [heights_voted(node) for node in nodes] == [set(), set()]
    assert list(story.network.shared_memory(0).iterdir()) == []


async def test_older_copy_of_the_chain_beside_a_whole_log_is_noticed_at_once(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 1)
        image = story.chain_image()
        await story.commit(nodes, 3)
    story.put_back(image)
    own = story.network.node(OWN)
    assert "the chain database is an older copy" in own.gate.words
    own.wal.close()


async def test_nobody_votes_before_the_others_have_been_asked(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    async with story.life(0) as (alone,):
        await alone.pending.submit(order(story.network, 1))
        await trio.sleep(60)
        assert heights_voted(alone) == set()
        assert "votes once 2 more of" in alone.gate.words
        async with story.life(1):
            await trio.sleep(20)
            assert heights_voted(alone) == set(), "one of three others is no q - 1"
            async with story.life(2):
                await alone.until(1)
                assert alone.gate.words == ""
    story.assert_nobody_contradicted_itself()


async def test_members_that_answer_slowly_are_heard_in_the_end(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    story.network.recall_takes_s = 8.0  # longer than the first questions wait
    async with story.life(0, 1, 2, OWN) as nodes:
        with trio.fail_after(120):
            await story.commit(nodes, 1)
            while nodes[OWN].gate.words:
                await trio.sleep(0.1)


@pytest.mark.parametrize("n", [1, 2, 3])
async def test_small_network_that_lost_votes_stays_silent_and_says_what_to_do(
    n: int, tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path, n)
    everybody = range(n)
    async with story.life(*everybody) as nodes:
        await story.commit(nodes, 1)
    cut_short(tmp_path / "wal-0")
    async with story.life(*everybody) as nodes:
        await nodes[0].pending.submit(order(story.network, 99))
        await trio.sleep(60)
        assert heights_voted(nodes[0]) == set()
        assert nodes[0].chain.tip.height == 1
        assert f"A log of {n} authorized nodes needs its vote" in nodes[0].gate.words
        assert "continuation of the log by hand" in nodes[0].gate.words


async def test_key_that_runs_on_a_second_machine_is_noticed_and_votes_no_more(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    """A copy of the whole data directory goes on voting; the first sign of it ends our votes."""
    story = Story(tmp_path)
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 1)
        own = nodes[OWN]
        # What the copy did: it is in the certificate that the others made of its vote.
        story.network.down.add(own.me)
        await story.commit(nodes[:OWN], 1)
        decision = nodes[0].chain.decision(2)
        assert decision is not None
        block, certificate = decision
        held = wire.decode_certificate(certificate, n=4)
        copy = forged_by_the_copy(story, held)
        await own.driver.apply_decision(
            wire.join_decision(block, wire.encode_certificate(copy, n=4))
        )
        story.network.down.clear()
        assert "KEY IN USE TWICE" in own.gate.words
        assert "rotate-key" in own.gate.words
        before = heights_voted(own)
        await story.commit(nodes, 2)
        assert heights_voted(own) == before
    async with story.life(OWN) as (again,):  # the next start does not forget it
        assert "KEY IN USE TWICE" in again.gate.words
    (story.wal / "silence.json").unlink()  # as the guide says, once the other machine is stopped
    async with story.life(0, 1, 2, OWN) as nodes:
        await trio.sleep(10)
        assert nodes[OWN].gate.words == ""


async def test_vote_of_a_second_machine_is_noticed_in_a_certificate_and_by_itself_never_comes(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    """Only who votes sends a single vote, and nobody has a link to itself."""
    story = Story(tmp_path)
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 1)
        own, other = nodes[OWN], nodes[0]
        alone = nullified_by(story, own, OWN)
        await own.driver.frame_arrived(other.me, wire.encode_message(alone, n=4))
        await story.commit(nodes, 1)
        assert own.gate.words == ""
        assert own.chain.tip.height in heights_voted(own)
        story.network.down.add(own.me)  # the others never cast theirs either, and would notice
        votes = [nullified_by(story, own, index) for index in (0, 1, OWN)]
        held = Certificate(
            VoteKind.NULLIFY,
            own.replica.height,
            votes[0].view,
            ZERO_DIGEST,
            tuple(vote.voter for vote in votes),
            tuple(vote.signature for vote in votes),
        )
        await own.driver.frame_arrived(other.me, wire.encode_message(held, n=4))
        while "KEY IN USE TWICE" not in own.gate.words:
            await trio.sleep(0.1)
        assert "NULLIFY of height 3, view 9" in json.dumps(silence(story))


def nullified_by(story: Story, own: MemberNode, index: int) -> Vote:
    """Return what a copy of a member signs: that it gives up a view far ahead."""
    replica, view = own.replica, View(9)
    signed = wire.vote_bytes(
        VoteKind.NULLIFY,
        replica.height,
        view,
        ZERO_DIGEST,
        chain_id=Digest(story.network.genesis.network_id),
        set_hash=replica.members.set_hash,
    )
    member = story.network.members[index]
    voter = replica.members.index_of(member.id)
    assert voter is not None
    signature = member.sign["vote"](signed)
    return Vote(VoteKind.NULLIFY, replica.height, view, ZERO_DIGEST, voter, signature)


def forged_by_the_copy(story: Story, held: Certificate) -> Certificate:
    members = story.network.nodes[story.network.members[0].id].replica.members_of(Height(2))
    assert members is not None
    signed = wire.vote_bytes(
        held.kind,
        held.height,
        held.view,
        held.block_hash,
        chain_id=Digest(story.network.genesis.network_id),
        set_hash=members.set_hash,
    )
    signature = story.network.members[OWN].sign["vote"](signed)
    return type(held)(
        held.kind,
        held.height,
        held.view,
        held.block_hash,
        (*held.signers, OWN),
        (*held.signatures, signature),
    )


async def test_a_liar_cannot_silence_a_member_by_votes_it_never_cast(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 1)
        known = nodes[0].recall.answer(nodes[1].me, encode_question(Height(0)))
    lie = known[:-64] + bytes(64)
    async with story.life(0, 1, 2, OWN) as nodes:
        nodes[0].recall.answer = lambda _member, _question: lie  # type: ignore[method-assign,assignment]  # the liar
        await story.commit(nodes, 2)
        assert [node.gate.words for node in nodes] == [""] * 4


async def test_recall_answers_only_what_it_can_know(tmp_path: Path) -> None:
    story = Story(tmp_path)
    node = story.network.node(0)
    nothing = encode_answer(Answer(Height(0), None))
    for member in (node.me, None):
        assert node.recall.answer(member, encode_question(Height(0))) == nothing
    for nonsense in (b"", b"x" * 7, b"x" * 9):
        with pytest.raises(InvalidInputError):
            node.recall.answer(node.me, nonsense)
    node.wal.close()


async def test_start_whose_first_questions_are_refused_asks_again_and_votes(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    async with story.life(0, 1, 2) as nodes:
        await story.commit(nodes, 1)
        for node in nodes:
            with pytest.raises(UnavailableError, match="ask again"):
                ask_without_end(node, story.network.members[OWN].id)
        async with story.life(OWN) as (own,):
            with trio.fail_after(30):
                while own.gate.words:
                    await trio.sleep(0.1)


async def test_vote_that_only_a_transcript_holds_is_remembered(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    """A forgotten NULLIFY stands in no final certificate, and not in one without our vote."""
    story = Story(tmp_path)
    members = story.network.members
    story.network.down.add(members[OWN].id)
    async with story.life(0, 1, 2) as nodes:
        await story.commit(nodes, 1)
        recall = nodes[0].recall
        question = encode_question(Height(0))
        assert decode_answer(recall.answer(members[OWN].id, question)) == Answer(Height(1), None)
        skipped = nullification(story, (0, 1, OWN))
        nodes[0].transcripts.keep(1, [skipped])
        found = decode_answer(recall.answer(members[OWN].id, question)).newest
        assert found is not None
        assert (found.vote.kind, found.vote.height) == (VoteKind.NULLIFY, 1)
        chain_id = Digest(story.network.genesis.network_id)
        vote_key = members[OWN].member.record.keys.vote
        assert found.holds(vote_key, chain_id, ed25519.verify)


def nullification(story: Story, signers: tuple[int, ...]) -> Certificate:
    """Return the certificate of view 0 of height 1 that these members would have made."""
    chain = story.network.nodes[story.network.members[0].id].chain
    members = chain.members_at(1).to_consensus()
    by_id = {each.id: each for each in story.network.members}
    signed = wire.vote_bytes(
        VoteKind.NULLIFY,
        Height(1),
        View(0),
        ZERO_DIGEST,
        chain_id=Digest(story.network.genesis.network_id),
        set_hash=members.set_hash,
    )
    wanted = {story.network.members[index].id for index in signers}
    voters = [at for at, member in enumerate(members.members) if member.id in wanted]
    signatures = tuple(by_id[members.members[at].id].sign["vote"](signed) for at in voters)
    return Certificate(VoteKind.NULLIFY, Height(1), View(0), ZERO_DIGEST, tuple(voters), signatures)


async def test_answers_count_for_a_member_far_behind_once_it_has_caught_up(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    async with story.life(0, 1, 2) as nodes:
        await story.commit(nodes, 34)
        answer = decode_answer(nodes[0].recall.answer(nodes[1].me, encode_question(Height(1))))
        assert answer.tip == 34
        async with story.life(OWN) as (late,):
            await late.until(34)
            while late.gate.words:
                await trio.sleep(0.1)


def test_member_that_has_forgotten_vouches_for_nobody(tmp_path: Path) -> None:
    story = Story(tmp_path)
    node = story.network.node(OWN)
    assert node.gate.may_answer
    node.wal.close()
    (story.wal / "silence.json").write_bytes(b"not ours")
    again = story.network.node(OWN)
    assert not again.gate.may_answer
    assert "cannot be read" in again.gate.words
    with pytest.raises(UnavailableError):
        trio.run(ask_recall, story, again)
    again.wal.close()


async def test_member_that_has_forgotten_vouches_for_nobody_over_one_more_start(
    tmp_path: Path, fast_clock: MockClock
) -> None:
    story = Story(tmp_path)
    async with story.life(0, 1, 2, OWN) as nodes:
        await story.commit(nodes, 2)
    cut_short(story.wal)
    async with story.life(0, 1, 2, OWN) as nodes:
        while not nodes[OWN].gate.words.startswith("it has forgotten votes and votes again"):
            await trio.sleep(0.1)
    async with story.life(0, 1, 2, OWN) as nodes:
        own = nodes[OWN]
        assert own.damage == ""
        assert not own.gate.may_answer
        await story.commit(nodes, 2)
        while own.gate.words:
            await trio.sleep(0.1)
        assert own.gate.may_answer


def ask_without_end(node: MemberNode, member: NodeId) -> None:
    while True:
        node.recall.answer(member, encode_question(Height(0)))


async def ask_recall(story: Story, node: MemberNode) -> bytes:
    other = story.network.node(0)
    try:
        return await other.ask(
            PeerId(node.me), "recall", encode_question(Height(0)), timeout_s=1, answer_bytes_max=200
        )
    finally:
        other.wal.close()
