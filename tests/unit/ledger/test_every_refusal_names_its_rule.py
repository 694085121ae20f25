"""Every place where the state machine refuses is reached here, and says which rule was broken.

One table for all kinds of transactions. A rule without a row, or a row whose refusal changes the
state, fails; so does a new ``raise`` that nobody put into the table.
"""

from __future__ import annotations

import ast
import dataclasses
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from pyrsia_node.ledger import machine
from pyrsia_node.ledger.machine import membership
from pyrsia_node.ledger.machine.approvals import APPROVAL_HEIGHTS_MAX, APPROVALS_MAX
from pyrsia_node.ledger.machine.context import NotYetValidError
from pyrsia_node.ledger.machine.evidence import EVIDENCE_PER_BLOCK_MAX, evidence_of
from pyrsia_node.ledger.machine.statements import ADVICE_PER_DAY_MAX
from pyrsia_node.model.approvals import APPROVED_OPERATIONS, Approve
from pyrsia_node.model.digest import ZERO_SHA256, Sha256, sha256_of
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.evidence import Evidence
from pyrsia_node.model.genesis import DEFAULT_PARAMS, ECOSYSTEMS_MAX, Params
from pyrsia_node.model.mappings import SourceMapping
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.statements import Revoke, Vulnerable, Withdraw
from pyrsia_node.model.transactions import AttestCommit, Item, Transaction
from tests.fakes.block_runner import NETWORK, BlockRunner
from tests.fakes.machine_scene import (
    DAY_MS,
    FOUR,
    FOURTH,
    ME,
    NEW,
    NONCE,
    NOWHERE,
    OTHER,
    REQ,
    SHORT_MS,
    STRANGER,
    YOU,
    Make,
    Scene,
    after,
)
from tests.strategies import build_bodies as make
from tests.strategies import image_bodies as image
from tests.strategies import maven_bodies as maven
from tests.strategies import member_bodies as change
from tests.strategies.crimes import PAIRS, crime
from tests.strategies.identities import Identity


def request_under(params: Params, *, twice: bool = False) -> Make:
    def rule(scene: Scene) -> list[Transaction]:
        scene.runner = BlockRunner(params=params)
        if twice:
            scene.open()
        return [make.request(ME, lock="next", nonce=1)]

    return rule


def sealed_item(item: Callable[[Sha256], Item], *voters: int, by: int = 0) -> Make:
    return lambda s: [make.batch(FOUR[by].id, 1, item(s.sealed(*voters)))]


def commit(req: Sha256, voter: int = 0) -> AttestCommit:
    return AttestCommit(FOUR[voter].id, req, make.digest("commit"))


def said(scene: Scene, *words: Item, late: Callable[[Sha256], Item]) -> list[Transaction]:
    """Say something of an open request, item by item; then ``late``."""
    req = scene.open()
    for number, word in enumerate(words, 1):
        scene.runner.run(make.batch(ME, number, dataclasses.replace(word, request=req)))
    return [make.batch(ME, len(words) + 1, late(req))]


def late(scene: Scene, *words: Item, last: Item) -> list[Transaction]:
    """Say something after the outcome, item by item; then ``last``."""
    req = scene.accepted()
    for number, word in enumerate(words, 1):
        scene.runner.run(make.batch(FOURTH, number, dataclasses.replace(word, request=req)))
    return [make.batch(FOURTH, len(words) + 1, dataclasses.replace(last, request=req))]


def unfit(claim: str, purl: Purl = make.PURL) -> Make:
    def rule(scene: Scene) -> list[Transaction]:
        doc = make.document(claim=claim, purl=purl)
        req = scene.open()
        scene.runner.run(make.batch(ME, 1, make.built(req, doc)))
        return [make.result(ME, req, doc)]

    return rule


def evidence(scene: Scene, **changed: object) -> list[Transaction]:
    voters = scene.runner.voters[0]
    found = evidence_of(crime(FOUR[3], network_id=NETWORK, voters=voters), by=ME)
    return [dataclasses.replace(found, **changed)]  # type: ignore[arg-type]


def every_crime(scene: Scene) -> list[Evidence]:
    voters = scene.runner.voters[0]
    return [
        evidence_of(crime(one, name, network_id=NETWORK, voters=voters), by=ME)
        for name in PAIRS
        for one in FOUR[2:]
    ]


