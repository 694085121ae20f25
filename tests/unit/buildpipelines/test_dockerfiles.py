"""What a Dockerfile takes from outside is found, and refused by its line where it is not pinned."""

from __future__ import annotations

import pytest

from buildpipelines.errors import BuildFailure
from buildpipelines.recipes.dockerfile import Pin, parse_pin, read_dockerfile

A, B = "a" * 64, "b" * 64


def test_stages_bases_and_pins_are_found() -> None:
    found = read_dockerfile(
        f"# syntax=docker/dockerfile:1\n# escape=\\\nARG V=1\n\nfrom --platform=linux/amd64 "
        f"debian:12@sha256:{A} AS Build\nRUN make \\\n  # a comment inside\n  all\n\n"
        f"FROM scratch\nCOPY --from=build /x /x\nCOPY --from=0 /y /y\n"
        f"COPY --from=quay.io/a/b@sha256:{B} /z /z\nENV A=b\nFROM build AS last\nRUN x\n"
    )
    debian = Pin("docker.io", "library/debian", A)
    assert [stage.base for stage in found.stages] == [debian, None, 0]
    assert [stage.layer_steps for stage in found.stages] == [1, 3, 1]
    assert found.pins == (debian, Pin("quay.io", "a/b", B))
    assert found.base_of(found.final("")) == debian
    assert found.final("BUILD".lower()).base == debian
    assert found.base_of(found.final("1")) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("FROM debian\n", 1),
        ("FROM debian:12\n", 1),
        (f"FROM debian@sha512:{A}{A}\n", 1),
        (f"FROM debian@sha256:{A[1:]}\n", 1),
        ("FROM scratch\n\nFROM ${BASE}\n", 3),
        ("FROM scratch AS a\nCOPY --from=b /x /\n", 2),
        ("FROM scratch\nCOPY --from=0 /x /\n", 2),
        ("FROM scratch\nRUN --mount=type=bind,from=alpine,target=/a x\n", 2),
        ("FROM scratch\nONBUILD COPY --from=alpine /a /\n", 2),
        ("FROM scratch\nADD --chown=1 \\\n git@example.org:a.git /\n", 2),
        ("FROM scratch\nCOPY <<EOF /x\nhello\nEOF\n", 2),
        ("# escape=`\nFROM scratch\n", 1),
        ("FROM --mystery=1 scratch\n", 1),
        ("FROM scratch AS\n", 1),
        ("RUN x\n", 1),
        ("FROM scratch\nRUN x \\\n", 2),
        ("FROM scratch\n\n!!\n", 3),
    ],
)
def test_refusal_names_the_line(text: str, line: int) -> None:
    with pytest.raises(BuildFailure, match=f"Dockerfile line {line}: ") as caught:
        read_dockerfile(text)
    assert caught.value.outcome == "REFUSED"


def test_target_that_is_no_stage_is_refused() -> None:
    with pytest.raises(BuildFailure, match="no stage is called 'x'"):
        read_dockerfile("FROM scratch\n").final("x")


@pytest.mark.parametrize(
    ("text", "pin"),
    [
        (f"alpine@sha256:{A}", f"docker.io/library/alpine@sha256:{A}"),
        (f"a/b:1.0@sha256:{A}", f"docker.io/a/b@sha256:{A}"),
        (f"localhost/b@sha256:{A}", f"localhost/b@sha256:{A}"),
        (f"127.0.0.1:5000/a/b-c@sha256:{A}", f"127.0.0.1:5000/a/b-c@sha256:{A}"),
        (f"x.example:5000/a:9@sha256:{A}", f"x.example:5000/a@sha256:{A}"),
        (f"A/b@sha256:{A}", None),
        (f"x.example/../b@sha256:{A}", None),
        (f"x.example//b@sha256:{A}", None),
        (f"x.example/a?b@sha256:{A}", None),
        (f"{'a' * 300}@sha256:{A}", None),
    ],
)
def test_reference_by_digest_has_one_reading(text: str, pin: str | None) -> None:
    found = parse_pin(text)
    assert (None if found is None else str(found)) == pin
    if found is not None:
        assert parse_pin(str(found)) == found
