"""Tags that are followed: who may ask for it, and what is told about it.

An authorized node keeps its users' tags and those of the regular nodes whose wishes it takes. A
regular node forwards, to one sponsor to follow and to all to end or list; it keeps nothing itself.
Only tags of images move: a digest never does, and releases of other ecosystems are new versions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import trio

from consensus.ed25519 import verify
from pyrsia_node.builds.context import BuildContext
from pyrsia_node.builds.follow_records import FollowRecord, FollowRecords
from pyrsia_node.builds.images import image_of
from pyrsia_node.builds.wishes import WISH_BYTES_MAX, Wish, decode_wish, encode_wish
from pyrsia_node.model.errors import (
    CorruptStateError,
    InvalidInputError,
    NotFoundError,
    PyrsiaError,
    UnavailableError,
)
from pyrsia_node.model.purl import Purl
from pyrsia_node.ports import PeerId, PeerRequests
from pyrsia_node.schema.following import EVERY_S_MIN, Followed, Follows

_LOG = logging.getLogger("pyrsia.builds.following")

FOLLOWS_MAX: Final = 1000
"""Tags that one node follows."""

FOLLOWS_PER_NODE_MAX: Final = 50
"""Of these, those that one other node may have it follow."""

ASK_TIMEOUT_S: Final = 3.0
FOLLOWS_BYTES_MAX: Final = 512 * 1024


class Following:
    """Begins, ends and lists."""

    def __init__(
        self,
        context: BuildContext,
        records: FollowRecords,
        *,
        builds: bool,
        sponsors: Sequence[str],
        allow: Sequence[str],
    ) -> None:
        """Work in ``context``; the rest as for ``BuildService``."""
        self._context = context
        self._records = records
        self._builds = builds
        self._sponsors = sponsors
        self._allow = allow
        self.on_change: Callable[[], None] = lambda: None

    @property
    def _is_sponsor(self) -> bool:
        return self._builds and self._context.is_member()

    def serve_on(self, requests: PeerRequests) -> None:
        """Register the methods that other nodes may ask."""
        requests.serve("follow", self._take_wish, request_bytes_max=WISH_BYTES_MAX)
        requests.serve("follows", self._tell, request_bytes_max=16)

    # ------------------------------------------------------------ this node's user

    async def follow(self, purl: Purl, *, platforms: Sequence[str], every_s: int) -> Followed:
        """Follow a tag, or change how it is followed.

        Raises:
            InvalidInputError: It is no tag of an image, or the sponsor refuses.
            UnavailableError: No sponsor is connected, or too much is followed.
        """
        wish = self._wish(purl, tuple(sorted(set(platforms))), every_s)
        if self._is_sponsor:
            return self._begin(wish, by="")
        answers = await self._forward(wish, to_all=False)
        return Followed.parse(answers[0])

    async def unfollow(self, purl: Purl) -> None:
        """Look at a tag no more.

        Raises:
            NotFoundError: It is not followed.
            UnavailableError: No sponsor is connected.
        """
        wish = self._wish(purl, (), 0)
        if self._is_sponsor:
            self._end(purl, by="")
        else:
            await self._forward(wish, to_all=True)

    async def follows(self) -> Follows:
        """Return the tags that this node follows, or that others follow for it."""
        if self._is_sponsor:
            return Follows(follows=[self._told(each) for each in self._records.all()])
        found: list[Followed] = []
        away: list[str] = []

        async def ask(peer: PeerId) -> None:
            try:
                answer = await self._context.requests.ask(
                    peer,
                    "follows",
                    b"",
                    timeout_s=ASK_TIMEOUT_S,
                    answer_bytes_max=FOLLOWS_BYTES_MAX,
                )
                found.extend(Follows.parse(read_object(answer)).follows)
            except PyrsiaError as error:
                _LOG.info("what %s follows: %s", peer, error)
                away.append(self._label(peer))

        peers = sponsor_peers(self._context, self._sponsors)
        async with trio.open_nursery() as nursery:
            for peer in peers:
                nursery.start_soon(ask, peer)
        return Follows(follows=sorted(found, key=lambda each: each.purl), away=sorted(away))

    def _wish(self, purl: Purl, platforms: tuple[str, ...], every_s: int) -> Wish:
        check_followed(purl)
        me = self._context.identity.me
        return Wish(purl, "", me, platforms=platforms, every_s=every_s)

    async def _forward(self, wish: Wish, *, to_all: bool) -> list[dict[str, object]]:
        """Send a wish to the first sponsor that takes it, or to all; return what they answer."""
        identity, answers = self._context.identity, list[dict[str, object]]()
        refusal: PyrsiaError = UnavailableError(NO_SPONSOR)
        data = encode_wish(
            wish,
            network_id=identity.network_id,
            now_ms=self._context.clock.now_ms(),
            sign=identity.sign_wish,
        )
        for peer in sponsor_peers(self._context, self._sponsors):
            try:
                answer = await self._context.requests.ask(
                    peer, "follow", data, timeout_s=ASK_TIMEOUT_S, answer_bytes_max=WISH_BYTES_MAX
                )
                answers.append(read_object(answer))
            except CorruptStateError:
                raise
            except PyrsiaError as error:
                refusal = error
                continue
            if not to_all:
                break
        if not answers:
            raise refusal
        return answers

    # ------------------------------------------------------------ the sponsor

    def _begin(self, wish: Wish, *, by: str) -> Followed:
        purl = str(wish.purl)
        every_s = max(wish.every_s or 0, EVERY_S_MIN)
        before = self._records.get(by, purl)
        if before is None:
            kept = self._records.all()
            theirs = sum(each.by == by for each in kept)
            if len(kept) >= FOLLOWS_MAX or (by and theirs >= FOLLOWS_PER_NODE_MAX):
                raise UnavailableError(f"{len(kept)} tags are followed here, which is the limit")
            before = FollowRecord(purl=purl, by=by, platforms="", every_s=every_s)
        record = replace(before, platforms=",".join(wish.platforms), every_s=every_s)
        self._records.save(record)
        self.on_change()
        return self._told(record)

    def _end(self, purl: Purl, *, by: str) -> None:
        if not self._records.delete(by, str(purl)):
            raise NotFoundError(f"{purl} is not followed; `pyrsia follow --list` shows what is")

    async def _take_wish(self, peer: PeerId, payload: bytes) -> bytes:
        """Answer the ``follow`` method: a wish that another node forwards."""
        check_sponsor(peer, is_sponsor=self._is_sponsor, allow=self._allow)
        wish = decode_wish(
            payload,
            network_id=self._context.identity.network_id,
            now_ms=self._context.clock.now_ms(),
            sender=peer,
            verify=verify,
        )
        if wish.every_s is None:
            raise InvalidInputError("build wish: it asks for a build, not to follow a tag")
        check_followed(wish.purl)
        if wish.every_s == 0:
            self._end(wish.purl, by=peer)
            return b"{}"
        return json.dumps(self._begin(wish, by=peer).dump()).encode()

    async def _tell(self, peer: PeerId, _payload: bytes) -> bytes:
        """Answer the ``follows`` method: what is followed for the peer that asks."""
        own = [self._told(each) for each in self._records.all() if each.by == peer]
        return json.dumps(Follows(follows=own).dump()).encode()

    def _told(self, record: FollowRecord) -> Followed:
        logged = self._context.newest_image(Purl.parse(record.purl))
        return Followed(
            purl=record.purl,
            platforms=record.platforms.split(",") if record.platforms else [],
            every_s=record.every_s,
            node=self._label(self._context.identity.me),
            by=record.by,
            looked_ms=record.looked_ms,
            seen=record.seen,
            seen_ms=record.seen_ms,
            logged=logged.digest if logged is not None else "",
            logged_leaf=logged.leaf if logged is not None else None,
            build_id=record.build_id,
            problem=record.problem,
        )

    def _label(self, node: str) -> str:
        return self._context.labels().get(node, node)


NO_SPONSOR: Final = "no authorized node is connected; see `pyrsia list`"


def check_followed(purl: Purl) -> None:
    """Check that a purl is what can be followed: an image's tag; raises InvalidInputError."""
    if purl.type != "docker":
        raise InvalidInputError(f"{purl}: only tags of images are followed, not {purl.type}")
    if purl.version is None or image_of(purl)[1] is None:
        raise InvalidInputError(f"{purl} names no tag: a digest never changes")


def check_sponsor(peer: PeerId, *, is_sponsor: bool, allow: Sequence[str]) -> None:
    """Check that this node takes wishes, and those of ``peer``; raises InvalidInputError."""
    if not is_sponsor:
        raise InvalidInputError("this node does not build; ask an authorized node")
    if "*" not in allow and peer not in allow:
        raise InvalidInputError(
            f"{peer} is not on this sponsor's allow-list ([build] allow in node.toml)"
        )


def sponsor_peers(context: BuildContext, sponsors: Sequence[str]) -> list[PeerId]:
    """Return the connected nodes that a regular node forwards to, in their order."""
    members = [context.peer_of(member.id) for member in context.chain.tip.members.members]
    wanted = [PeerId(each) for each in sponsors] or members
    connected = context.requests.connected()
    return [peer for peer in wanted if peer in connected]


def read_object(answer: bytes) -> dict[str, object]:
    """Return the JSON object that a peer answered; raises InvalidInputError if it is none."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"answer is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInputError("answer is not a JSON object")
    return value
