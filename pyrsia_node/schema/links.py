"""Messages of the control links and the byte link, and how errors cross them.

One class per set of parameters and per answer, named as docs/spec/links.md names the method. The
links themselves carry plain objects; ``typed`` puts a class before a handler.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Final, Literal, TypeVar

from pydantic import ConfigDict, Field

from buildpipelines.spec.framing import JsonObject
from pyrsia_node.schema import link_terms
from pyrsia_node.schema.fields import Answer, Count, LongText, Params, PeerIdText, Sha256, Text
from pyrsia_node.schema.maven_builds import MavenOptions
from pyrsia_node.schema.mirroring import PLATFORMS_MAX, DigestText, ImageText, Platform

CALL_TIMEOUT_S: Final = link_terms.CALL_TIMEOUT_S
INTERNAL_ERROR: Final = link_terms.INTERNAL_ERROR
Handler = link_terms.Handler
kind_of = link_terms.kind_of
error_of = link_terms.error_of

BuildState = Literal[
    "queued",
    "trial",
    "requested",
    "building",
    "accepted",
    "diverged",
    "failed",
    "expired",
    "refused",
]
Role = Literal["authorized", "regular"]

_P = TypeVar("_P", bound=Params)


def typed(
    params_type: type[_P], handler: Callable[[_P], Awaitable[Answer | Mapping[str, object]]]
) -> Handler:
    """Return a handler of plain objects that checks the parameters and hands on typed ones."""

    async def call(params: JsonObject) -> Mapping[str, object]:
        answer = await handler(params_type.parse(params))
        return answer.dump() if isinstance(answer, Answer) else answer

    return call


class NoParams(Params):
    """Methods that need nothing: status, peers, data_listener, ping, describe."""


class Done(Answer):
    """The answer of methods that return nothing."""


# ---------------------------------------------------------------- core.sock


class SetMember(Answer):
    """A member of the authority set in force, as this node sees it."""

    id: PeerIdText
    label: Text
    connected: bool


class Status(Answer):
    """``status``: what this node knows of the network and of itself."""

    peer_id: PeerIdText
    label: Text
    role: Role
    network: Sha256
    network_name: Text
    height: Count
    size: Count
    root: Sha256
    published_size: Count
    view: Count
    leader: Text
    leader_label: Text
    set: list[SetMember]
    n: Count
    f: Count
    q: Count
    note: Text
    peers_count: Count
    open_requests: Count
    pending_transactions: Count
    addresses: list[Text]
    version: Text
    default_registry: Text = ""
    """The registry of images that are named without one."""
    alarms: list[LongText] = Field(default_factory=list)
    """What an operator must look at: split views, a damaged write-ahead log, foreign networks."""


class Peer(Answer):
    """Another node that this one has heard of."""

    peer_id: PeerIdText
    label: Text
    role: Role
    addresses: list[Text]
    data_url: Text | None = None
    connected: bool
    height: Count


class Peers(Answer):
    """``peers``."""

    peers: list[Peer]


class RebuildOptions(Params):
    """What an image is rebuilt from: its context, ``HOST/REPOSITORY@sha256:HEX``, and the rest."""

    context: ImageText
    dockerfile: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    target: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    args: Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=64)] | None = (
        None
    )


class BuildBody(Params):
    """The wish that a package be rebuilt; also the body of ``POST /api/v1/builds``.

    ``class`` on the wire is the deadline class. ``docker`` is the wish that an image be imported:
    ``name`` is ``[HOST/]REPOSITORY`` (without a registry the node's default is meant), ``version``
    a tag or digest, ``platforms`` [] is all, and with ``pinned`` the tag must be this digest. With
    ``rebuild`` the image is not imported but rebuilt, and compared with what is published.
    ``maven``: ``name`` is ``GROUP:ARTIFACT``, and ``options`` say where it comes from and how it
    is built, where neither the log nor the published file does.
    """

    model_config = ConfigDict(populate_by_name=True)

    ecosystem: Literal["pypi", "docker", "maven"]
    name: Annotated[str, Field(min_length=1, max_length=512)]
    version: Annotated[str, Field(min_length=1, max_length=200)]
    platforms: Annotated[list[Platform], Field(max_length=PLATFORMS_MAX)] = Field(
        default_factory=list
    )
    pinned: DigestText | None = None
    rebuild: RebuildOptions | None = None
    options: MavenOptions | None = None
    deadline_class: Annotated[Literal["S", "M", "L"] | None, Field(alias="class")] = None


class BuildParams(BuildBody):
    """``build``. ``forwarded_by`` is the regular node whose signed wish this is."""

    forwarded_by: PeerIdText | None = None


class BuildStarted(Answer):
    """``build``: the wish is taken; the package may still be refused later."""

    build_id: Text
    state: BuildState


class BuildStatusParams(Params):
    """``build_status``."""

    build_id: Annotated[str, Field(min_length=1, max_length=128)]


class Progress(Answer):
    """How far one authorized node is with its own rebuild."""

    id: PeerIdText
    label: Text
    state: Text
    stage: Text
    detail: Text


class BuildStatus(Answer):
    """``build_status``: one build, from the wish to its leaf in the log."""

    build_id: Text
    purl: Text
    state: BuildState
    stage: Text
    detail: LongText
    request: Text | None = None
    sponsor: Text | None = None
    progress: list[Progress] = Field(default_factory=list)
    outcome: Text | None = None
    leaf_index: Count | None = None
    started_ms: Count
    updated_ms: Count


class BuildsParams(Params):
    """``builds``: the newest ``limit`` builds."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class Builds(Answer):
    """``builds``, newest first."""

    builds: list[BuildStatus]


class DigestParams(Params):
    """``holders`` and ``stat``: which artifact."""

    sha256: Sha256


class HolderEntry(Answer):
    """A peer that may have the artifact: a hint."""

    peer: PeerIdText
    data_url: Text | None = None
    fingerprint: Sha256 | None = None
    complete: bool


class Holders(Answer):
    """``holders``, the likeliest first."""

    holders: list[HolderEntry]


class AnnounceParams(Params):
    """``announce``: this node has the artifact, wholly or in part."""

    sha256: Sha256
    complete: bool


class SetFaultParams(Params):
    """``set_fault``: lie on purpose; development networks only."""

    fault: Annotated[str, Field(min_length=1, max_length=64)]
    value: str | int | bool


class SubmitParams(Params):
    """``submit``: a transaction that a member has signed, as canonical JSON text."""

    transaction: Annotated[str, Field(min_length=2, max_length=48_000)]


class Submitted(Answer):
    """``submit``: the transaction is kept durably until a block holds it."""

    id: Sha256


class TransactionParams(Params):
    """``transaction``: which one, and how long the answer may wait for a block that holds it."""

    id: Sha256
    wait_ms: Annotated[int, Field(ge=0, le=10_000)] = 0


class TransactionState(Answer):
    """``transaction``: whether a block holds it, and where."""

    committed: bool
    leaf: Count | None = None
    height: Count | None = None


# ---------------------------------------------------------------- gateway.sock


class AdoptParams(Params):
    """``adopt``: take a finished file, by its absolute path, into the blob store."""

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    sha256: Sha256
    size: Count


class Stored(Answer):
    """``adopt`` and ``fetch``: what now lies in the blob store; ``pieces`` is the piece root."""

    sha256: Sha256
    size: Count
    pieces: Sha256


class Stat(Answer):
    """``stat``: whether the blob is there, and where; the fields are absent when it is not."""

    present: bool
    size: Count | None = None
    pieces: Sha256 | None = None
    path: Text | None = None


class DataListener(Answer):
    """``data_listener``: what other nodes need to fetch from this one."""

    url: Text
    fingerprint: Sha256 | Literal[""]


class FetchParams(Params):
    """``fetch``: bring an artifact of the log here; with ``pin`` it is never evicted."""

    sha256: Sha256
    size: Count
    pieces: Sha256
    pin: bool = False


# ---------------------------------------------------------------- relay.sock


class RelayParams(Params):
    """A byte range, or with ``hashes`` the list of piece hashes, of an artifact at a peer."""

    peer: PeerIdText
    sha256: Sha256
    start: Count = 0
    length: Count = 0
    hashes: bool = False


class RelayAnswer(Answer):
    """How many raw bytes follow this frame."""

    length: Count
