"""What the gateway asks of the core, typed, and the ``Router`` port over that link.

The core may be away for a second or two while it restarts; every call then fails at once with
UnavailableError, and whoever can goes on without it. docs/spec/links.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from pyrsia_node.gateway.link import LinkClient
from pyrsia_node.model.errors import InvalidInputError, UnavailableError
from pyrsia_node.ports import Holder, PeerId
from pyrsia_node.schema.evidence import EvidenceList
from pyrsia_node.schema.explanations import (
    Explained,
    ExplanationAnswer,
    ExplanationParams,
    LeafParams,
)
from pyrsia_node.schema.fields import Answer, Params
from pyrsia_node.schema.following import FollowBody, Followed, Follows, UnfollowBody
from pyrsia_node.schema.joining import (
    ClosedPage,
    ClosedParams,
    EntriesParams,
    FindParams,
    FoundLeaves,
    JoiningState,
    PlacedLeaves,
)
from pyrsia_node.schema.links import (
    AnnounceParams,
    BuildParams,
    Builds,
    BuildsParams,
    BuildStarted,
    BuildStatus,
    BuildStatusParams,
    DigestParams,
    Done,
    Holders,
    NoParams,
    Peers,
    SetFaultParams,
    Status,
    TransactionParams,
    TransactionState,
)
from pyrsia_node.schema.motions import (
    AdviceBody,
    AdviceTaken,
    ApproveParams,
    Members,
    MotionBody,
    MotionTaken,
)
from pyrsia_node.schema.sources import Sources, SourcesParams

STATUS_SECONDS_MAX: Final = 3.0
HOLDERS_SECONDS_MAX: Final = 5.0
ENTRIES_SECONDS_MAX: Final = 15.0
BUILD_SECONDS_MAX: Final = 30.0
MOTION_SECONDS_MAX: Final = 15.0

_A = TypeVar("_A", bound=Answer)


class CoreLink:
    """Calls on ``run/core.sock``. All methods raise what the core answers, or UnavailableError."""

    def __init__(self, client: LinkClient) -> None:
        """Call through ``client``."""
        self._client = client

    async def status(self) -> Status:
        """Return what the node knows of the network and of itself."""
        return await self._call("status", NoParams(), Status, STATUS_SECONDS_MAX)

    async def peers(self) -> Peers:
        """Return the nodes that this one has heard of."""
        return await self._call("peers", NoParams(), Peers, STATUS_SECONDS_MAX)

    async def build(self, params: BuildParams) -> BuildStarted:
        """Ask for a build."""
        return await self._call("build", params, BuildStarted, BUILD_SECONDS_MAX)

    async def follow(self, body: FollowBody) -> Followed:
        """Have a tag followed."""
        return await self._call("follow", body, Followed, BUILD_SECONDS_MAX)

    async def unfollow(self, body: UnfollowBody) -> Done:
        """Have a tag followed no more."""
        return await self._call("unfollow", body, Done, BUILD_SECONDS_MAX)

    async def follows(self) -> Follows:
        """Return the tags that are followed."""
        return await self._call("follows", NoParams(), Follows, BUILD_SECONDS_MAX)

    async def build_status(self, build_id: str) -> BuildStatus:
        """Return how far a build is."""
        params = BuildStatusParams.parse({"build_id": build_id})
        return await self._call("build_status", params, BuildStatus, STATUS_SECONDS_MAX)

    async def builds(self, limit: int) -> Builds:
        """Return the newest builds."""
        params = BuildsParams.parse({"limit": limit})
        return await self._call("builds", params, Builds, STATUS_SECONDS_MAX)

    async def explained(self, leaf: int) -> Explained:
        """Return who built what an outcome is about."""
        return await self._call("explained", LeafParams(leaf=leaf), Explained, STATUS_SECONDS_MAX)

    async def explanation(self, leaf: int, sha256: str) -> ExplanationAnswer:
        """Return an explanation that an item about an outcome names."""
        params = ExplanationParams.parse({"leaf": leaf, "sha256": sha256})
        return await self._call("explanation", params, ExplanationAnswer, BUILD_SECONDS_MAX)

    async def set_fault(self, params: SetFaultParams) -> Done:
        """Make this node lie, in a development network."""
        return await self._call("set_fault", params, Done, STATUS_SECONDS_MAX)

    async def members(self) -> Members:
        """Return who votes, and the motions under way."""
        return await self._call("members", NoParams(), Members, STATUS_SECONDS_MAX)

    async def propose(self, params: MotionBody) -> MotionTaken:
        """Bring a motion and approve it."""
        return await self._call("propose", params, MotionTaken, MOTION_SECONDS_MAX)

    async def approve(self, params: ApproveParams) -> MotionTaken:
        """Approve a motion that somebody else brought."""
        return await self._call("approve", params, MotionTaken, MOTION_SECONDS_MAX)

    async def advise(self, params: AdviceBody) -> AdviceTaken:
        """State something about a package, alone."""
        return await self._call("advise", params, AdviceTaken, MOTION_SECONDS_MAX)

    async def evidence(self) -> EvidenceList:
        """Return what is known against members, and the forks seen."""
        return await self._call("evidence", NoParams(), EvidenceList, STATUS_SECONDS_MAX)

    async def sources(self, params: SourcesParams) -> Sources:
        """Return where the log says that sources are."""
        return await self._call("sources", params, Sources, STATUS_SECONDS_MAX)

    async def transaction(self, transaction_id: str) -> TransactionState:
        """Return whether a block holds a transaction."""
        params = TransactionParams.parse({"id": transaction_id})
        return await self._call("transaction", params, TransactionState, STATUS_SECONDS_MAX)

    async def joining(self) -> JoiningState:
        """Return the head that a joining node serves by (``artifacts.joining_log``)."""
        return await self._call("joining", NoParams(), JoiningState, STATUS_SECONDS_MAX)

    async def closed(self, after: str) -> ClosedPage:
        """Return what the snapshot that a node joins from says is closed."""
        params = ClosedParams.parse({"after": after})
        return await self._call("closed", params, ClosedPage, STATUS_SECONDS_MAX)

    async def find(self, ecosystem: str, name: str) -> FoundLeaves:
        """Return where peers say that a package's leaves stand."""
        params = FindParams.parse({"ecosystem": ecosystem, "name": name})
        return await self._call("find", params, FoundLeaves, ENTRIES_SECONDS_MAX)

    async def entries(self, leaves: Sequence[int]) -> PlacedLeaves:
        """Return leaves with their proofs, from peers."""
        params = EntriesParams.parse({"leaves": list(leaves)})
        return await self._call("entries", params, PlacedLeaves, ENTRIES_SECONDS_MAX)

    async def holders(self, sha256: str) -> list[Holder]:
        """Return who may have an artifact (``ports.Router``)."""
        params = DigestParams.parse({"sha256": sha256})
        answer = await self._call("holders", params, Holders, HOLDERS_SECONDS_MAX)
        return [
            Holder(PeerId(each.peer), each.data_url, each.fingerprint, each.complete)
            for each in answer.holders
        ]

    async def announce(self, sha256: str, *, complete: bool) -> None:
        """Tell that this node has an artifact (``ports.Router``)."""
        params = AnnounceParams.parse({"sha256": sha256, "complete": complete})
        await self._call("announce", params, Done, HOLDERS_SECONDS_MAX)

    async def _call(self, method: str, params: Params, kind: type[_A], timeout_s: float) -> _A:
        result = await self._client.call(method, params.dump(), timeout_s=timeout_s)
        try:
            return kind.parse(result)
        except InvalidInputError as error:
            # Two versions of our own processes: nothing that a client did wrong.
            raise UnavailableError(f"the core's answer to {method} is odd: {error}") from error
