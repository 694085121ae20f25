"""The rules of sets and approvals once more, as plainly as possible. The product is not imported.

Nothing is forgotten here because time has passed: approvals that expired are kept, and so is when
an operation happened; every question walks over them. Transactions are JSON objects. Written from
docs/spec/leaves.md, not from the code it checks.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from tests.property.ledger.naive_ledger import NotYet, Refused

Json = dict[str, Any]

BOUNDS = {"burst": (1, 10**6), "k.pypi": (0, 88), "min_authorized": (1, 88)}


def digest(tag: bytes, value: Json) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(tag + text.encode()).hexdigest()


@dataclass
class Yes:
    by: str
    op: str
    subject: str
    expiry: int


@dataclass
class NaiveMembership:
    network: bytes
    members: dict[str, Json]
    heads: list[tuple[int, str]]
    params: dict[str, int]
    height: int = 0
    epoch: int = 0
    given: list[Yes] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    happened: dict[tuple[str, str], int] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)
    owned: dict[str, str] = field(default_factory=dict)

    def block(self, transactions: list[tuple[str, Json]]) -> None:
        """Execute (id, transaction without sigs) pairs in the next block."""
        self.height += 1
        changes = 0
        after, params = dict(self.members), dict(self.params)
        for tx_id, body in transactions:
            changes += body["t"] != "approve"
            if changes > 1 and body["t"] != "approve":
                raise NotYet
            if body["by"] not in self.members:
                raise Refused
            if body["t"] == "approve":
                self.approve(body)
                continue
            if tx_id in self.done:
                raise Refused
            self.change(body, after, params)
            self.spend(body["t"], self.subject(body))
            self.done.add(tx_id)
        self.epoch += after != self.members
        self.members, self.params = after, params

    # ------------------------------------------------------------ approvals

    def approve(self, body: Json) -> None:
        what = (body["op"], body["subject"])
        if not self.height <= body["expiry"] <= body["since"] + 100_000:
            raise Refused
        if body["since"] >= self.height:
            raise NotYet
        if body["since"] < self.happened.get(what, 0):
            raise Refused
        alive = [yes for yes in self.given if yes.expiry >= self.height]
        mine = [yes for yes in alive if yes.by == body["by"]]
        same = [yes for yes in mine if (yes.op, yes.subject) == what]
        if any(yes.expiry >= body["expiry"] for yes in same):
            raise Refused
        if not same and len(mine) >= 64:
            raise NotYet
        self.given = [yes for yes in self.given if yes not in same]
        self.given.append(Yes(body["by"], body["op"], body["subject"], body["expiry"]))

    def counted(self, op: str, subject: str) -> set[str]:
        return {
            yes.by
            for yes in self.given
            if (yes.op, yes.subject) == (op, subject)
            and yes.expiry >= self.height
            and yes.by in self.members
        }

    def spend(self, op: str, subject: str) -> None:
        self.given = [yes for yes in self.given if (yes.op, yes.subject) != (op, subject)]
        self.happened[op, subject] = self.height

    def subject(self, body: Json) -> str:
        if "record" in body:
            bare = {name: value for name, value in body["record"].items() if name != "sigs"}
            return digest(b"pyrsia/member/1\0", bare)
        content = {n: v for n, v in body.items() if n not in {"t", "v", "by", "nonce"}}
        return digest(b"pyrsia/op/1\0" + self.network, {**content, "op": body["t"]})

    # ------------------------------------------------------------ changes

    def change(self, body: Json, after: dict[str, Json], params: dict[str, int]) -> None:
        kind = body["t"]
        gone: Json = {}
        before: Json = {}
        if kind == "set_param":
            low, high = BOUNDS[body["name"]]
            if not low <= body["value"] <= high or params[body["name"]] == body["value"]:
                raise Refused
            params[body["name"]] = body["value"]
        elif kind == "remove_node":
            if body["node"] not in after or len(after) == 1:
                raise Refused
            gone = after.pop(body["node"])
        elif kind == "add_node":
            if body["record"]["id"] in after:
                raise Refused
            self.enter(body["record"], after)
        else:
            before = after[body["by"]]
            if body["record"]["label"] != before["label"]:
                raise Refused
            if body["record"]["keys"] == before["keys"]:
                raise Refused
            self.enter(body["record"], after)
        if "proof" in body:
            self.check_proof(body["proof"])
        n = len(self.members)
        if len(self.counted(kind, self.subject(body))) < n - (n - 1) // 3:
            raise NotYet
        if kind == "remove_node":
            self.owned |= dict.fromkeys(gone["keys"].values(), body["node"])
        if kind == "rotate_key":
            self.retired |= {*before["keys"].values()} - {*body["record"]["keys"].values()}

    def enter(self, record: Json, after: dict[str, Json]) -> None:
        keys = set(record["keys"].values())
        others = [each for name, each in after.items() if name != record["id"]]
        if keys & self.retired or any(
            self.owned.get(k, record["id"]) != record["id"] for k in keys
        ):
            raise Refused
        if any(each["label"] == record["label"] for each in others):
            raise Refused
        if any(keys & set(each["keys"].values()) for each in others):
            raise Refused
        after[record["id"]] = {name: value for name, value in record.items() if name != "sigs"}

    def check_proof(self, proof: Json) -> None:
        if proof["height"] < self.height - 256:
            raise Refused
        if proof["height"] >= self.height:
            raise NotYet
        if (proof["size"], proof["root"]) != self.heads[proof["height"]]:
            raise Refused
