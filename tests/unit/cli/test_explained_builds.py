"""``build explain`` shows what members said in the log and who said it, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from buildpipelines.spec.explanation import (
    Content,
    Counts,
    FileExplanation,
    make_difference,
    make_explanation,
)
from pyrsia_cli.main import cli
from pyrsia_node.model import canonical
from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.documents import Contradiction
from pyrsia_node.model.errors import (
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    VerificationError,
)
from pyrsia_node.tlog.trust import TrustFile
from tests.fakes.node_that_answers import Said, node_that_answers, said
from tests.strategies.identities import genesis_of, identities
from tests.strategies.small_logs import SmallLog, accepted, document, wheel

FOUR = identities(4)
GENESIS = genesis_of(FOUR)
PURL, GAV = "pkg:maven/a.b/c@1", "a.b:c:1"
REQUEST, BUILD = "11" * 32, "b-0123456789abcdef"
ENTRY, FIRST_BATCH = 2, 3
JAR = "c-1.jar"


def explanation(jdk: str, *, purl: str = PURL) -> bytes:
    """Return a member's comparison of a jar that was built by ``jdk``."""
    differences = (
        make_difference(
            "META-INF/MANIFEST.MF",
            "Build-Jdk",
            built=jdk,
            published="17.0.9",
            level=2,
            rule="jar-build-metadata",
        ),
        make_difference("a/C.class", "content", built="12 bytes", published="13 bytes", level=3),
    )
    jar = FileExplanation(
        name=JAR,
        level=3,
        built=Content(sha256_of(jdk.encode()), 9),
        published=Content("2" * 64, 9),
        entries=Counts(equal=4, differ=2),
        classes=Counts(equal=3, differ=1),
        differences=differences,
        more=5,
    )
    pom = FileExplanation("c-1.pom", -1, Content("3" * 64, 1))
    return make_explanation(purl=purl, rules="4" * 64, files=[jar, pom]).encode()


ONE, OTHER = explanation("17.0.18"), explanation("17.0.19")


def batch(number: int, raw: bytes | None) -> bytes:
    """Return the batch in which a member says what it built; as the log holds it, unsigned."""
    item = {"req": REQUEST, "outcome": "BUILT"}
    named = {} if raw is None else {"explained": sha256_of(raw)}
    items = [{"req": "22" * 32}, {**item, **named}]
    return canonical.dumps({"t": "attest_batch", "voter": FOUR[number].id, "items": items})  # type: ignore[dict-item]


@dataclass
class Node:
    """A node with a log in which four members answered, of whom three explained their builds."""

    said: tuple[bytes | None, ...] = (ONE, ONE, OTHER, None)
    kept: list[bytes] = field(default_factory=lambda: [ONE, OTHER])
    change: Callable[[dict[str, Any]], object] = lambda _: None
    status: dict[str, object] = field(default_factory=dict)
    contradicts: tuple[Contradiction, ...] = ()

    def __post_init__(self) -> None:
        found = replace(document(PURL, wheel(JAR)), contradicts=self.contradicts)
        outcome = accepted(found, FOUR, REQUEST)
        batches = [batch(number, raw) for number, raw in enumerate(self.said)]
        leaves = (GENESIS.encode(), GENESIS.set_leaf().encode(), outcome, *batches)
        self.log = SmallLog(GENESIS.origin, leaves)
        self.leaves = leaves

    def answer(self, _method: str, target: str, _body: bytes) -> Said:
        path = urlsplit(target).path
        if path == f"/api/v1/entries/{ENTRY}/explanations":
            told = self.explanations()
            self.change(told)
            return said(told)
        index = path.removeprefix("/api/v1/entries/")
        if index.isdigit() and int(index) < len(self.leaves):
            return said(self.entry(int(index)))
        if path == "/api/v1/inspect-log":
            stamp = {"as_of": 7, "size": 7, "root": "0" * 64, "complete": True}
            return said({**stamp, "entries": [self.entry(ENTRY)]})
        if path == f"/api/v1/builds/{BUILD}":
            times = {"started_ms": 1, "updated_ms": 1, "stage": "", "detail": ""}
            return said({"build_id": BUILD, "purl": PURL, **times, **self.status})
        return said({"error": {"kind": "not_found", "message": f"no {path}"}}, code=404)

    def entry(self, index: int) -> dict[str, object]:
        leaf = json.loads(self.leaves[index])
        return {
            "index": index,
            "type": leaf["t"],
            "leaf": leaf,
            **({"purl": PURL, "files": leaf["doc"]["files"]} if index == ENTRY else {}),
            "block": {"height": 1, "time_ms": 1},
            "proof": self.log.proof(index, self.log.signed(FOUR[:3])).encode().decode(),
        }

    def explanations(self) -> dict[str, Any]:
        members = [
            {
                "id": FOUR[number].id,
                "label": f"node-{number}",
                "level": 2,
                "leaf": FIRST_BATCH + number,
                "number": 1,
                **({} if raw is None else {"explained": sha256_of(raw)}),
            }
            for number, raw in enumerate(self.said)
        ]
        named = dict.fromkeys(raw for raw in self.said if raw is not None)
        explanations = [
            {"sha256": sha256_of(raw), "document": json.loads(raw)}
            if raw in self.kept
            else {"sha256": sha256_of(raw), "problem": "nobody has it"}
            for raw in named
        ]
        about = {"leaf": ENTRY, "request": REQUEST, "purl": PURL}
        return {**about, "members": members, "explanations": explanations}


