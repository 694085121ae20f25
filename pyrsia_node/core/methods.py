"""The control link's methods: what the gateway may ask of the core (docs/spec/links.md)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import cast

import trio

from consensus.quorum import faults, quorum
from consensus.replica import Replica
from consensus.types import NodeId
from pyrsia_node.builds.context import Submit
from pyrsia_node.builds.maven import checked_options
from pyrsia_node.builds.service import BuildService
from pyrsia_node.builds.wishes import encode_options
from pyrsia_node.core.member_methods import note_on
from pyrsia_node.core.router import CoreRouter
from pyrsia_node.ledger.chain import Chain
from pyrsia_node.ledger.publish import Publisher
from pyrsia_node.model.canonical import JsonObject
from pyrsia_node.model.digest import Sha256, parse_sha256
from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.oci import is_host, parse_name, split_reference
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.transactions import decode_transaction
from pyrsia_node.p2p.network import Network
from pyrsia_node.ports import PeerId
from pyrsia_node.schema.config import Config
from pyrsia_node.schema.explanations import (
    Explained,
    ExplanationAnswer,
    ExplanationParams,
    LeafParams,
)
from pyrsia_node.schema.following import FollowBody, Followed, Follows, UnfollowBody
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
    Handler,
    Holders,
    NoParams,
    Peer,
    Peers,
    SetFaultParams,
    SetMember,
    Status,
    SubmitParams,
    Submitted,
    TransactionParams,
    TransactionState,
    typed,
)

FAULTS = frozenset({"tamper"})
"""What ``set_fault`` can switch on: lies that the demonstration and the tests need."""


@dataclass(frozen=True, slots=True)
class CoreState:
    """What the methods read.

    ``replica`` is None where this node is no member; ``silence`` says why a member does not vote,
    ``catchup`` what keeps a node from following the log, ``trust_file`` that this file grows too
    long; they are empty where all is well.
    """

    config: Config
    chain: Chain
    network: Network
    publisher: Publisher
    replica: Replica | None
    silence: Callable[[], str]
    catchup: Callable[[], str]
    trust_file: Callable[[], str]
    crimes: Callable[[], list[str]]
    labels: Callable[[], Mapping[str, str]]
    peer_of: Callable[[NodeId], PeerId]
    is_seated: Callable[[], bool]
    open_pending: Callable[[], int]
    submit: Submit
    beyond: Callable[[int], Awaitable[int]]
    faults: dict[str, str]
    version: str


class CoreMethods:
    """Handlers of ``run/core.sock``."""

    def __init__(self, state: CoreState, builds: BuildService, router: CoreRouter) -> None:
        """Answer from ``state``."""
        self._state = state
        self._builds = builds
        self._router = router

    def table(self) -> dict[str, Handler]:
        """Return the handlers by method name."""
        return {
            "status": typed(NoParams, self._status),
            "peers": typed(NoParams, self._peers),
            "build": typed(BuildParams, self._build),
            "build_status": typed(BuildStatusParams, self._build_status),
            "builds": typed(BuildsParams, self._recent_builds),
            "explained": typed(LeafParams, self._explained),
            "explanation": typed(ExplanationParams, self._explanation),
            "follow": typed(FollowBody, self._follow),
            "unfollow": typed(UnfollowBody, self._unfollow),
            "follows": typed(NoParams, self._follows),
            "holders": typed(DigestParams, self._holders),
            "announce": typed(AnnounceParams, self._announce),
            "set_fault": typed(SetFaultParams, self._set_fault),
            "submit": typed(SubmitParams, self._submit),
            "transaction": typed(TransactionParams, self._transaction),
        }

    async def _status(self, _params: NoParams) -> Status:
        state, tip = self._state, self._state.chain.tip
        members = tip.members.members
        connected = {*state.network.connected(), state.network.peer_id}
        away = [each for each in members if state.peer_of(each.id) not in connected]
        replica = state.replica
        leader = replica.leader(replica.view) if replica is not None else ""
        labels = state.labels()
        n = len(members)
        return Status(
            peer_id=state.network.peer_id,
            label=state.config.node.label,
            role="authorized" if state.config.node.role == "authorized" else "regular",
            network=state.chain.genesis.network_id.hex(),
            network_name=state.chain.genesis.name,
            height=tip.height,
            size=tip.size,
            root=tip.root.hex(),
            published_size=state.publisher.published_size,
            view=replica.view if replica is not None else 0,
            leader=leader,
            leader_label=labels.get(leader, ""),
            set=[
                SetMember(
                    id=member.id,
                    label=labels.get(member.id, ""),
                    connected=member not in away,
                )
                for member in members
            ],
            n=n,
            f=faults(n),
            q=quorum(n),
            note=note_on(n, away=len(away) if state.is_seated() else 0),
            peers_count=len(state.network.connected()),
            open_requests=state.chain.open_requests_count(),
            pending_transactions=state.open_pending(),
            addresses=list(state.network.addresses),
            version=state.version,
            default_registry=state.config.docker.default_registry,
            alarms=self._alarms(),
        )

    def _alarms(self) -> list[str]:
        """Return what an operator must look at, most serious first."""
        state = self._state
        alarms = [
            f"SPLIT VIEW: {view.label} cosigned size {view.theirs.checkpoint.size} with root"
            f" {view.theirs.checkpoint.root.hex()}, which this chain does not have"
            for view in state.publisher.split_views
        ]
        if stopped := state.catchup():
            alarms.append(f"CATCH-UP: {stopped}")
        alarms += state.crimes()
        if silence := state.silence():
            alarms.append(f"SILENT in consensus: {silence}")
        if grown := state.trust_file():
            alarms.append(f"TRUST FILE: {grown}")
        alarms += [
            f"{peer} is of another network, genesis {genesis}"
            for peer, genesis in sorted(state.network.statistics().foreign.items())
        ]
        return alarms

    async def _peers(self, _params: NoParams) -> Peers:
        return Peers(
            peers=[
                Peer(
                    peer_id=known.peer,
                    label=known.label,
                    role="authorized" if known.role == "authorized" else "regular",
                    addresses=list(known.addresses),
                    data_url=known.data_url or None,
                    connected=known.connected,
                    height=max(0, known.height),
                )
                for known in self._state.network.directory()
            ]
        )

    async def _build(self, params: BuildParams) -> BuildStarted:
        time_class = params.deadline_class or ""
        if params.ecosystem == "docker":
            return await self._builds.start(
                self._image(params.name, params.version),
                time_class,
                platforms=params.platforms,
                pinned=params.pinned or "",
                options=options_of(params),
            )
        if params.platforms or params.pinned is not None or params.rebuild is not None:
            raise InvalidInputError("platforms, pinned and rebuild are for images")
        if params.ecosystem == "maven":
            return await self._builds.start(
                artifact_of(params.name, params.version), time_class, options=options_of(params)
            )
        if params.options is not None:
            raise InvalidInputError("options are for Maven artifacts")
        return await self._builds.start(Purl.pypi(params.name, params.version), time_class)

    async def _follow(self, params: FollowBody) -> Followed:
        return await self._builds.following.follow(
            self._followed(params), platforms=params.platforms, every_s=params.every_s
        )

    async def _unfollow(self, params: UnfollowBody) -> Done:
        await self._builds.following.unfollow(self._followed(params))
        return Done()

    async def _follows(self, _params: NoParams) -> Follows:
        return await self._builds.following.follows()

    def _followed(self, params: UnfollowBody) -> Purl:
        if params.ecosystem == "docker":
            return self._image(params.name, params.version)
        return Purl.pypi(params.name, params.version)

    def _image(self, name: str, version: str) -> Purl:
        """Return the image that a client means: the default registry is this node's."""
        default_host = self._state.config.docker.default_registry
        image = parse_name(name, default_host=default_host)
        return Purl.parse(str(image.purl(version)))

    async def _build_status(self, params: BuildStatusParams) -> BuildStatus:
        return await self._builds.status(params.build_id)

    async def _recent_builds(self, params: BuildsParams) -> Builds:
        return Builds(builds=self._builds.recent(params.limit))

    async def _explained(self, params: LeafParams) -> Explained:
        return self._builds.explanations.explained(params.leaf)

    async def _explanation(self, params: ExplanationParams) -> ExplanationAnswer:
        return await self._builds.explanations.explanation(params.leaf, params.sha256)

    async def _holders(self, params: DigestParams) -> Holders:
        return Holders(holders=await self._router.holders(params.sha256))

    async def _announce(self, params: AnnounceParams) -> Done:
        await self._router.announce(params.sha256, complete=params.complete)
        return Done()

    async def _submit(self, params: SubmitParams) -> Submitted:
        """Take a transaction that a member signed; it is in the log once ``transaction`` says."""
        transaction = params.transaction.encode()
        signed = decode_transaction(transaction, network_id=self._state.chain.genesis.network_id)
        await self._state.submit(transaction)
        return Submitted(id=signed.id)

    async def _transaction(self, params: TransactionParams) -> TransactionState:
        state = TransactionState(committed=False)
        with trio.move_on_after(params.wait_ms / 1000):
            state = await self._committed(parse_sha256(params.id))
        return state  # noqa: RET504 - as it was, where the wait ended first

    async def _committed(self, wanted: Sha256) -> TransactionState:
        """Return where a transaction stands; waits for the block that holds it."""
        chain = self._state.chain
        while (found := chain.transaction_status(wanted)) is None:
            await self._state.beyond(chain.tip.height)
        return TransactionState(committed=True, leaf=found.leaf, height=found.height)

    async def _set_fault(self, params: SetFaultParams) -> Done:
        if not self._state.config.fault.enabled:
            raise InvalidInputError(
                "faults are for development networks: [fault] enabled is not set in node.toml"
            )
        if params.fault not in FAULTS:
            raise InvalidInputError(f"fault {params.fault!r} is unknown; known: {sorted(FAULTS)}")
        if params.value is False or params.value == "":
            self._state.faults.pop(params.fault, None)
        else:
            self._state.faults[params.fault] = str(params.value)
        return Done()


def artifact_of(name: str, version: str) -> Purl:
    """Return the Maven artifact that ``GROUP:ARTIFACT`` and a version name.

    Raises:
        InvalidInputError: It names none.
    """
    group, colon, artifact = name.partition(":")
    if not colon or ":" in artifact:
        raise InvalidInputError(f"name {name!r:.200} is not GROUP:ARTIFACT")
    return Purl.maven(group, artifact, version)


def options_of(params: BuildParams) -> str:
    """Return what a package is to be rebuilt from; empty if an image is to be imported."""
    if params.ecosystem == "maven":
        if params.options is None:
            return ""
        return checked_options(encode_options(cast("JsonObject", params.options.dump())))
    if params.options is not None:
        raise InvalidInputError("options are for Maven artifacts")
    if params.rebuild is None:
        return ""
    if params.platforms or params.pinned is not None:
        raise InvalidInputError("an image is imported by platforms, or rebuilt from a context")
    context = params.rebuild.context
    name, tag, digest = split_reference(context)
    if digest is None or tag is not None or not is_host(name.partition("/")[0]):
        raise InvalidInputError(f"context {context!r:.200} is not HOST/REPOSITORY@sha256:HEX")
    return encode_options(cast("JsonObject", params.rebuild.dump()))
