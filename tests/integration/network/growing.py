"""A network whose members come and go, with admins at every node, work, and somebody who kills."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

from pyrsia_node.devnet.cluster import Cluster
from pyrsia_node.ledger.machine.statements import ADVICE_PER_DAY_MAX
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.statements import Deprecate
from pyrsia_node.model.transactions import SignedTransaction, sign_transaction
from pyrsia_node.store.keys import KeyUse
from tests.integration.network.evidence import process_of, processes_of
from tests.integration.network.requests import Signing
from tests.integration.network.waiting import until

STEP_S: Final = 120.0
"""How long a change of the set may take, with processes being killed on a busy machine."""

_PAUSE_S: Final = 0.1


@dataclass
class Acknowledged:
    """Where members said that transactions stand in the log: (leaf, height) by id."""

    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    lost_with_their_member: int = 0


class Growing:
    """The nodes of ``cluster``, of which ``seated`` are authorized at the moment."""

    def __init__(self, cluster: Cluster, rng: Random) -> None:
        self.cluster = cluster
        self.rng = rng
        self.signing = Signing(cluster, rng)
        self.seated: list[str] = ["authorized-1"]
        self.running: list[str] = []
        self.steps: list[str] = []

    def start(self, label: str) -> None:
        self.cluster.start(label)
        self.cluster.wait_ready(label)
        self.running.append(label)

    # ------------------------------------------------------------ what admins do

    def ask(self, label: str, method: str, params: Mapping[str, object]) -> None:
        """Have a node take a wish, however often its core dies meanwhile."""

        def is_taken() -> bool:
            try:
                self.cluster.call(label, method, params)
            except InvalidInputError as error:
                # The answer to an earlier try was lost with the process that gave it.
                if "already" in str(error):
                    return True
                raise
            except PyrsiaError:
                return False
            return True

        until(is_taken, f"{label} takes {method} {params}", STEP_S)

    def change(self, op: str, label: str, *, kill: bool = False) -> None:
        """Let a quorum of admins approve that ``label`` comes or goes; wait until all know."""
        started_s = time.monotonic()
        node = self.signing.ids[label]
        content = {"peer": node} if op == "add_node" else {"node": node}
        quorum = 2 * len(self.seated) // 3 + 1
        for number, admin in enumerate(self.rng.sample(self.seated, quorum)):
            if kill and number == 0:
                self.kill_one()
            self.ask(admin, "propose", {"op": op, "content": content})
        after = len(self.seated) + (1 if op == "add_node" else -1)
        if op == "add_node":
            self.seated.append(label)
        else:
            self.seated.remove(label)
        for each in self.running:
            until(partial(self.counts, each, after), f"{each} sees {after}", STEP_S)
        self.steps.append(f"{after}: {time.monotonic() - started_s:.1f} s")

    def counts(self, label: str, members: int) -> bool:
        """Tell whether a node answers, and knows of so many members."""
        try:
            return self.cluster.status(label)["n"] == members
        except PyrsiaError:
            return False

    # ------------------------------------------------------------ killing

    def kill_one(self) -> str:
        """Kill the core of a node, or a whole node where the log goes on without it."""
        label = self.rng.choice(self.running)
        node = self.cluster.nodes[label]
        is_whole = len(self.seated) >= 4 and self.rng.random() < 0.5
        if is_whole:
            self.cluster.kill(label, "node")
            until(lambda: not processes_of(node.data), f"{label} leaves no orphan")
            self.cluster.start(label)
        else:
            pid = process_of(node, "pyrsia_node.core")
            if pid is not None:
                os.kill(pid, 9)
        self.steps.append(f"killed {label}{'' if is_whole else '/core'}")
        return label


class Load(threading.Thread):
    """Brings transactions, one after the other, each as a member that is seated just then."""

    def __init__(self, growing: Growing, seed: int) -> None:
        super().__init__(name="load")
        self._growing = growing
        self._rng = Random(seed)
        self._must_stop = threading.Event()
        self._advice: dict[str, int] = {}
        self.known = Acknowledged()
        self.error: BaseException | None = None

    def run(self) -> None:
        number = 0
        try:
            while not self._must_stop.wait(_PAUSE_S):
                number += 1
                self._bring_one(number)
        except BaseException as error:  # noqa: BLE001 - shown by the thread that waits for us
            self.error = error

    def stop(self) -> Acknowledged:
        self._must_stop.set()
        self.join(STEP_S)
        if self.error is not None:
            raise self.error
        return self.known

    def _bring_one(self, number: int) -> None:
        label = self._rng.choice(self._growing.seated)
        transaction = self._made(label, number)
        deadline_s = time.monotonic() + STEP_S
        is_taken = False
        while True:
            try:
                found = self._growing.cluster.call(label, "transaction", {"id": transaction.id})
                if found["committed"]:
                    place = int(str(found["leaf"])), int(str(found["height"]))
                    self.known.places[transaction.id] = place
                    return
                if not is_taken:
                    encoded = transaction.encoded.decode()
                    self._growing.cluster.call(label, "submit", {"transaction": encoded})
                    is_taken = True
            except PyrsiaError:
                pass  # Its core is being restarted, or it was removed; a look at the clock tells.
            if label not in self._growing.seated:
                # Who is removed speaks no more, not even in what it said before.
                self.known.lost_with_their_member += 1
                return
            assert time.monotonic() < deadline_s, f"{label} does not commit {transaction.id}"
            time.sleep(_PAUSE_S)

    def _made(self, label: str, number: int) -> SignedTransaction:
        """Return a build request, or advice while the members are too few for one."""
        signing, growing = self._growing.signing, self._growing
        count = self._advice.get(label, 0)
        if len(growing.seated) > 3 or count >= ADVICE_PER_DAY_MAX - 10:
            return signing.request(label, f"grown{number}")
        self._advice[label] = count + 1
        nonce = f"{self._rng.getrandbits(128):032x}"
        purl = Purl.pypi(f"grown{number}")
        body = Deprecate(signing.ids[label], purl, "made to have something to say", None, nonce)
        sign = signing.keys[label].signer(KeyUse.TX)
        return sign_transaction(body, network_id=signing.network_id, sign=sign)


def sizes(cluster: Cluster, labels: Sequence[str]) -> set[int]:
    """Return the sizes and published sizes of the nodes' logs; one number once all are level."""
    found = [cluster.status(label) for label in labels]
    return {int(str(each[key])) for each in found for key in ("size", "published_size")}