def run(folder: Path, node: Node, *words: str) -> Result:
    trust = folder / "net.trust"
    trust.write_bytes(TrustFile(GENESIS.encode()).encode())
    with node_that_answers(folder, node.answer) as settings:
        settings.write_text(settings.read_text() + f'trust = "{trust}"\n')
        environment = {"PYRSIA_CONFIG": str(settings)}
        return CliRunner().invoke(cli, words, env=environment)


def explain(folder: Path, node: Node, *words: str) -> Result:
    return run(folder, node, "build", "explain", *words)


def refusal(folder: Path, node: Node, *words: str) -> BaseException:
    error = explain(folder, node, *words).exception
    assert error is not None
    return error


@pytest.mark.parametrize("target", ["2", GAV, PURL, BUILD])
def test_entry_is_found_by_its_number_its_package_and_its_build(
    tmp_path: Path, target: str
) -> None:
    node = Node(status={"state": "accepted", "leaf_index": ENTRY})
    result = explain(tmp_path, node, target)
    assert result.exit_code == 0, result.exception
    assert f"{PURL}: entry 2, accepted; compared by 3 of the 4 authorized nodes" in result.output
    assert "c-1.jar: 3 of 4 class files are equal" in result.output
    assert "5 more differences are not listed" in result.output
    assert "not published" in result.output


def test_contradiction_stands_in_the_first_line_and_in_the_document(tmp_path: Path) -> None:
    node = Node(contradicts=(Contradiction(JAR, sha256_of(b"published")),))
    shown = explain(tmp_path, node, "2").output
    assert shown.startswith(f"{PURL}: entry 2, accepted, CONTRADICTS the published {JAR}; compared")
    document = json.loads(explain(tmp_path, node, "2", "--format", "json").stdout)
    assert document["contradicts"] == [JAR]


def test_each_difference_is_shown_once_with_who_saw_it(tmp_path: Path) -> None:
    result = explain(tmp_path, Node(), "2", "--format", "csv")
    assert result.stdout.splitlines() == [
        "file,path,attribute,built,published,ends_at,rule,by",
        "c-1.jar,a/C.class,content,12 bytes,13 bytes,never,,all",
        *(
            f"c-1.jar,META-INF/MANIFEST.MF,Build-Jdk,{jdk},17.0.9,L2,jar-build-metadata,{by}"
            for jdk, by in (("17.0.18", '"node-0, node-1"'), ("17.0.19", "node-2"))
        ),
    ]


def test_only_what_no_rule_takes_away_is_shown_if_one_asks(tmp_path: Path) -> None:
    result = explain(tmp_path, Node(), "2", "--level", "3", "--format", "jsonl")
    [line] = result.stdout.splitlines()
    assert json.loads(line)["path"] == "a/C.class"


