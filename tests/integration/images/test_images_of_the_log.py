"""Images of the log, served: proved entries, bytes from peers, and nothing under a wrong name."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pyrsia_node.artifacts.fetcher import Fetcher
from pyrsia_node.artifacts.images.found import LogWord
from pyrsia_node.artifacts.images.images import Images
from pyrsia_node.artifacts.images.log_side import LoggedImages
from pyrsia_node.artifacts.images.requests import ImportRequests
from pyrsia_node.artifacts.joining_log import JoiningLog
from pyrsia_node.artifacts.statements import RefusedError
from pyrsia_node.artifacts.verified_log import VerifiedLog
from pyrsia_node.ledger.reader import IndexReader
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.documents import Document
from pyrsia_node.model.errors import NotFoundError, UnavailableError, VerificationError
from pyrsia_node.model.oci import ImageName, OciDigest
from pyrsia_node.model.statements import Revoke, Withdraw
from pyrsia_node.store.blobs import FileBlobStore
from pyrsia_node.transfer.client import HttpsPieceSource
from tests.fakes.data_peers import MemoryRouter
from tests.fakes.logged_images import DOCKER_PARAMS, image_document, image_file
from tests.fakes.published_log import PublishedLog

ALPINE = ImageName("docker.io", "library/alpine")
OTHER = ImageName("docker.io", "somebody/else")
ROOT, NEXT, LAYER = b'{"schemaVersion":2}', b'{"schemaVersion":2 }', b"layer" * 1000
NONCE = "0" * 32


def digest(data: bytes) -> OciDigest:
    return OciDigest("sha256", hashlib.sha256(data).hexdigest())


@dataclass
class Node:
    images: Images
    log: PublishedLog
    store: FileBlobStore
    folder: Path
    asked: list[str]

    def have(self, *contents: bytes) -> None:
        """Put bytes into the store, as if peers had sent them."""
        for content in contents:
            path = self.folder / "incoming"
            path.write_bytes(content)
            self.store.adopt(str(path), sha256_of(content))

    def accept(self, document: Document, *, seen_ms: int | None = None) -> int:
        return self.log.accept(document, seen_ms=seen_ms)


@asynccontextmanager
async def node(folder: Path, *, opt_in: bool = False) -> AsyncIterator[Node]:
    log = PublishedLog(folder / "node", params=DOCKER_PARAMS)
    store = FileBlobStore(folder / "blobs", cached_bytes_max=1 << 30)
    pieces = HttpsPieceSource()
    fetcher = Fetcher(store, folder / "partial", MemoryRouter([]), pieces)
    reader = IndexReader(log.root)
    asked: list[str] = []

    async def ask(name: ImageName, reference: str) -> None:
        asked.append(f"{name}:{reference}")

    requests = ImportRequests(ask, per_hour=2)
    proved = VerifiedLog(log.root / "log", log.trust)
    logged = LoggedImages(proved, reader, serve_revoked=opt_in)
    try:
        yield Node(Images(logged, fetcher, store, requests=requests), log, store, folder, asked)
    finally:
        await requests.close()
        await fetcher.close()
        await pieces.close()
        reader.close()
        log.close()


def run(folder: Path, act: Callable[[Node], Awaitable[None]], *, opt_in: bool = False) -> None:
    async def scenario() -> None:
        async with node(folder, opt_in=opt_in) as it:
            await act(it)

    asyncio.run(scenario())


def test_tag_and_digest_give_the_exact_bytes_and_say_who_vouches(tmp_path: Path) -> None:
    async def act(it: Node) -> None:
        index = it.accept(image_document(ALPINE, "3.20", ROOT, layers=[LAYER]))
        it.have(ROOT, LAYER)
        for reference in ("3.20", str(digest(ROOT))):
            found = await it.images.manifest(ALPINE, reference, upstream=False)
            assert found.data == ROOT
            assert found.digest == digest(ROOT)
            assert found.vouched == "log"
            assert ("x-pyrsia-entry", str(index)) in found.headers
        blob = await it.images.stat(ALPINE, digest(LAYER))
        assert blob.size == len(LAYER)
        reader = await it.images.open(ALPINE, digest(LAYER))
        try:
            assert await reader.read(5, 5) == b"layer"
        finally:
            reader.close()

    run(tmp_path, act)


def test_moved_tag_is_seen_with_the_next_checkpoint_and_history_keeps_both(tmp_path: Path) -> None:
    async def act(it: Node) -> None:
        first = it.accept(image_document(ALPINE, "latest", ROOT))
        it.have(ROOT, NEXT)
        assert (await it.images.manifest(ALPINE, "latest")).data == ROOT
        second = it.accept(image_document(ALPINE, "latest", NEXT))
        assert (await it.images.manifest(ALPINE, "latest")).data == NEXT
        assert (await it.images.manifest(ALPINE, str(digest(ROOT)))).data == ROOT
        history = await it.images.history(ALPINE, "latest")
        assert [(step.index, step.digest) for step in history] == [
            (first, str(digest(ROOT))),
            (second, str(digest(NEXT))),
        ]
        assert history[0].time_ms < history[1].time_ms
        assert await it.images.tags(ALPINE) == ["latest"]

    run(tmp_path, act)


def test_history_tells_who_saw_the_digest_and_when(tmp_path: Path) -> None:
    async def act(it: Node) -> None:
        it.accept(image_document(ALPINE, "latest", ROOT), seen_ms=1_700_000_000_000)
        (step,) = await it.images.history(ALPINE, "latest")
        members = {str(one.id) for one in it.log.local.members}
        assert len(step.sightings) >= 2
        assert {who for who, _ in step.sightings} <= members
        assert {when for _, when in step.sightings} == {1_700_000_000_000}

    run(tmp_path, act)


def test_word_of_the_log_names_claim_and_closing_whatever_is_served(tmp_path: Path) -> None:
    async def act(it: Node) -> None:
        member = it.log.local.members[0].id
        index = it.accept(image_document(ALPINE, "1", ROOT))
        word = await it.images.word(ALPINE, "1")
        assert word == LogWord(str(digest(ROOT)), index, "mirrored")
        assert await it.images.word(ALPINE, "2") is None
        it.log.state(Revoke(member, ALPINE.purl("1"), sha256_of(ROOT), "a miner", NONCE))
        word = await it.images.word(ALPINE, str(digest(ROOT)))
        assert word is not None
        assert "a miner" in word.closed

    run(tmp_path, act, opt_in=True)


def test_blob_of_another_repository_is_not_served_under_this_name(tmp_path: Path) -> None:
    async def act(it: Node) -> None:
        it.accept(image_document(ALPINE, "1", ROOT))
        it.accept(image_document(OTHER, "1", NEXT, layers=[LAYER]))
        it.have(ROOT, NEXT, LAYER)
        with pytest.raises(NotFoundError):
            await it.images.open(ALPINE, digest(LAYER))
        with pytest.raises(NotFoundError):
            await it.images.manifest(ALPINE, str(digest(NEXT)))

    run(tmp_path, act)


def test_withdrawn_and_revoked_images_are_refused_with_the_reason(tmp_path: Path) -> None:
    async def act(it: Node) -> None:
        member = it.log.local.members[0].id
        index = it.accept(image_document(ALPINE, "1", ROOT))
        it.accept(image_document(ALPINE, "2", NEXT, layers=[LAYER]))
        it.have(ROOT, NEXT, LAYER)
        it.log.state(Withdraw(member, ALPINE.purl("1"), index, "built by a thief", NONCE))
        it.log.state(Revoke(member, ALPINE.purl("2"), sha256_of(LAYER), "a miner", NONCE))
        with pytest.raises(RefusedError, match="built by a thief"):
            await it.images.manifest(ALPINE, "1")
        with pytest.raises(RefusedError, match="a miner"):
            await it.images.open(ALPINE, digest(LAYER))
        with pytest.raises(RefusedError, match="a miner"):
            await it.images.stat(ALPINE, digest(LAYER))
        assert (await it.images.manifest(ALPINE, "2")).data == NEXT
        assert await it.images.tags(ALPINE) == ["2"]

    run(tmp_path, act)


def test_operator_may_serve_what_was_withdrawn_and_the_answer_says_so(tmp_path: Path) -> None:
    async def act(it: Node) -> None:
        member = it.log.local.members[0].id
        index = it.accept(image_document(ALPINE, "1", ROOT))
        it.have(ROOT)
        it.log.state(Withdraw(member, ALPINE.purl("1"), index, "gebaut für Diebe", NONCE))
        found = await it.images.manifest(ALPINE, "1")
        assert found.data == ROOT
        (said,) = [text for name, text in found.headers if name == "x-pyrsia-statement"]
        assert "gebaut f?r Diebe" in said

    run(tmp_path, act, opt_in=True)


def test_bytes_that_no_peer_has_are_unavailable_not_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyrsia_node.artifacts.download.ASK_AGAIN_SECONDS", (0.01,))

    async def act(it: Node) -> None:
        it.accept(image_document(ALPINE, "1", ROOT))
        with pytest.raises(UnavailableError):
            await it.images.manifest(ALPINE, "1")

    run(tmp_path, act)


def test_unknown_image_names_the_command_and_is_asked_for_once_within_the_limit(
    tmp_path: Path,
) -> None:
    async def act(it: Node) -> None:
        with pytest.raises(NotFoundError, match="were asked to import docker"):
            await it.images.manifest(ALPINE, "1")
        with pytest.raises(NotFoundError, match="was asked for 0 s ago"):
            await it.images.manifest(ALPINE, "1")
        with pytest.raises(NotFoundError, match="were asked"):
            await it.images.manifest(ALPINE, "2")
        with pytest.raises(NotFoundError, match="2 imports within an hour"):
            await it.images.manifest(ALPINE, "3")
        with pytest.raises(NotFoundError, match="no accepted import"):
            await it.images.manifest(ALPINE, "4", upstream=False)
        await asyncio.sleep(0)
        assert it.asked == [f"{ALPINE}:1", f"{ALPINE}:2"]
        assert not await it.images.knows(ALPINE)
        assert await it.images.tags(ALPINE) is None

    run(tmp_path, act)


def test_name_is_logged_while_one_entry_is_not_withdrawn(tmp_path: Path) -> None:
    async def act(it: Node) -> None:
        member = it.log.local.members[0].id
        index = it.accept(image_document(ALPINE, "1", ROOT))
        assert await it.images.logs(ALPINE)
        assert not await it.images.logs(OTHER)
        it.log.state(Withdraw(member, ALPINE.purl("1"), index, "no", NONCE))
        assert not await it.images.logs(ALPINE)

    run(tmp_path, act)


class _Peers(JoiningLog):
    """What peers prove while a node joins: here, everything that another node's log has."""

    def __init__(self, log: PublishedLog, reader: IndexReader) -> None:
        self._found = VerifiedLog(log.root / "log", log.trust), reader
        self.asked: list[str] = []

    async def part(self, name: str) -> tuple[VerifiedLog, IndexReader]:
        self.asked.append(name)
        return self._found