def convicted(scene: Scene) -> list[Transaction]:
    scene.runner.run(*evidence(scene))
    voters = scene.runner.voters[0]
    return [evidence_of(crime(FOUR[3], network_id=NETWORK, voters=voters, view=3), by=ME)]


def advice(by: str, number: int) -> Vulnerable:
    return Vulnerable(type(ME)(by), make.PURL, "CVE-1", "backdoor", f"{number:032x}")


def advised(scene: Scene) -> list[Transaction]:
    scene.runner.run(*(advice(ME, number) for number in range(ADVICE_PER_DAY_MAX)))
    return [advice(ME, ADVICE_PER_DAY_MAX)]


def withdrawing(entry: int | None, purl: Purl = make.PURL) -> Make:
    def rule(scene: Scene) -> list[Transaction]:
        leaf = scene.runner.view(scene.accepted()).outcome_leaf
        assert leaf is not None
        statement = Withdraw(ME, purl, leaf if entry is None else entry, "why", NONCE)
        yes = [change.approve(one.id, statement, NETWORK, expiry=99) for one in FOUR[:3]]
        scene.runner.run(*yes)
        return [statement]

    return rule


def revoked(scene: Scene) -> list[Transaction]:
    statement = Revoke(ME, make.PURL, make.digest("bytes"), "malware", NONCE)
    yes = [change.approve(one.id, statement, NETWORK, expiry=99) for one in FOUR[:3]]
    scene.runner.run(*yes, statement)
    return [dataclasses.replace(statement, by=YOU)]


def mapped(scene: Scene) -> None:
    scene.done(maven.add_source(ME))


def approvals(scene: Scene) -> list[Transaction]:
    kinds, expiry = APPROVED_OPERATIONS, scene.runner.height + 5
    return [
        Approve(ME, kinds[n % len(kinds)], sha256_of(bytes([n])), since=0, expiry=expiry)
        for n in range(APPROVALS_MAX + 1)
    ]


def yes(scene: Scene, by: str, *ahead: int) -> list[Transaction]:
    operation = scene.adding()
    return [
        change.approve(type(ME)(by), operation, NETWORK, expiry=scene.runner.height + each)
        for each in ahead
    ]


def kept_back(scene: Scene) -> list[Transaction]:
    operation = change.set_param(ME, "burst", 5)
    scene.done(operation)
    return [change.approve(ME, operation, NETWORK, expiry=99)]


def of_a_height_to_come(scene: Scene) -> list[Transaction]:
    height = scene.runner.height + 3
    return [change.approve(ME, scene.adding(), NETWORK, since=height, expiry=99)]


def too_large(scene: Scene, name: str, bound: int) -> list[Transaction]:
    scene.patch.setattr(membership, name, bound)
    return scene.runner.add(NEW)


def second_in_the_log(scene: Scene) -> list[Transaction]:
    first = change.set_param(ME, "burst", 5)
    scene.done(first)
    scene.done(change.set_param(ME, "burst", 6, nonce=1))
    now = scene.runner.height
    renewed = [change.approve(one.id, first, NETWORK, since=now, expiry=99) for one in FOUR]
    return [*renewed, first]


def back_again(scene: Scene) -> list[Transaction]:
    scene.done(scene.rotating(change.renewed(FOUR[0].member.record, NEW)))
    return scene.approved(scene.rotating(FOUR[0]))


def aged(scene: Scene) -> list[Transaction]:
    scene.runner.heads += [scene.runner.heads[0]] * 256
    return scene.approved(scene.adding(height=0))


def another_ecosystem(scene: Scene) -> list[Transaction]:
    many = {f"e{number}": 0 for number in range(ECOSYSTEMS_MAX)}
    scene.runner = BlockRunner(params=only(k=many))
    return scene.approved(change.set_param(ME, "k.more", 1))


def removing_the_last(scene: Scene) -> list[Transaction]:
    scene.runner = BlockRunner(1)
    (last,) = scene.runner.members
    return scene.approved(change.remove(last, last))


