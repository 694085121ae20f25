"""Counts every verdict again, plainly: items in, outcome out. Nothing of the ledger is imported.

Who could vote is the set of the request's block; who counts is who is still in the next set. For
every request that a block speaks of, that is overdue, or that lost a voter, the outcome that the
items amount to must be the leaf that stands there: not another one, not one more, not one less.
Specification: docs/spec/leaves.md, "Outcomes". What late items add (``level``,
``late_divergence``) is only looked at from outside; execution derives it.

Memory: what is open, and some 150 bytes for each request that was accepted.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final, cast

from pyrsia_node.audit.blocks import Block
from pyrsia_node.audit.report import Report
from pyrsia_node.audit.seals import Seal
from pyrsia_node.model import canonical
from pyrsia_node.model.canonical import JsonObject, JsonValue
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.genesis import Genesis
from pyrsia_node.model.signing import TRANSACTION_TAG

LEVELS: Final = (0, 1, 2)
OUTCOMES: Final = frozenset({"accepted", "diverged", "failed", "expired", "unsealed"})
_BUILD_CLAIMS: Final = ("external", "rebuilt")
_SHOWN: Final = 300


@dataclass(slots=True)
class Word:
    """A member's latest item: where it stands, and where its first stood."""

    leaf: int
    place: int
    item: JsonObject
    first: tuple[int, int]

    @property
    def at(self) -> tuple[int, int]:
        """Its position in the log."""
        return self.leaf, self.place

    @property
    def is_built(self) -> bool:
        """Whether it names a result."""
        return self.item["outcome"] == "BUILT"

    @property
    def own(self) -> list[str]:
        """The roots of the member's own build."""
        return cast("list[str]", self.item["own"])


@dataclass(slots=True)
class Open:
    """A request without an outcome."""

    id: str
    purl: str
    claim: str
    voters: tuple[str, ...]
    k: int
    deadline: int
    class_ms: int
    root: str = ""
    said: dict[str, Word] = field(default_factory=dict)
    slots_end: int | None = None
    seal: Seal | None = None

    @property
    def faults(self) -> int:
        """Traitors that its voters can bear."""
        return (len(self.voters) - 1) // 3


@dataclass(slots=True)
class Rules:
    """Parameters as they stand, by the names of ``set_param``."""

    values: dict[str, int]

    @classmethod
    def of(cls, genesis: Genesis) -> Rules:
        """Return those of the genesis."""
        params = canonical.loads_object(genesis.encode(), bytes_max=2**20)
        listed: dict[str, int] = {}
        for name, value in cast("JsonObject", params["params"]).items():
            if isinstance(value, dict):
                listed |= {f"{name}.{part}": cast("int", each) for part, each in value.items()}
            else:
                listed[name] = cast("int", value)
        return cls(listed)

    def k(self, purl: str, n: int) -> int:
        """Return how many equal answers accept a request that ``n`` members may answer."""
        f = (n - 1) // 3
        ecosystem = purl.removeprefix("pkg:").partition("/")[0]
        asked = self.values.get(f"k.{ecosystem}", 0)
        return max(asked, f + 1) if asked else n - f


