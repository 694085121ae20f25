"""The ledger's rules once more, as slowly and plainly as possible. The product is not imported.

Everything is recomputed from the full history of items with plain dicts. Transactions and leaves
are JSON objects. Approvals are taken as given here. Written from docs/spec/leaves.md, not from the
code it checks.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

HOUR = 3_600_000
DAY = 24 * HOUR


def sha(value: object) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Refused(Exception):  # noqa: N818 - an answer
    """Not valid, for ever."""


class NotYet(Exception):  # noqa: N818 - an answer
    """Not valid yet."""


@dataclass
class Spoken:
    leaf: int
    place: int
    voter: str
    item: Json
    was_open: bool

    @property
    def at(self) -> tuple[int, int]:
        return self.leaf, self.place

    @property
    def built(self) -> bool:
        return bool(self.item["outcome"] == "BUILT")


@dataclass
class Request:
    id: str
    body: Json
    opened: int
    class_ms: int
    members: list[str]
    k: int
    said: list[Spoken] = field(default_factory=list)
    outcome: str = "OPEN"
    slots: Json | None = None
    due: int = 0
    accepted: Json | None = None
    sealed: bool = False
    commits: dict[str, str] = field(default_factory=dict)
    seal_ends: int | None = None
    unsealed: bool = False

    @property
    def f(self) -> int:
        return (len(self.members) - 1) // 3

    @property
    def deadline(self) -> int:
        return self.opened + self.class_ms

    def by(self, voter: str) -> list[Spoken]:
        return [each for each in self.said if each.voter == voter]

    def latest(self) -> list[Spoken]:
        """Return each member's last word, in member order."""
        return [self.by(voter)[-1] for voter in self.members if self.by(voter)]

    def first_built(self, voter: str) -> Spoken | None:
        return next((each for each in self.by(voter) if each.built), None)


