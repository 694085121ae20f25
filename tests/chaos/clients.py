"""Clients of the nodes: each lives in its node's place, writes, reads, and notes what it was told.

Writes are signed build requests for packages that exist nowhere, handed to the core's link, which
is what `pyrsia build` comes to on an authorized node; reads go to the gateway by HTTP. A
transaction is never handed to another node than its sponsor.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from random import Random
from typing import Final

import httpx

from pyrsia_node.model.errors import InvalidInputError, PyrsiaError, VerificationError
from pyrsia_node.model.transactions import BuildRequest
from pyrsia_node.tlog.checkpoint import SignedCheckpoint
from pyrsia_node.tlog.trust import Trust, TrustFile
from tests.chaos.history import HeadSeen, History, Invoked, Looked, Written
from tests.chaos.stage import Stage
from tests.integration.network.requests import Signing

GIVE_UP_S: Final = 45.0
"""After that a write is unknown, and the client goes on."""

CALL_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.15
_REMEMBERED_MAX: Final = 200


class Client(threading.Thread):
    """Uses one node until stopped. ``complaints`` are answers that no node may ever give."""

    def __init__(
        self, stage: Stage, label: str, history: History, *, seed: int, pause_s: float
    ) -> None:
        """Be ready to use ``label``, with ``pause_s`` between any two operations."""
        super().__init__(name=f"client of {label}", daemon=True)
        self.complaints: list[str] = []
        self._stage = stage
        self._label = label
        self._history = history
        self._rng = Random(f"{seed}/{label}")
        self._signing = Signing(stage.cluster, self._rng)
        self._trust = Trust.establish(TrustFile.parse(Path(stage.cluster.plan.trust).read_bytes()))
        self._pause_s = pause_s
        self._must_stop = threading.Event()
        self._number = 0
        self._purls: dict[str, str] = {}

    def stop(self) -> None:
        """End after the operation that is under way."""
        self._must_stop.set()

    def run(self) -> None:
        """Write and read in turn, by chance."""
        try:
            self._stage.places[self._label].enter()
            url = self._stage.cluster.nodes[self._label].http_url
            with httpx.Client(base_url=url, timeout=CALL_TIMEOUT_S, trust_env=False) as http:
                while not self._must_stop.wait(self._pause_s * self._rng.uniform(0.5, 1.5)):
                    self._one_operation(http)
        except BaseException as error:
            self.complaints.append(f"the client of {self._label} failed: {error!r}")
            raise

    def _one_operation(self, http: httpx.Client) -> None:
        dice = self._rng.random()
        if dice < 0.5:
            self.write(self._must_stop)
            return
        try:
            self._see_head(http) if dice < 0.75 else self._look(http)
        except httpx.HTTPError:
            return  # The gateway is down or slow: it said nothing, so there is nothing to judge.

    # ------------------------------------------------------------ writing

    def write(self, must_stop: threading.Event, give_up_s: float = GIVE_UP_S) -> Written:
        """Have the node order a new transaction; return what became of it."""
        self._number += 1
        project = f"{self._label}-{self._number}-{self._rng.getrandbits(32):08x}"
        self._signing.reload(self._label)
        transaction = self._signing.request(self._label, project)
        self._remember(transaction.id, f"pkg:pypi/{project}@1.0")
        self._history.add(Invoked(self._label, transaction.id))
        deadline_s = time.perf_counter() + give_up_s
        encoded = transaction.encoded.decode()
        taken = self._submit(encoded)
        written = Written(self._label, transaction.id, "failed")
        if taken is not None:
            written = self._ask(transaction.id)
            while written.outcome != "ok" and time.perf_counter() < deadline_s:
                if must_stop.wait(_POLL_S):
                    break
                # A node that did not answer may have taken it all the same; twice does no harm.
                taken = taken or self._submit(encoded) is not False
                written = self._ask(transaction.id)
        self._history.add(written)
        return written

    def _submit(self, transaction: str) -> bool | None:
        """Hand it over; True if it was taken, None if it was refused for good."""
        try:
            self._call("submit", {"transaction": transaction})
        except InvalidInputError:
            return None
        except PyrsiaError:
            return False
        return True

    def _ask(self, transaction: str) -> Written:
        try:
            found = self._call("transaction", {"id": transaction})
        except PyrsiaError:
            return Written(self._label, transaction, "unknown")
        if not found["committed"]:
            return Written(self._label, transaction, "unknown")
        leaf, height = int(str(found["leaf"])), int(str(found["height"]))
        return Written(self._label, transaction, "ok", leaf, height)

    def _call(self, method: str, params: dict[str, object]) -> dict[str, object]:
        cluster = self._stage.cluster
        return {**cluster.call(self._label, method, params, timeout_s=CALL_TIMEOUT_S)}

    # ------------------------------------------------------------ reading

    def _see_head(self, http: httpx.Client) -> None:
        answer = http.get("/log/checkpoint")
        if answer.status_code != httpx.codes.OK:
            return  # Nothing is published yet.
        try:
            signed = SignedCheckpoint.parse(answer.content)
            self._check(signed, http)
        except PyrsiaError as error:
            self.complaints.append(f"{self._label} published a head that does not hold: {error}")
            return
        head = signed.checkpoint
        self._history.add(HeadSeen(self._label, head.size, head.root.hex()))

    def _check(self, signed: SignedCheckpoint, http: httpx.Client) -> None:
        try:
            self._trust.check(signed)
        except VerificationError:
            # The set has changed, perhaps: the node has the proofs of that, from the genesis on.
            file = TrustFile.parse(http.get("/api/v1/trust").content)
            self._trust = Trust.establish(file, network_id=self._signing.network_id)
            self._trust.check(signed)

    def _look(self, http: httpx.Client) -> None:
        if not self._purls:
            return
        transaction = self._rng.choice([*self._purls])
        answer = http.get("/api/v1/inspect-log", params={"purl": self._purls[transaction]})
        if answer.status_code != httpx.codes.OK:
            return
        told = answer.json()
        leaves = tuple(
            entry["index"]
            for entry in told["entries"]
            if entry["type"] == BuildRequest.kind  # no other request is about this package
        )
        self._history.add(
            Looked(self._label, transaction, told["as_of"], leaves, complete=told["complete"])
        )

    def _remember(self, transaction: str, purl: str) -> None:
        self._purls[transaction] = purl
        if len(self._purls) > _REMEMBERED_MAX:
            del self._purls[next(iter(self._purls))]