class VerdictAudit:
    """Follows requests, items and documents, and judges every outcome leaf."""

    def __init__(self, genesis: Genesis, report: Report) -> None:
        """Start at the genesis."""
        self._network = genesis.network_id
        self._report = report
        self._rules = Rules.of(genesis)
        self._open: dict[str, Open] = {}
        self._deadlines: list[tuple[int, str]] = []
        self._documents: set[bytes] = set()
        self._accepted: dict[bytes, int] = {}

    def check(self, block: Block) -> None:
        """Follow one block."""
        touched: set[str] = set()
        for offset, value in enumerate(block.values[: block.transactions], start=1):
            self._take(block, block.first_leaf + offset, value, touched)
        now = block.header.time_ms
        while self._deadlines and self._deadlines[0][0] <= now:
            touched.add(heapq.heappop(self._deadlines)[1])
        if block.next_set is not block.voters:
            touched |= set(self._open)
        touched |= {each.id for each in self._open.values() if (each.slots_end or now + 1) <= now}
        touched |= {each.id for each in self._open.values() if each.seal and each.seal.is_due(now)}
        current: set[str] = {record.id for record in block.next_set.members}
        self._hold(block, touched, current)
        for value in block.values[: block.transactions]:
            if value.get("t") == "set_param":
                self._rules.values[str(value["name"])] = cast("int", value["value"])

    # ------------------------------------------------------------ transactions

    def _take(self, block: Block, leaf: int, value: JsonObject, touched: set[str]) -> None:
        match value.get("t"):
            case "build_request":
                self._take_request(block, value)
            case "attest_batch":
                voter = str(value["voter"])
                for place, each in enumerate(cast("list[JsonObject]", value["items"])):
                    self._take_item(block, voter, Word(leaf, place, each, (leaf, place)), touched)
            case "attest_commit":
                about = self._open.get(str(value["req"]))
                if about is not None and about.seal is not None:
                    about.seal.commits[str(value["voter"])] = str(value["commit"])
                    touched.add(about.id)
            case "result":
                body = cast("JsonObject", value["doc"])
                digest = sha256_of(canonical.dumps(body))
                self._documents.add(bytes.fromhex(digest))
                touched.add(str(value["req"]))
            case _:
                pass

    def _take_request(self, block: Block, value: JsonObject) -> None:
        bare = {name: each for name, each in value.items() if name != "sigs"}
        request = sha256_of(TRANSACTION_TAG + self._network + canonical.dumps(bare))
        voters = tuple(record.id for record in block.voters.members)
        class_ms = self._rules.values[f"class_ms.{value['class']}"]
        purl = str(value["purl"])
        self._open[request] = Open(
            id=request,
            purl=purl,
            claim=str(value["claim"]),
            voters=voters,
            k=self._rules.k(purl, len(voters)),
            deadline=block.header.time_ms + class_ms,
            class_ms=class_ms,
            root=_root_of(value),
        )
        if self._rules.values.get("sealed"):
            self._open[request].seal = Seal(block.header.time_ms, class_ms)
        heapq.heappush(self._deadlines, (block.header.time_ms + class_ms, request))
        self._report.facts["requests"] += 1

    def _take_item(self, block: Block, voter: str, word: Word, touched: set[str]) -> None:
        request = str(word.item["req"])
        found = self._open.get(request)
        if found is None:
            return  # late, or about nothing: execution judges it
        before = found.said.get(voter)
        if before is not None:
            word.first = before.first
        elif found.seal is not None and not found.seal.is_opened_by(
            word.item, voter=voter, network_id=self._network
        ):
            place = block.place_of(word.leaf - block.first_leaf)
            what = f"{voter} shows what it did not promise for the sealed request {request}"
            self._report.contradict("verdicts", place, what)
        found.said[voter] = word
        touched.add(request)

    # ------------------------------------------------------------ outcomes

    def _hold(self, block: Block, touched: set[str], current: set[str]) -> None:
        """Hold the outcome leaves of a block against what the touched requests amount to."""
        found = self._outcomes_of(block)
        for request in sorted(touched | set(found)):
            leaf = found.get(request)
            place = block.place if leaf is None else block.place_of(leaf[0])
            about = self._open.get(request)
            if about is None:
                if leaf is not None:
                    what = f"{leaf[1]['t']} about request {request}, which is not open"
                    self._report.contradict("verdicts", place, what)
                continue
            given = leaf[1] if leaf is not None else None
            document = given.get("doc") if given is not None else None
            expected = self._amounts_to(about, block.header.time_ms, current, document)
            if expected != given:
                self._contradict(place, request, given, expected)
            elif given is not None:
                self._report.counted["verdicts"] += 1
            if given is not None and given["t"] == "unsealed" and about.seal is not None:
                about.seal.is_broken = True
            elif given is not None:
                self._close(about, given)

    def _outcomes_of(self, block: Block) -> dict[str, tuple[int, JsonObject]]:
        """Return the outcome leaves of a block by request, each with its offset."""
        found: dict[str, tuple[int, JsonObject]] = {}
        for offset, value in enumerate(block.values[block.transactions :], block.transactions + 1):
            kind, request = value.get("t"), str(value.get("req"))
            if kind in OUTCOMES:
                if request in found:
                    self._report.contradict(
                        "verdicts", block.place_of(offset), f"a second outcome of {request}"
                    )
                found[request] = (offset, value)
            elif kind in {"level", "late_divergence"}:
                self._check_late(block.place_of(offset), request, value)
        return found

    def _check_late(self, place: str, request: str, value: JsonObject) -> None:
        known = self._accepted.get(bytes.fromhex(request))
        if known is None:
            what = f"{value['t']} about request {request}, which is not accepted"
            self._report.contradict("verdicts", place, what)
        elif value["t"] == "level":
            level = cast("int", value["level"])
            if level >= known:
                what = f"level {level} of request {request} is not below the {known} known"
                self._report.contradict("verdicts", place, what)
            self._accepted[bytes.fromhex(request)] = level

    def _close(self, about: Open, given: JsonObject) -> None:
        del self._open[about.id]
        self._report.facts[str(given["t"])] += 1
        if given["t"] == "accepted":
            self._accepted[bytes.fromhex(about.id)] = cast("int", given["level"])

    def _contradict(
        self, place: str, request: str, given: JsonObject | None, expected: JsonObject | None
    ) -> None:
        self._report.contradict(
            "verdicts",
            place,
            f"request {request}: the log says {_told(given)}, the items give {_told(expected)}"
            + _where(given, expected),
        )

    def _amounts_to(
        self, about: Open, now: int, current: set[str], document: JsonValue | None
    ) -> JsonObject | None:
        """Return the outcome leaf that the items give at block time ``now``; None if still open.

        ``document`` is the one in the leaf that is judged: an accepted leaf repeats it, and its
        digest is what the items name.
        """
        head: JsonObject = {"req": about.id, "v": 1}
        members = [m for m in about.voters if m in current]
        if about.seal is not None and not about.seal.is_broken:
            return about.seal.amounts_to(head, members, about.k, about.purl, now)
        if about.seal is not None:
            members = [m for m in members if m in about.seal.commits]
        counted = {m: about.said.get(m) for m in members}
        said = {m: word for m, word in counted.items() if word is not None}
        built = {m: word for m, word in said.items() if word.is_built}
        left = [m for m, word in counted.items() if word is None]
        names: dict[str, list[str]] = {}
        for member, word in built.items():
            names.setdefault(str(word.item["result"]), []).append(member)
        strong = {result: by for result, by in names.items() if len(by) >= about.k}
        ready = {r: by for r, by in strong.items() if self._may_accept(about, r, document)}
        if ready:
            return {**head, **_accepted(about, ready, built, document)}
        overdue = now >= about.deadline
        passed = about.slots_end is not None and now >= about.slots_end
        group = _first_group(about, built)
        hopeless = len(built) >= about.k and not strong and (passed or group is None)
        if hopeless and (not left or overdue or passed):
            return {**head, "t": "diverged", "purl": about.purl, "classes": _classes(built)}
        if len(built) + len(left) < about.k:
            return {**head, "t": "failed", "purl": about.purl, "causes": _causes(said)}
        if overdue:
            return {**head, "t": "expired", "purl": about.purl, "silent": list(left)}
        if about.slots_end is None and group is not None and not strong:
            slots = about.faults + 1
            about.slots_end = now + about.class_ms // (4 * slots) * slots
        return None

    def _may_accept(self, about: Open, result: str, document: JsonValue | None) -> bool:
        """Tell whether the log has the document that a result names, and it fits the request.

        A document is kept by its digest alone, so whether it fits is read from the leaf that is
        judged; one that stands in the log and in no leaf is taken not to fit.
        """
        if bytes.fromhex(result) not in self._documents or not isinstance(document, dict):
            return False
        if sha256_of(canonical.dumps(document)) != result:
            return False
        files = cast("list[JsonObject]", document["files"])
        claimed = {each["claim"] for each in files}
        is_claimed = all((each in claimed) == (about.claim == each) for each in _BUILD_CLAIMS)
        has_root = not about.root or about.root in _roots(files)
        fits = document["purl"] == about.purl and is_claimed
        return fits and has_root