class NaiveLedger:
    sealed = False
    network = bytes(32)

    def __init__(self, members: list[str], params: Json, time_ms: int, size: int) -> None:
        self.members = sorted(members)
        self.params = params
        self.time = time_ms
        self.size = size
        self.requests: dict[str, Request] = {}
        self.next_members = self.members
        self.seqs: dict[str, int] = defaultdict(int)
        self.documents: dict[str, Json] = {}
        self.opened: list[tuple[str, str, int]] = []  # sponsor, purl, time

    # ------------------------------------------------------------ a block

    def block(self, transactions: list[tuple[str, Json]], time_ms: int) -> list[Json]:
        """Execute (id, transaction without sigs) pairs that are all valid; return the outcomes."""
        self.time = time_ms
        leaf = self.size + 1
        touched: set[str] = set()
        late: dict[str, set[str]] = {}
        for tx_id, body in transactions:
            self.check(tx_id, body, time_ms)
            self.apply(tx_id, body, leaf, touched, late)
            leaf += 1
        leaves = self.finish(touched) + self.late(late)
        has_set = self.next_members != self.members
        self.size = leaf + len(leaves) + has_set
        self.members = self.next_members
        return leaves

    def apply(
        self, tx_id: str, body: Json, leaf: int, touched: set[str], late: dict[str, set[str]]
    ) -> None:
        if body["t"] == "build_request":
            request = Request(
                tx_id,
                body,
                self.time,
                self.params["class_ms"][body["class"]],
                list(self.members),
                self.k(),
            )
            request.due = request.deadline
            request.sealed = self.sealed
            self.requests[tx_id] = request
            self.opened.append((body["sponsor"], body["purl"], self.time))
        elif body["t"] == "attest_batch":
            self.seqs[body["voter"]] = body["seq"]
            for place, item in enumerate(body["items"]):
                request = self.requests[item["req"]]
                is_open = request.outcome == "OPEN"
                request.said.append(Spoken(leaf, place, body["voter"], item, is_open))
                if is_open:
                    touched.add(request.id)
                else:
                    late.setdefault(request.id, set()).add(body["voter"])
        elif body["t"] == "result":
            self.documents[sha(body["doc"])] = body["doc"]
            touched.add(body["req"])
        elif body["t"] == "attest_commit":
            self.requests[body["req"]].commits[body["voter"]] = body["commit"]
            touched.add(body["req"])
        elif body["t"] == "add_node":
            self.next_members = sorted([*self.members, body["record"]["id"]])
        elif body["t"] == "remove_node":
            self.next_members = [each for each in self.members if each != body["node"]]

    def k(self) -> int:
        n = len(self.members)
        f = (n - 1) // 3
        configured = self.params["k"]["pypi"]
        return n - f if configured == 0 else max(configured, f + 1)

    # ------------------------------------------------------------ validity

    def check(self, tx_id: str, body: Json, time_ms: int) -> None:
        kind = body["t"]
        author = body.get("sponsor") or body.get("voter") or body["by"]
        if author not in self.members:
            raise Refused
        if kind == "build_request":
            if len(self.members) < self.params["min_authorized"] or self.k() > len(self.members):
                raise Refused
            self.check_request(tx_id, body, time_ms)
        elif kind == "attest_batch":
            last = self.seqs[body["voter"]]
            if body["seq"] <= last:
                raise Refused
            if body["seq"] > last + 1:
                raise NotYet
            for item in body["items"]:
                self.check_item(body["voter"], item)
        elif kind == "attest_commit":
            self.check_commit(body)
        elif kind == "result":
            self.check_result(body)

    def check_request(self, tx_id: str, body: Json, time_ms: int) -> None:
        if body["until"] < time_ms:
            raise Refused
        if body["until"] > time_ms + DAY:
            raise NotYet
        inputs = ("claim", "lock", "pipeline", "purl", "recipe", "source", "toolchain")
        for other in self.requests.values():
            same = all(other.body[name] == body[name] for name in inputs)
            if other.id == tx_id or (same and other.outcome == "OPEN"):
                raise Refused
        sponsor, purl = body["sponsor"], body["purl"]
        recent = [t for s, p, t in self.opened if (s, p) == (sponsor, purl) and t > time_ms - DAY]
        if len(recent) >= 3:
            raise Refused
        mine = [r for r in self.requests.values() if r.body["sponsor"] == sponsor]
        if sum(r.outcome == "OPEN" for r in mine) >= self.params["open_max"]:
            raise NotYet
        if self.bucket(sponsor, time_ms) < HOUR:
            raise NotYet

    def bucket(self, sponsor: str, time_ms: int) -> int:
        """Replay the bucket over all requests of the sponsor."""
        full = self.params["burst"] * HOUR
        level, before = full, None
        for who, _, opened in self.opened:
            if who != sponsor:
                continue
            if before is not None:
                level = min(full, level + (opened - before) * self.params["rate_per_hour"])
            level -= HOUR
            before = opened
        if before is None:
            return int(full)
        return int(min(full, level + (time_ms - before) * self.params["rate_per_hour"]))

    def check_item(self, voter: str, item: Json) -> None:
        request = self.requests.get(item["req"])
        if request is None:
            raise NotYet
        if voter not in request.members:
            raise Refused
        earlier = request.by(voter)
        is_open = request.outcome == "OPEN"
        promised = request.commits.get(voter)
        if request.sealed and not earlier:
            if is_open and (not request.unsealed or promised is None):
                raise NotYet
            if promised is not None and promised != self.opens(voter, item):
                raise Refused
        if ("salt" in item) != (promised is not None and not earlier):
            raise Refused
        if not earlier:
            return
        built = request.first_built(voter)
        if built and item["outcome"] == "BUILT" and item["own"] != built.item["own"]:
            raise Refused
        if is_open:
            both_built = earlier[-1].built and item["outcome"] == "BUILT"
            if not both_built or len(earlier) > request.f + 1:
                raise Refused
        else:
            if any(not each.was_open for each in earlier):
                raise Refused
            if earlier[-1].built and item["outcome"] != "BUILT":
                raise Refused

    def opens(self, voter: str, item: Json) -> str:
        bare = {name: value for name, value in item.items() if name != "salt"}
        text = json.dumps({"item": bare, "voter": voter}, sort_keys=True, separators=(",", ":"))
        salt = bytes.fromhex(item.get("salt", ""))
        tag = b"pyrsia/commit/1\0" + self.network
        return hashlib.sha256(tag + salt + text.encode()).hexdigest()

    def check_commit(self, body: Json) -> None:
        request = self.requests.get(body["req"])
        if request is None:
            raise NotYet
        is_over = request.outcome != "OPEN" or request.unsealed
        if not request.sealed or is_over or body["voter"] not in request.members:
            raise Refused
        if body["voter"] in request.commits:
            raise Refused

    def check_result(self, body: Json) -> None:
        request = self.requests.get(body["req"])
        if request is None:
            raise NotYet
        digest = sha(body["doc"])
        if request.outcome != "OPEN" or digest in self.documents:
            raise Refused
        if body["voter"] not in request.members:
            raise Refused
        if body["doc"]["purl"] != request.body["purl"]:
            raise Refused
        last = request.by(body["voter"])[-1:]
        if not last or last[0].item.get("result") != digest:
            raise NotYet

    # ------------------------------------------------------------ outcomes

    def finish(self, touched: set[str]) -> list[Json]:
        waiting = [r for r in self.requests.values() if r.outcome == "OPEN"]
        lost = set(self.members) - set(self.next_members)
        chosen = [
            r for r in waiting if r.id in touched or r.due <= self.time or lost & set(r.members)
        ]
        leaves = []
        for request in sorted(chosen, key=lambda r: (r.due, r.id)):
            leaf = self.decide(request)
            if leaf:
                leaves.append({**leaf, "req": request.id, "v": 1})
        return leaves

    def unseal(self, r: Request) -> Json | None:
        there = [m for m in r.members if m in self.next_members]
        committed = [m for m in there if m in r.commits]
        if len(there) < r.k:
            r.outcome = "FAILED"
            return {"t": "failed", "purl": r.body["purl"], "causes": []}
        if self.time >= r.deadline:
            r.outcome = "EXPIRED"
            silent = [m for m in there if m not in r.commits]
            return {"t": "expired", "purl": r.body["purl"], "silent": silent}
        r.due = r.deadline
        if len(committed) < r.k:
            return None
        if r.seal_ends is None:
            as_long_again = 2 * self.time - r.opened
            patience = max(as_long_again, self.time + r.class_ms // 16)
            r.seal_ends = min(patience, r.deadline - r.class_ms // 4)
        if committed == there or self.time >= r.seal_ends:
            r.unsealed = True
            return {"t": "unsealed", "committed": committed}
        r.due = r.seal_ends
        return None

    def decide(self, r: Request) -> Json | None:
        if r.sealed and not r.unsealed:
            return self.unseal(r)
        eligible = [m for m in r.members if m in self.next_members]
        if r.sealed:
            eligible = [m for m in eligible if m in r.commits]
        said = [s for s in r.latest() if s.voter in eligible]
        built = [s for s in said if s.built]
        left = [m for m in eligible if not r.by(m)]
        names: dict[str, list[Spoken]] = {}
        for s in built:
            names.setdefault(s.item["result"], []).append(s)
        strong = {x: by for x, by in names.items() if len(by) >= r.k}
        ready = {
            x: by
            for x, by in strong.items()
            if x in self.documents and self.documents[x]["purl"] == r.body["purl"]
        }
        if ready:
            winner = min(ready, key=lambda x: sorted(s.at for s in ready[x])[r.k - 1])
            return self.accept(r, winner, ready[winner], built)
        overdue = self.time >= r.deadline
        over = r.slots is not None and self.time >= r.slots["ends"]
        group = self.strongest(r, built)
        at_the_end = not left or overdue or over
        if at_the_end and len(built) >= r.k and not strong and (group is None or over):
            r.outcome = "DIVERGED"
            return {"t": "diverged", "purl": r.body["purl"], "classes": self.classes(built)}
        if len(built) + len(left) < r.k:
            r.outcome = "FAILED"
            causes = [
                {"id": s.voter, "outcome": s.item["outcome"], "cause": s.item["cause"]}
                for s in said
                if not s.built
            ]
            return {"t": "failed", "purl": r.body["purl"], "causes": causes}
        if overdue:
            r.outcome = "EXPIRED"
            return {"t": "expired", "purl": r.body["purl"], "silent": left}
        if r.slots is None and group is not None and not strong:
            length = r.class_ms // (4 * (r.f + 1))
            r.slots = {
                "ends": self.time + length * (r.f + 1),
                "candidates": self.candidates(r, group),
            }
        r.due = r.deadline
        if r.slots and not strong and len(built) >= r.k and self.time < r.slots["ends"]:
            r.due = min(r.deadline, r.slots["ends"])
        return None

    def strongest(self, r: Request, built: list[Spoken]) -> list[str] | None:
        for level in (0, 1, 2):
            groups: dict[str, list[str]] = {}
            for s in built:
                groups.setdefault(s.item["own"][level], []).append(s.voter)
            big = [voters for voters in groups.values() if len(voters) >= r.k]
            if big:
                return min(big, key=lambda vs: sorted(r.by(v)[0].at for v in vs)[r.k - 1])
        return None

    def candidates(self, r: Request, group: list[str]) -> list[str]:
        firsts = sorted((r.by(v)[0].at, r.by(v)[0].item["result"]) for v in group)
        seen: list[str] = []
        for _, result in firsts:
            if result not in seen:
                seen.append(result)
        return seen[: r.f + 1]

    def classes(self, built: list[Spoken]) -> list[Json]:
        groups: dict[str, Json] = {}
        for s in built:
            key = json.dumps([s.item["own"], s.item["result"]])
            blank = {"own": s.item["own"], "ids": [], "result": s.item["result"]}
            groups.setdefault(key, blank)["ids"].append(s.voter)
        return sorted(groups.values(), key=lambda each: min(each["ids"]))

    def accept(self, r: Request, result: str, by: list[Spoken], built: list[Spoken]) -> Json:
        r.outcome = "ACCEPTED"
        level = sorted(s.item["level"] for s in by)[r.k - 1]
        own = [{s.item["own"][x] for s in by} for x in (0, 1, 2)]
        r.accepted = {"result": result, "level": level, "own": own}
        strangers = [
            s
            for s in built
            if s.item["result"] != result and all(s.item["own"][x] not in own[x] for x in (0, 1, 2))
        ]
        return {
            "t": "accepted",
            "doc": self.documents[result],
            "k": r.k,
            "level": level,
            "attestors": [{"id": s.voter, "leaf": s.leaf, "level": s.item["level"]} for s in by],
            "differ": [{"id": s.voter, "own": s.item["own"][0]} for s in strangers],
        }

    def late(self, late: dict[str, set[str]]) -> list[Json]:
        leaves: list[Json] = []
        for req in sorted(late):
            r = self.requests[req]
            if r.accepted is None:
                continue
            levels = sorted(
                s.item["level"]
                for s in r.latest()
                if s.voter in self.next_members
                and (s.voter in r.commits or not r.sealed)
                and s.built
                and s.item["result"] == r.accepted["result"]
            )
            if len(levels) >= r.k and levels[r.k - 1] < r.accepted["level"]:
                r.accepted["level"] = levels[r.k - 1]
                leaves.append({"t": "level", "v": 1, "req": req, "level": levels[r.k - 1]})
            for voter in sorted(late[req]):
                last = r.by(voter)[-1]
                known = any(s.built and s.was_open for s in r.by(voter))
                if not last.built or known or voter not in self.next_members:
                    continue
                own = r.accepted["own"]
                if all(last.item["own"][x] not in own[x] for x in (0, 1, 2)):
                    leaves.append(
                        {
                            "t": "late_divergence",
                            "v": 1,
                            "req": req,
                            "id": voter,
                            "own": last.item["own"][0],
                        }
                    )
        return leaves

    def next_due(self) -> int | None:
        return min((r.due for r in self.requests.values() if r.outcome == "OPEN"), default=None)