def test_programs_get_the_documents_as_they_are_named_in_the_log(tmp_path: Path) -> None:
    found = json.loads(explain(tmp_path, Node(), "2", "--format", "json").stdout)
    assert found["verified"] is True
    for each in found["explanations"]:
        assert sha256_of(canonical.dumps(each["document"])) == each["sha256"]


def test_explanation_that_is_not_to_be_had_is_said_and_the_others_are_shown(
    tmp_path: Path,
) -> None:
    result = explain(tmp_path, Node(kept=[ONE]), "2")
    assert result.exit_code == 0
    assert "what node-2 compared is not to be had: nobody has it" in result.output
    error = refusal(tmp_path, Node(kept=[]), "2")
    assert isinstance(error, UnavailableError)
    assert "nobody has it" in str(error)


def test_entry_without_explanations_says_so(tmp_path: Path) -> None:
    error = refusal(tmp_path, Node(said=(None,) * 4), "2")
    assert isinstance(error, NotFoundError)
    assert "names an explanation" in str(error)


def set_document(told: dict[str, Any], raw: bytes) -> None:
    told["explanations"][0]["document"] = json.loads(raw)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda told: set_document(told, explanation("8")), "has the digest"),
        (lambda told: set_document(told, b'{"t":"explanation"}'), "explanation"),
        (lambda told: told["explanations"].append({"sha256": "5" * 64}), "no member's answer"),
        (lambda told: told["members"][0].update(explained="5" * 64), "does not say"),
        (lambda told: told["members"][0].update(id=FOUR[1].id), "does not say"),
        (lambda told: told["members"][0].update(number=0), "does not say"),
        (lambda told: told["members"][0].update(number=9), "does not say"),
        (lambda told: told["members"][0].update(leaf=ENTRY), "does not say"),
        (lambda told: told.update(request="22" * 32), "is about request"),
        (lambda told: told.update(purl="pkg:maven/a.b/d@1"), "is about"),
    ],
)
def test_node_that_makes_something_up_is_found_out(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    error = refusal(tmp_path, Node(change=change), "2")
    assert isinstance(error, VerificationError)
    assert why in str(error)


class NodeOfOtherEntries(Node):
    """Answers with the entry behind the one that it was asked for; each proof holds."""

    def entry(self, index: int) -> dict[str, object]:
        return super().entry(index + 1)


@pytest.mark.parametrize("words", [("build", "explain", "2"), ("log", "show", "--entry", "2")])
def test_another_entry_than_was_asked_for_is_found_out(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    error = run(tmp_path, NodeOfOtherEntries(), *words).exception
    assert isinstance(error, VerificationError)
    assert str(error) == "asked for entry 2, the node sent 3"


def test_explanation_of_another_package_is_found_out(tmp_path: Path) -> None:
    foreign = explanation("17", purl="pkg:maven/x/y@1")
    node = Node(said=(foreign,) * 4, kept=[foreign])
    error = refusal(tmp_path, node, "2")
    assert isinstance(error, VerificationError)
    assert "pkg:maven/x/y@1" in str(error)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (
            {"state": "refused", "stage": "trial", "detail": "BUILD_FAILED (javac): no such class"},
            NotFoundError,
            "it was refused (trial): BUILD_FAILED (javac): no such class",
        ),
        ({"state": "building"}, UnavailableError, f"build status --id {BUILD} --wait"),
    ],
)
def test_build_that_is_in_no_entry_says_why(
    tmp_path: Path, status: dict[str, object], kind: type[Exception], says: str
) -> None:
    error = refusal(tmp_path, Node(status=status), BUILD)
    assert isinstance(error, kind)
    assert says in str(error)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("a:b", InvalidInputError),
        ("pkg:maven/a/b", InvalidInputError),
        ("nonsense", InvalidInputError),
        ("999", NotFoundError),
        ("pkg:maven/x/y@1", VerificationError),
        ("b-unknown", NotFoundError),
    ],
)
def test_target_that_is_none_is_named(tmp_path: Path, target: str, kind: type[Exception]) -> None:
    assert isinstance(refusal(tmp_path, Node(), target), kind)