def _accepted(
    about: Open,
    ready: dict[str, list[str]],
    built: dict[str, Word],
    document: JsonValue | None,
) -> JsonObject:
    result = min(ready, key=lambda each: sorted(built[m].at for m in ready[each])[about.k - 1])
    by = ready[result]
    assert document is not None
    levels = sorted(cast("int", built[m].item["level"]) for m in by)
    own = [{built[m].own[level] for m in by} for level in LEVELS]
    differ: list[JsonValue] = [
        {"id": m, "own": word.own[0]}
        for m, word in built.items()
        if word.item["result"] != result
        and all(word.own[level] not in own[level] for level in LEVELS)
    ]
    attestors: list[JsonValue] = [
        {"id": m, "leaf": built[m].leaf, "level": built[m].item["level"]} for m in by
    ]
    return {
        "t": "accepted",
        "doc": document,
        "k": about.k,
        "level": levels[about.k - 1],
        "attestors": attestors,
        "differ": differ,
    }


def _first_group(about: Open, built: dict[str, Word]) -> list[str] | None:
    """Return k or more members with equal own roots, at the lowest level that has such."""
    for level in LEVELS:
        groups: dict[str, list[str]] = {}
        for member, word in built.items():
            groups.setdefault(word.own[level], []).append(member)
        big = [by for by in groups.values() if len(by) >= about.k]
        if big:
            return min(big, key=lambda by: sorted(built[m].first for m in by)[about.k - 1])
    return None


