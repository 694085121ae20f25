"""The build service of a node: takes wishes, follows them, and (authorities) answers requests.

An authorized node sponsors wishes itself. A regular node signs a wish and forwards it to a
sponsor; it remembers to whom, asks there how the build stands, and reads the outcome from its own
copy of the log.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import trio

from consensus.ed25519 import verify
from pyrsia_node.builds.attester import Attester
from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.documents import Documents
from pyrsia_node.builds.explanations import Explanations
from pyrsia_node.builds.follower import Follower
from pyrsia_node.builds.following import (
    NO_SPONSOR,
    Following,
    check_sponsor,
    read_object,
    sponsor_peers,
)
from pyrsia_node.builds.rebuilder import Rebuilder
from pyrsia_node.builds.records import BuildRecord, printable
from pyrsia_node.builds.sponsor import Sponsor, Wanted
from pyrsia_node.builds.wishes import WISH_BYTES_MAX, Wish, decode_wish, encode_wish
from pyrsia_node.ledger.chain import RequestView
from pyrsia_node.model.digest import parse_sha256
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.model.purl import Purl
from pyrsia_node.ports import PeerId, PeerRequests
from pyrsia_node.schema.links import BuildStarted, BuildStatus, Progress

_LOG = logging.getLogger("pyrsia.builds")

ASK_TIMEOUT_S: Final = 2.0
STATUS_BYTES_MAX: Final = 256 * 1024
LAPSED: Final = "the request was not ordered: it lapsed, or an equal one was first; ask again"
AWAITS_LOG: Final = "the outcome is on its way into this node's copy of the log"


class BuildService:
    """Wishes in, outcomes out.

    Args (of the constructor):
        builds: Whether this node has a build worker; it sponsors and rebuilds while it is a member.
        sponsors: Where a regular node forwards to; empty means any member.
        allow: Whose forwarded wishes this sponsor takes; ``*`` is everybody's.
    """

    def __init__(
        self,
        context: BuildContext,
        *,
        builds: bool,
        sponsors: Sequence[str],
        allow: Sequence[str],
    ) -> None:
        """Work in ``context``."""
        self._context = context
        self._builds = builds
        self._sponsors = sponsors
        self._allow = allow
        self._sponsor = Sponsor(context)
        self._documents = Documents(context)
        self.explanations = Explanations(context, self._documents)
        self._attester = Attester(context)
        self._rebuilder = Rebuilder(context, self._documents, self._attester.wake)
        follows = context.records.follows()
        self.following = Following(context, follows, builds=builds, sponsors=sponsors, allow=allow)
        self._follower = Follower(context, follows, ask=self._ask, state_of=self._state_of)
        self.following.on_change = self._follower.wake
        # Bounded by the sponsor, which records no more than OPEN_MAX wishes at once.
        self._wishes, self._to_carry_out = trio.open_memory_channel[BuildRecord](math.inf)
        self._in_hand: set[str] = set()

    @property
    def _is_sponsor(self) -> bool:
        return self._builds and self._context.is_member()

    def serve_on(self, requests: PeerRequests) -> None:
        """Register the methods that other nodes may ask."""
        requests.serve("document", self._documents.serve, request_bytes_max=64)
        requests.serve("build", self._take_wish, request_bytes_max=WISH_BYTES_MAX)
        requests.serve("build_status", self._tell_status, request_bytes_max=256)
        requests.serve("progress", self._tell_progress, request_bytes_max=64)
        self.following.serve_on(requests)

    async def run(self) -> None:
        """Carry out wishes and answer requests until cancelled."""
        async with trio.open_nursery() as nursery:
            if self._builds:
                nursery.start_soon(self._rebuilder.run, nursery)
                nursery.start_soon(self._attester.run)
                nursery.start_soon(self._follower.run)
                self._take_up()
                async for record in self._to_carry_out:
                    nursery.start_soon(self._carry_out, record)

    def _hand_over(self, record: BuildRecord) -> None:
        """Have a wish carried out, once however often it is asked for."""
        if record.build_id not in self._in_hand:
            self._in_hand.add(record.build_id)
            self._wishes.send_nowait(record)

    async def _carry_out(self, record: BuildRecord) -> None:
        try:
            await self._sponsor.carry_out(record)
        finally:
            self._in_hand.discard(record.build_id)

    def _take_up(self) -> None:
        """Carry on with wishes that a restart interrupted before their request was sent."""
        for record in self._context.records.all():
            if not self._is_own(record):
                continue
            if record.state in {"queued", "trial"} or self._is_lost(record):
                self._hand_over(record)

    def _is_own(self, record: BuildRecord) -> bool:
        """Whether this node sponsors a build, and not one that it forwarded to."""
        return record.sponsor == self._context.identity.me

    def _is_lost(self, record: BuildRecord) -> bool:
        """Whether a request was signed that neither the ledger nor our own memory knows."""
        return (
            record.state == "requested"
            and self._is_own(record)
            and record.build_id not in self._in_hand
            and not self._context.is_pending(record.request)
            and self._view(record) is None
        )

    # ------------------------------------------------------------ wishes

    async def start(
        self,
        purl: Purl,
        time_class: str,
        *,
        platforms: Sequence[str] = (),
        pinned: str = "",
        options: str = "",
    ) -> BuildStarted:
        """Take a wish of this node's own user.

        Args:
            purl: What to rebuild or import.
            time_class: The deadline class; "" leaves it to the sponsor.
            platforms: Of an image: which; () is all.
            pinned: Of an image: the digest that its tag must be, or "".
            options: Of an image to be rebuilt: what from, as ``wishes.encode_options`` gives it.

        Raises:
            UnavailableError: no sponsor is connected.
            InvalidInputError: the sponsor refuses (the text says why).
        """
        wanted = Wanted(purl, time_class, tuple(sorted(set(platforms))), pinned, options)
        if self._is_sponsor:
            return self._take(wanted, forwarded_by="")
        return await self._forward(wanted)

    def _take(self, wanted: Wanted, *, forwarded_by: str) -> BuildStarted:
        record = self._ask(wanted, forwarded_by)
        return BuildStarted(build_id=record.build_id, state=self.status_of(record).state)

    def _ask(self, wanted: Wanted, forwarded_by: str) -> BuildRecord:
        """Record a wish and have it carried out."""
        record = self._sponsor.accept(wanted, forwarded_by=forwarded_by)
        if record.state == "queued":
            self._hand_over(record)
        return record

    def _state_of(self, build_id: str) -> str:
        return self.status_of(self._context.records.get(build_id)).state

    async def _forward(self, wanted: Wanted) -> BuildStarted:
        identity, purl = self._context.identity, wanted.purl
        wish = encode_wish(
            Wish(
                purl=purl,
                time_class=wanted.time_class,
                by=identity.me,
                platforms=wanted.platforms,
                pinned=wanted.pinned,
                options=wanted.options,
            ),
            network_id=identity.network_id,
            now_ms=self._context.clock.now_ms(),
            sign=identity.sign_wish,
        )
        refusal: PyrsiaError | None = None
        for sponsor in sponsor_peers(self._context, self._sponsors):
            try:
                answer = await self._context.requests.ask(
                    sponsor,
                    "build",
                    wish,
                    timeout_s=ASK_TIMEOUT_S,
                    answer_bytes_max=STATUS_BYTES_MAX,
                )
                started = BuildStarted.parse(read_object(answer))
                self._require_fresh(started.build_id, purl, sponsor)
            except PyrsiaError as error:
                refusal = error
                continue
            self._remember(started, wanted, sponsor)
            return started
        if refusal is not None:
            raise refusal
        raise UnavailableError(NO_SPONSOR)

    def _require_fresh(self, build_id: str, purl: Purl, sponsor: PeerId) -> None:
        """Refuse an id under which another sponsor's, or another package's, build is kept here.

        Raises:
            PeerMisbehaviorError: it is such an id, or none that can be kept.
        """
        if not build_id or printable(build_id, 128) != build_id:
            raise PeerMisbehaviorError(sponsor, "sent a build id that is none")
        try:
            known = self._context.records.get(build_id)
        except NotFoundError:
            return
        if (known.sponsor, known.purl) != (sponsor, str(purl)):
            raise PeerMisbehaviorError(sponsor, f"sent the id of another build, {build_id}")

    def _remember(self, started: BuildStarted, wanted: Wanted, sponsor: PeerId) -> None:
        now = self._context.clock.now_ms()
        self._context.records.save(
            BuildRecord(
                build_id=started.build_id,
                purl=str(wanted.purl),
                time_class=wanted.time_class,
                platforms=",".join(wanted.platforms),
                pinned=wanted.pinned,
                options=wanted.options,
                state=started.state,
                stage="",
                detail="",
                request="",
                sponsor=sponsor,
                forwarded_by=self._context.identity.me,
                started_ms=now,
                updated_ms=now,
            )
        )

    async def _take_wish(self, peer: PeerId, payload: bytes) -> bytes:
        """Answer the ``build`` method: a wish that another node forwards."""
        check_sponsor(peer, is_sponsor=self._is_sponsor, allow=self._allow)
        wish = decode_wish(
            payload,
            network_id=self._context.identity.network_id,
            now_ms=self._context.clock.now_ms(),
            sender=peer,
            verify=verify,
        )
        if wish.every_s is not None:
            raise InvalidInputError("build wish: it asks to follow a tag, not for a build")
        wanted = Wanted(wish.purl, wish.time_class, wish.platforms, wish.pinned, wish.options)
        started = self._take(wanted, forwarded_by=peer)
        return json.dumps(started.dump()).encode()

    # ------------------------------------------------------------ status

    async def status(self, build_id: str) -> BuildStatus:
        """Return how a build stands, with the progress of every member.

        Raises:
            NotFoundError: this node knows no such build.
        """
        return self._as_served(await self._status(build_id))

    async def _status(self, build_id: str) -> BuildStatus:
        record = self._context.records.get(build_id)
        if not self._is_own(record):
            return await self._ask_sponsor(record)
        status = self.status_of(record)
        view = self._view(record)
        if view is not None and view.is_open:
            progress = await self._gather_progress(view)
            return status.model_copy(update={"progress": progress})
        return status

    def _as_served(self, status: BuildStatus) -> BuildStatus:
        """Hold an outcome back until clients of this node see it in the log.

        Otherwise whoever waits for a build and then installs is a moment too early.
        """
        leaf = status.leaf_index
        if leaf is None or leaf < self._context.published_size():
            return status
        waiting = {"state": "building", "stage": "log", "detail": AWAITS_LOG, "outcome": None}
        return status.model_copy(update={**waiting, "leaf_index": None})

    def recent(self, limit: int) -> list[BuildStatus]:
        """Return the newest builds that were asked of this node."""
        records = self._context.records.all()[:limit]
        return [self._as_served(self.status_of(record)) for record in records]

    def status_of(self, record: BuildRecord) -> BuildStatus:
        """Return a build's status from its record and from the ledger."""
        view = self._view(record)
        if self._is_lost(record):
            # It lapsed, or somebody else's equal request was first. It will never be ordered.
            now_ms = self._context.clock.now_ms()
            record = record.at("refused", "request", LAPSED, now_ms=now_ms)
            self._context.records.save(record)
        state = record.state
        if view is not None:
            state = "building" if view.is_open else (view.outcome or "building")
            if state != record.state and state in {"accepted", "diverged", "failed", "expired"}:
                record = record.at(state, "", "", now_ms=self._context.clock.now_ms())
                self._context.records.save(record)
        return BuildStatus.parse(
            {
                "build_id": record.build_id,
                "purl": record.purl,
                "state": state,
                "stage": record.stage,
                "detail": record.detail,
                "request": record.request or None,
                "sponsor": record.sponsor or None,
                "outcome": view.outcome if view is not None else None,
                "leaf_index": view.outcome_leaf if view is not None else None,
                "started_ms": record.started_ms,
                "updated_ms": record.updated_ms,
            }
        )

    def _view(self, record: BuildRecord) -> RequestView | None:
        if not record.request:
            return None
        return self._context.chain.request(parse_sha256(record.request))

    async def _ask_sponsor(self, record: BuildRecord) -> BuildStatus:
        """Ask the sponsor; while it is away, say what this node knows by itself."""
        try:
            answer = await self._context.requests.ask(
                PeerId(record.sponsor),
                "build_status",
                record.build_id.encode(),
                timeout_s=ASK_TIMEOUT_S,
                answer_bytes_max=STATUS_BYTES_MAX,
            )
            status = BuildStatus.parse(read_object(answer))
            if (status.build_id, status.purl) != (record.build_id, record.purl):
                raise PeerMisbehaviorError(record.sponsor, f"told of build {status.build_id}")
            if status.request:
                parse_sha256(status.request)
        except NotFoundError:
            return self._forgotten(record)
        except CorruptStateError:
            raise
        except PyrsiaError as error:
            return self.status_of(replace(record, detail=f"sponsor does not answer: {error}"))
        if status.request and status.request != record.request:
            record = replace(record, request=status.request)
        record = record.at(
            status.state, status.stage, status.detail, now_ms=self._context.clock.now_ms()
        )
        self._context.records.save(record)
        return status

    def _forgotten(self, record: BuildRecord) -> BuildStatus:
        """End a build that its sponsor no longer knows, unless our own log tells more."""
        if not record.has_ended and self._view(record) is None:
            now_ms = self._context.clock.now_ms()
            record = record.at("refused", "sponsor", "its sponsor forgot it", now_ms=now_ms)
            self._context.records.save(record)
        return self.status_of(record)

    async def _tell_status(self, _peer: PeerId, payload: bytes) -> bytes:
        status = await self._status(payload.decode("utf-8", "replace"))
        return json.dumps(status.dump()).encode()

    # ------------------------------------------------------------ progress

    async def _gather_progress(self, view: RequestView) -> list[Progress]:
        gathered: dict[str, Progress] = {}

        async def ask(member: str) -> None:
            gathered[member] = await self._member_progress(view, member)

        async with trio.open_nursery() as nursery:
            for member in view.members:
                nursery.start_soon(ask, member)
        return [gathered[member] for member in view.members]

    async def _member_progress(self, view: RequestView, member: str) -> Progress:
        labels, me = self._context.labels(), self._context.identity.me
        state, stage, detail = "unknown", "", ""
        if member in view.items:
            state = "attested"
        elif member in view.committed:
            state = "promised"
        elif member == me:
            own = self._rebuilder.progress(view.id)
            if own is not None:
                state, stage, detail = own.state, own.stage, own.detail
        else:
            peer = self._context.peer_of(next(m for m in view.members if m == member))
            try:
                answer = read_object(
                    await self._context.requests.ask(
                        peer, "progress", view.id.encode(), timeout_s=1.0, answer_bytes_max=8192
                    )
                )
                state, stage, detail = (
                    printable(str(answer.get(key, "")), 1000)
                    for key in ("state", "stage", "detail")
                )
            except PyrsiaError:
                state = "away"
        return Progress(
            id=member, label=labels.get(member, member), state=state, stage=stage, detail=detail
        )

    async def _tell_progress(self, _peer: PeerId, payload: bytes) -> bytes:
        request = parse_sha256(payload.decode("ascii", "replace"))
        own = self._rebuilder.progress(request)
        if own is None:
            raise NotFoundError(f"request {request} is not being rebuilt here")
        return json.dumps(
            {"state": own.state, "stage": own.stage, "detail": own.detail[:1000]}
        ).encode()