def of_a_removed_member(scene: Scene) -> list[Transaction]:
    gone = FOUR[3].member.record
    scene.done(change.remove(ME, FOURTH))
    keys = dataclasses.replace(NEW.member.record.keys, vote=gone.keys.vote)
    record = dataclasses.replace(NEW.member.record, keys=keys)
    thief = dataclasses.replace(NEW, member=dataclasses.replace(NEW.member, record=record))
    return scene.approved(scene.adding(thief))


def with_the_label_of(other: Identity) -> Identity:
    record = dataclasses.replace(NEW.member.record, label=other.member.record.label)
    return dataclasses.replace(NEW, member=dataclasses.replace(NEW.member, record=record))


def only(**changed: object) -> Params:
    return dataclasses.replace(DEFAULT_PARAMS, **changed)  # type: ignore[arg-type]


def label_of(one: Identity, label: str) -> Identity:
    return change.renewed(one.member.record, NEW, label=label)


FINAL: dict[str, Make] = {
    # build_request
    "sponsor .* is no authorized node": lambda _: [make.request(STRANGER.id)],
    "4 authorized nodes are too few": request_under(only(min_authorized=5)),
    "does not rebuild pypi packages, only: docker": request_under(only(k={"docker": 0})),
    "pypi needs 5 equal builds, but only 4": request_under(only(k={"pypi": 5})),
    "build request was valid until": lambda _: [make.request(ME, until=1)],
    "build request .* is in the log already": after(
        Scene.open, Scene.time_is_over, bodies=lambda _: [make.request(ME)]
    ),
    "an equal build request is open": after(
        Scene.open, bodies=lambda _: [make.request(YOU, nonce=1)]
    ),
    "was requested 3 times by this sponsor": lambda _: [
        make.request(ME, lock=f"{n}") for n in range(4)
    ],
    "is in the block already": lambda _: [make.request(ME), make.request(ME)],
    # attest_batch
    "voter .* is no authorized node": lambda s: [make.batch(STRANGER.id, 1, make.built(s.open()))],
    "batch 1 of this voter is in the log already": after(
        Scene.accepted, bodies=lambda _: [make.batch(ME, 1, make.built(NOWHERE))]
    ),
    "was not authorized when request": after(
        Scene.open, Scene.one_joins, bodies=lambda _: [make.batch(NEW.id, 1, make.built(REQ))]
    ),
    "about a tag: a BUILT item says when it was seen": lambda s: [
        make.batch(ME, 1, make.built(s.runner.open(image.request(ME)), image.document()))
    ],
    "before it opened or after the block": lambda s: [
        make.batch(
            ME, 1, dataclasses.replace(image.seen(s.runner.open(image.request(ME))), seen_ms=0)
        )
    ],
    "is about no tag: MOVED is no answer": lambda s: [make.batch(ME, 1, image.moved(s.open()))],
    "the roots of the own build changed": lambda s: said(
        s, make.built(NOWHERE), late=lambda req: make.built(req, own="other")
    ),
    "only a BUILT item can be revised": lambda s: said(s, make.failed(NOWHERE), late=make.built),
    "has used its 2 revisions": lambda s: said(
        s, *[make.built(NOWHERE)] * 3, late=lambda req: make.built(req, OTHER)
    ),
    "has used its late item": lambda s: late(s, make.built(NOWHERE), last=make.built(NOWHERE)),
    "a BUILT item cannot be taken back": after(
        Scene.accepted, bodies=lambda _: [make.batch(ME, 2, make.failed(REQ))]
    ),
    # attest_commit, and items of sealed requests
    "^transaction 0 .* voter .* is no authorized node": lambda s: [
        AttestCommit(STRANGER.id, s.sealed(), NOWHERE)
    ],
    "is not sealed: it takes no commits": lambda s: [commit(s.open())],
    "was not authorized when request .* opened": after(
        Scene.sealed, Scene.one_joins, bodies=lambda _: [AttestCommit(NEW.id, REQ, NOWHERE)]
    ),
    "build request .* is closed": after(
        Scene.sealed, Scene.time_is_over, bodies=lambda _: [commit(REQ)]
    ),
    "takes no commits any more: it was unsealed at index": lambda s: [commit(s.sealed(0, 1, 2, 3))],
    "has committed to its item of request .* already": lambda s: [commit(s.sealed(0))],
    "the item's salt opens no commit": lambda s: [
        make.batch(ME, 1, make.salted(make.built(s.open())))
    ],
    "the item lacks the salt of its commit": sealed_item(make.built, 0, 1, 2, 3),
    "the item opens .*, not": sealed_item(lambda req: make.salted(make.built(req), 9), 0, 1, 2, 3),
    # result
    "voter .* is no authorized node$": lambda s: [make.result(STRANGER.id, s.open())],
    "build request .* is closed$": lambda s: [make.result(ME, s.accepted(), OTHER)],
    "document .* is in the log already": lambda s: [
        make.batch(ME, 1, make.built(s.open())),
        make.result(ME, REQ),
        make.result(YOU, REQ),
    ],
    "document is about pkg:pypi/six@2, the request about": unfit("rebuilt", Purl.pypi("six", "2")),
    "the document's claims do not fit the request's claim": unfit("mirrored"),
    # approve
    "no authorized node, so it approves nothing": lambda s: yes(s, STRANGER.id, 5),
    "approval expires at height 100002; signed at height 0, it must be 1 to 100000": lambda s: yes(
        s, ME, APPROVAL_HEIGHTS_MAX + 2
    ),
    "approved add_node .* already, up to height": lambda s: yes(s, ME, 5, 4),
    "approved set_param .* at height 0 already; it happened at height 1": kept_back,
    # the four changes
    f"{STRANGER.id} is no authorized node": lambda s: s.approved(s.adding(by=STRANGER.id)),
    "change .* is in the log already": second_in_the_log,
    "parameter burst is 0, not 1 to 1000000": lambda s: s.approved(
        change.set_param(ME, "burst", 0)
    ),
    "parameter burst is 64 already": lambda s: s.approved(change.set_param(ME, "burst", 64)),
    "no parameter is named 'speed'": lambda s: s.approved(change.set_param(ME, "speed", 1)),
    "the network has 32 ecosystems": another_ecosystem,
    f"{YOU} is an authorized node already": lambda s: s.approved(s.adding(FOUR[1])),
    f"{STRANGER.id} is no authorized node$": lambda s: s.approved(change.remove(ME, STRANGER.id)),
    "is the last authorized node": removing_the_last,
    "a rotation keeps the label": lambda s: s.approved(s.rotating(label_of(FOUR[0], "newer"))),
    "are these already": lambda s: s.approved(s.rotating(FOUR[0])),
    "was retired by a rotation": back_again,
    f"was of member {FOURTH}": of_a_removed_member,
    "two members share the label": lambda s: s.approved(s.adding(with_the_label_of(FOUR[1]))),
    "a set has at most 4 members": lambda s: too_large(s, "MEMBERS_MAX", 4),
    "the set leaf would have .* bytes, over 2000": lambda s: too_large(s, "LEAF_BYTES_MAX", 2_000),
    "the join proof is of height 0; at height 257 it must be": aged,
    "the join proof says size 9": lambda s: s.approved(s.adding(size=9)),
    # evidence
    "no authorized node, so it reports nothing": lambda s: evidence(s, by=STRANGER.id),
    "evidence of height 9 in a block of height 1": lambda s: evidence(s, height=9),
    "the set of height 1 is not": lambda s: evidence(s, set=ZERO_SHA256),
    "had no vote at height 1": lambda s: evidence(s, culprit=STRANGER.id),
    "is convicted of two_notarizations in epoch 0 already": convicted,
    "did not sign both statements": lambda s: evidence(s, view=1),
    "evidence: .*contradict": lambda s: evidence(
        s, second=every_crime(s)[1].first, first=every_crime(s)[1].first
    ),
    "first and second stand in the wrong order": lambda s: evidence(
        s, first=every_crime(s)[1].second, second=every_crime(s)[1].first
    ),
    # statements
    "no authorized node, so it states nothing": lambda _: [advice(STRANGER.id, 0)],
    "statement .* is in the log already": after(
        lambda s: s.runner.run(advice(ME, 0)), bodies=lambda _: [advice(ME, 0)]
    ),
    "entry 0 is no accepted build": withdrawing(0),
    "entry .* is of pkg:pypi/six@1.17.0, not of": withdrawing(None, Purl.pypi("six", "1")),
    "leaf .* says revoke already": revoked,
    # mappings
    "no authorized node, so it maps no source": lambda _: [maven.add_source(STRANGER.id)],
    "mapping .* is in the log already": after(mapped, bodies=lambda _: [maven.add_source(ME)]),
    "leaf .* maps pkg:maven/.* so already": after(
        mapped, bodies=lambda _: [maven.add_source(YOU, nonce=1)]
    ),
    "no source is mapped for pkg:maven/": lambda _: [
        maven.add_source(ME, SourceMapping(maven.mapping().pattern, ""))
    ],
}

