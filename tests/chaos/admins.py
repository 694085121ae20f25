"""What admins do while their nodes work: a member goes, comes back, and gets new keys.

Each wish goes to the node of an admin over its core's link, as that of `pyrsia remove` does,
again and again until it is taken: processes may be killed meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random
from typing import Final

from consensus.quorum import quorum
from pyrsia_node.core.rotation import make_next_keys
from pyrsia_node.model.errors import InvalidInputError, PyrsiaError, UnavailableError
from tests.chaos.stage import Stage

STEP_S: Final = 240.0
"""How long one change may take on a machine that is busy with all nodes."""

_POLL_S: Final = 0.5


class Admins:
    """The admins of a stage's nodes, of one mind."""

    def __init__(self, stage: Stage, rng: Random) -> None:
        """Let ``rng`` choose who of them acts."""
        self._stage = stage
        self._rng = rng

    def remove(self, label: str) -> None:
        """Take a member out of the set; return when every node knows."""
        admins = self._quorum_of([each for each in self._stage.labels if each != label])
        for admin in admins:
            self._ask(admin, "propose", op="remove_node", content={"node": self._id(label)})
        self._until(f"{label} is removed", lambda: not any(self._seats(label)))

    def authorize(self, label: str) -> None:
        """Take a node into the set that it left; return when every node knows."""
        others = [each for each in self._stage.labels if each != label]
        for admin in self._rng.sample(others, quorum(len(others))):
            self._ask(admin, "propose", op="add_node", content={"peer": self._id(label)})
        self._until(f"{label} is authorized", lambda: all(self._seats(label)))

    def rotate(self, label: str) -> None:
        """Give a member new keys; return when its node runs with them."""
        layout = self._stage.cluster.nodes[label].layout
        make_next_keys(layout)
        self._ask(label, "propose", op="rotate_key", content={})
        subject = self._subject_of_rotation(label)
        others = [each for each in self._stage.labels if each != label]
        for admin in self._quorum_of(others)[1:]:
            self._ask(admin, "approve", subject=subject)
        self._until(f"{label} has new keys", lambda: not layout.next_key.exists())
        self._until(f"{label} votes with them", lambda: all(self._seats(label)))

    # ------------------------------------------------------------ inside

    def _quorum_of(self, labels: list[str]) -> list[str]:
        """Return as many of ``labels`` as must approve while every node is a member."""
        return self._rng.sample(labels, quorum(len(self._stage.labels)))

    def _id(self, label: str) -> str:
        return self._stage.cluster.nodes[label].peer_id

    def _seats(self, label: str) -> list[bool]:
        """Tell, for every node, whether ``label`` is in the set that it knows."""
        found = []
        for each in self._stage.labels:
            known = self._stage.cluster.status(each)["set"]
            assert isinstance(known, list)
            found.append(any(member["id"] == self._id(label) for member in known))
        return found

    def _subject_of_rotation(self, label: str) -> object:
        """Wait until the log has the member's own approval; return what the others approve."""
        found: list[object] = []

        def is_there() -> bool:
            motions = self._stage.cluster.call(label, "members", {})["motions"]
            assert isinstance(motions, list)
            found.extend(each["subject"] for each in motions if each["op"] == "rotate_key")
            return bool(found)

        self._until(f"{label} has approved its own new keys", is_there)
        return found[0]

    def _ask(self, admin: str, method: str, **params: object) -> None:
        def is_taken() -> bool:
            try:
                self._stage.cluster.call(admin, method, params)
            except InvalidInputError as error:
                # The answer to an earlier try was lost with the process that gave it, or the
                # others were enough and the motion was carried out before this admin came.
                if "already" not in str(error):
                    raise
            return True

        self._until(f"{admin} takes {method} {params}", is_taken)

    def _until(self, what: str, is_so: Callable[[], bool]) -> None:
        deadline_s = time.perf_counter() + STEP_S
        last = ""
        while time.perf_counter() < deadline_s:
            try:
                if is_so():
                    return
            except InvalidInputError:
                raise
            except PyrsiaError as error:
                last = f": {error}"
            time.sleep(_POLL_S)
        raise UnavailableError(f"within {STEP_S:g} s it did not come about that {what}{last}")