def test_joining_node_serves_images_that_peers_prove_until_it_has_its_own_log(
    tmp_path: Path,
) -> None:
    async def act(it: Node) -> None:
        it.accept(image_document(ALPINE, "1", ROOT))
        it.have(ROOT)
        own = PublishedLog(tmp_path / "own", params=DOCKER_PARAMS)
        (own.root / "log" / "checkpoint").rename(tmp_path / "checkpoint")
        reader, own_reader = IndexReader(it.log.root), IndexReader(own.root)
        joining = _Peers(it.log, reader)
        logged = LoggedImages(VerifiedLog(own.root / "log", own.trust), own_reader)
        images = Images(logged, it.images._fetcher, it.store, joining=joining)
        try:
            assert (await images.manifest(ALPINE, "1")).data == ROOT
            assert await images.logs(ALPINE)
            assert set(joining.asked) == {"docker.io/library/alpine"}
            (tmp_path / "checkpoint").rename(own.root / "log" / "checkpoint")
            with pytest.raises(NotFoundError):
                await images.manifest(ALPINE, "1")
        finally:
            reader.close()
            own_reader.close()
            own.close()

    run(tmp_path, act)


def test_entry_with_other_pieces_does_not_publish_what_was_pushed_here(tmp_path: Path) -> None:
    async def act(it: Node) -> None:
        right = image_file("layer", LAYER)
        wrong = replace(right, pieces="0" * 64)
        it.accept(image_document(ALPINE, "1", ROOT, files=[wrong]))
        path = it.folder / "pushed"
        path.write_bytes(LAYER)
        it.store.adopt(str(path), right.sha256, local=True)
        with pytest.raises(VerificationError, match="the log says"):
            await it.images.open(ALPINE, digest(LAYER))
        assert not it.store.is_shared(right.sha256)
        it.accept(image_document(OTHER, "1", NEXT, files=[right]))
        (await it.images.open(OTHER, digest(LAYER))).close()
        assert it.store.is_shared(right.sha256)

    run(tmp_path, act)