WAITING: dict[str, Make] = {
    "until .* is more than 24 hours after": lambda s: [
        make.request(ME, until=s.runner.time_ms + DAY_MS + 9_999)
    ],
    "sponsor has 1 open requests": request_under(only(open_max=1), twice=True),
    "sponsor asks too fast": request_under(only(burst=1), twice=True),
    "batch 1 of this voter must come before 2": lambda s: [make.batch(ME, 2, make.built(s.open()))],
    "no build request .* is in the log": lambda _: [make.batch(ME, 1, make.built(NOWHERE))],
    "is sealed: members commit, nobody shows": sealed_item(make.built, 0),
    "made no commit for request": after(
        lambda s: s.sealed(0, 1, 2),
        lambda s: s.runner.run(after_ms=SHORT_MS // 4),
        bodies=lambda _: [make.batch(FOURTH, 1, make.built(REQ))],
    ),
    "no build request .* is in the log$": lambda _: [commit(NOWHERE)],
    "^transaction 0 .* no build request": lambda _: [make.result(ME, NOWHERE)],
    "no counted item of .* names document": lambda s: [make.result(ME, s.open())],
    "has 64 approvals that are not expired": approvals,
    "approval is of height 3, which is not committed here": of_a_height_to_come,
    "has 0 of 3 approvals; not yet by": lambda s: [s.adding()],
    "the block holds a change": lambda s: [
        *s.runner.add(NEW),
        *s.approved(change.set_param(ME, "burst", 5)),
    ],
    "is of height 3, which is not committed here": lambda s: s.approved(s.adding(height=3)),
    f"the block holds {EVIDENCE_PER_BLOCK_MAX} pieces of evidence": lambda s: [*every_crime(s)],
    "there is no entry 999 before this block": withdrawing(999),
    "has given 200 pieces of advice today": advised,
}


def refusal(
    rule: str, prepare: Make, patch: pytest.MonkeyPatch
) -> tuple[InvalidInputError, set[tuple[str, int]]]:
    """Run a row; return the refusal, and the lines of the machine that it came through."""
    scene = Scene(patch)
    bodies = prepare(scene)
    before = dict(scene.runner.state.scan(b""))
    with pytest.raises(InvalidInputError, match=rule) as caught:
        scene.runner.run(*bodies)
    assert dict(scene.runner.state.scan(b"")) == before
    error: BaseException | None = caught.value
    lines: set[tuple[str, int]] = set()
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        lines |= {(Path(each.filename).name, each.lineno or 0) for each in frames}
        error = error.__context__
    return caught.value, lines


@pytest.mark.parametrize("rule", FINAL)
def test_broken_rule_is_named_and_final(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error, _ = refusal(rule, FINAL[rule], monkeypatch)
    assert type(error) is InvalidInputError


@pytest.mark.parametrize("rule", WAITING)
def test_unmet_condition_is_named_and_waited_for(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, _ = refusal(rule, WAITING[rule], monkeypatch)
    assert type(error) is NotYetValidError


def refusing_lines() -> dict[tuple[str, int], str]:
    """Return each place of the state machine that raises one of the two errors."""
    found: dict[tuple[str, int], str] = {}
    for path in sorted(Path(machine.__path__[0]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                name = ast.unparse(node.exc.func)
                if name in {"InvalidInputError", "NotYetValidError"}:
                    found[path.name, node.lineno] = ast.unparse(node.exc)
    return found


def test_every_refusal_of_the_state_machine_is_in_the_table() -> None:
    reached: set[tuple[str, int]] = set()
    for rule, prepare in (FINAL | WAITING).items():
        with pytest.MonkeyPatch.context() as patch:
            reached |= refusal(rule, prepare, patch)[1]
    places = refusing_lines()
    assert len(places) > 60
    missing = {place: text for place, text in places.items() if place not in reached}
    assert missing == {}