def _classes(built: dict[str, Word]) -> list[JsonValue]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for member, word in built.items():
        groups.setdefault((*word.own, str(word.item["result"])), []).append(member)
    return [
        {"own": list(key[:-1]), "ids": list(ids), "result": key[-1]} for key, ids in groups.items()
    ]


def _causes(said: dict[str, Word]) -> list[JsonValue]:
    told = ("cause", "outcome", "moved", "seen")
    return [
        {"id": member, **{name: word.item[name] for name in told if _is_told(word.item, name)}}
        for member, word in said.items()
        if not word.is_built
    ]


def _is_told(item: JsonObject, name: str) -> bool:
    """Tell whether a cause repeats a member of its item: when a tag was seen, only if it moved."""
    return name in item and (name != "seen" or "moved" in item)


def _root_of(request: JsonObject) -> str:
    """Return the digest of the root manifest that a mirrored image must have, or nothing."""
    source = cast("JsonObject", request["source"])
    return str(source["sha256"]) if source["kind"] == "image" else ""


def _roots(files: list[JsonObject]) -> list[str]:
    """Return the digests of the files of an image that are called roots."""
    return [str(each["sha256"]) for each in files if str(each["name"]).startswith("root-")]


def _told(outcome: JsonObject | None) -> str:
    return "nothing" if outcome is None else str(outcome["t"])


def _where(given: JsonObject | None, expected: JsonObject | None) -> str:
    """Say which member differs where both are of one kind."""
    if given is None or expected is None or given["t"] != expected["t"]:
        return ""
    for name in sorted({*given, *expected}):
        if given.get(name) != expected.get(name):
            theirs, ours = str(given.get(name)), str(expected.get(name))
            return f" with another {name}: {theirs:.{_SHOWN}}, not {ours:.{_SHOWN}}"
    return ""
