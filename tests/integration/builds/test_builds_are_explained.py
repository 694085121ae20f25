"""What differs is kept by digest, named in the answer, and found by whoever asks at any node."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from trio.testing import MockClock

from buildpipelines.spec import canonical as build_canonical
from buildpipelines.spec.explanation import (
    EXPLANATION_BYTES_MAX,
    Content,
    FileExplanation,
    make_difference,
    make_explanation,
)
from pyrsia_node.builds.attester import Attester
from pyrsia_node.builds.documents import Documents
from pyrsia_node.builds.explanations import Explanations
from pyrsia_node.model.digest import Sha256, sha256_of
from pyrsia_node.model.errors import NotFoundError
from pyrsia_node.ports import PeerId
from tests.fakes.build_site import BuildSite
from tests.integration.builds.test_maven_builds import CODEC, ORIGIN, requested, site_of
from tests.integration.builds.test_rebuilds import answer, rebuilding
from tests.strategies.build_bodies import digest

JAR = "commons-codec-1.15.jar"


def explanation(purl: str = str(CODEC), built: str = "17.0.18") -> bytes:
    """Return a member's comparison of the jar."""
    difference = make_difference(
        "META-INF/MANIFEST.MF",
        "Build-Jdk",
        built=built,
        published="17.0.9",
        level=2,
        rule="jar-build-metadata",
    )
    content = Content(digest(JAR), 3)
    file = FileExplanation(JAR, 2, content, content, differences=(difference,))
    return make_explanation(purl=purl, rules=digest("rules"), files=[file]).encode()


async def attested(site: BuildSite, path: Path) -> Sha256:
    """Have the site's node rebuild with an explanation at ``path``; return the request's id."""
    results = site.worker._results
    site.worker._results = lambda method, params: replace(
        results(method, params),  # type: ignore[type-var] # a result
        explanation_path=str(path),
    )
    site.origins[str(CODEC)] = ORIGIN
    wanted = await requested(site)
    async with rebuilding(site):
        await answer(site, wanted)
    return wanted


async def logged(site: BuildSite, wanted: Sha256) -> int:
    """Put the node's answer into the log; return a leaf about the request: its own document."""
    attester = Attester(site.context)
    for _ in range(4):
        await attester.look()
        site.commit_pending()
    view = site.local.chain.request(wanted)
    assert view is not None
    assert site.me in view.items
    size = site.local.chain.tip.size
    return next(
        leaf
        for leaf in range(size)
        if build_canonical.loads_object(site.local.chain.leaf(leaf), bytes_max=50_000).get("req")
        == wanted
    )


async def test_explanation_is_named_in_the_answer_and_served_by_its_digest(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_of(tmp_path)
    path = tmp_path / "explanation.json"
    path.write_bytes(explanation())
    wanted = await attested(site, path)
    own = site.records.item(wanted)
    assert own is not None
    assert own.item["explained"] == sha256_of(explanation())
    leaf = await logged(site, wanted)
    told = Explanations(site.context, Documents(site.context))
    found = told.explained(leaf)
    [member] = found.members
    assert (found.purl, found.request) == (str(CODEC), wanted)
    assert (member.id, member.explained) == (site.me, own.item["explained"])
    answered = await told.explanation(leaf, str(member.explained))
    assert answered.document is not None
    assert build_canonical.dumps(answered.document) == explanation()
    served = await Documents(site.context).serve(PeerId("x"), str(member.explained).encode())
    assert served == explanation()


async def test_other_nodes_ask_who_attested_and_check_what_comes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_of(tmp_path)
    path = tmp_path / "explanation.json"
    path.write_bytes(explanation())
    wanted = await attested(site, path)
    leaf = await logged(site, wanted)
    name = sha256_of(explanation())
    site.local.store.write([(b"builds/doc/" + name.encode(), None)], sync=False)
    told = Explanations(site.context, Documents(site.context))

    async def other(_to: PeerId, _method: str, _payload: bytes) -> bytes:
        return explanation(built="another")

    site.peers.answer = other
    answered = await told.explanation(leaf, name)
    assert answered.document is None
    assert "not to be had" in answered.problem
    asked: list[PeerId] = []

    async def good(to: PeerId, method: str, payload: bytes) -> bytes:
        asked.append(to)
        assert (method, payload) == ("document", name.encode())
        return explanation()

    site.peers.answer = good
    answered = await told.explanation(leaf, name)
    assert answered.document is not None
    assert asked == [PeerId(site.me)], "who attested is asked first"
    assert site.records.document(name) is None, "who only reads it does not keep it"
    assert (await told.explanation(leaf, name)).document is not None
    assert len(asked) == 1, "and asks for it once"


async def test_what_no_answer_names_is_not_fetched(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    site, _ = site_of(tmp_path)
    path = tmp_path / "explanation.json"
    path.write_bytes(explanation())
    leaf = await logged(site, await attested(site, path))
    told = Explanations(site.context, Documents(site.context))
    with pytest.raises(NotFoundError, match="names document"):
        await told.explanation(leaf, digest("lock"))
    for other in (0, 1, site.local.chain.tip.size + 5):
        with pytest.raises(NotFoundError):
            told.explained(other)


def secret(folder: Path) -> Path:
    path = folder / "node.key"
    path.write_bytes(b"secret")
    return path


def link(folder: Path) -> Path:
    (folder / "real.json").write_bytes(explanation())
    path = folder / "link.json"
    path.symlink_to("real.json")
    return path


def pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.json")
    return folder / "pipe.json"


def long(folder: Path) -> Path:
    path = folder / "long.json"
    path.write_bytes(b" " * (EXPLANATION_BYTES_MAX + 1))
    return path


def foreign(folder: Path) -> Path:
    path = folder / "foreign.json"
    path.write_bytes(explanation("pkg:maven/a/b@1"))
    return path


@pytest.mark.parametrize(
    "make", [secret, link, pipe, long, foreign, lambda f: f / "gone", lambda f: f]
)
async def test_file_that_is_no_explanation_of_this_package_is_not_kept_and_costs_no_answer(
    tmp_path: Path, autojump_clock: MockClock, make: Callable[[Path], Path]
) -> None:
    site, _ = site_of(tmp_path)
    wanted = await attested(site, make(tmp_path))
    own = site.records.item(wanted)
    assert own is not None
    assert own.item["outcome"] == "BUILT"
    assert "explained" not in own.item
    assert site.records.document(sha256_of(b"secret")) is None
