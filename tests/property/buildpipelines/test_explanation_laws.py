"""Explanations: within bounds, read back; foreign bytes are refused by our error alone."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from buildpipelines.errors import FormatError
from buildpipelines.spec.explanation import (
    DIFFERENCES_MAX,
    EXPLANATION_BYTES_MAX,
    Content,
    Counts,
    Difference,
    FileExplanation,
    make_difference,
    make_explanation,
    parse_explanation,
    printable,
)

texts = st.text(max_size=40) | st.text("\x00\x1b\n\u202e\ud800x", max_size=200)
contents = st.builds(
    Content, st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(0, 2**31)
)
counts = st.builds(Counts, *([st.integers(0, 1000)] * 4))
differences = st.builds(
    make_difference,
    texts,
    texts,
    built=texts | st.just("x" * 9000),
    published=texts,
    level=st.integers(1, 3),
    rule=st.sampled_from(["", "zip-time"]),
)


def file(
    name: str, level: int, content: Content, counted: tuple[Counts, Counts], found: list[Difference]
) -> FileExplanation:
    listed = tuple(d for d in found for _ in range(30))
    published = None if level == -1 else content
    return FileExplanation(name, level, content, published, *counted, differences=listed)


files = st.builds(
    file,
    st.from_regex(r"[a-z]{1,8}\.jar", fullmatch=True),
    st.integers(-1, 3),
    contents,
    st.tuples(counts, counts),
    st.lists(differences, max_size=8),
)


@given(st.lists(files, max_size=6, unique_by=lambda f: f.name), texts)
def test_explanation_is_within_its_bounds_and_read_back(
    listed: list[FileExplanation], tool: str
) -> None:
    made = make_explanation(purl="pkg:maven/g/a@1", rules="ab" * 32, files=listed, tool=tool)
    data = made.encode()
    assert len(data) <= EXPLANATION_BYTES_MAX
    assert sum(len(f.differences) for f in made.files) <= DIFFERENCES_MAX
    assert {f.name: len(f.differences) + f.more for f in made.files} == {
        f.name: len(f.differences) for f in listed
    }
    assert parse_explanation(data) == made


@given(texts, st.integers(1, 300))
def test_printable_text_stays_as_it_is_and_within_its_length(text: str, size: int) -> None:
    once = printable(text, size)
    assert len(once) <= size
    assert printable(once, size) == once
    assert "\x1b" not in once


DATA = make_explanation(
    purl="pkg:maven/g/a@1",
    rules="ab" * 32,
    files=[FileExplanation("a.jar", -1, Content("0" * 64, 1))],
).encode()


@given(st.integers(0, len(DATA) - 1), st.binary(min_size=1, max_size=6), st.booleans())
def test_only_our_error_escapes_from_foreign_explanations(
    at: int,
    some: bytes,
    is_cut: bool,  # noqa: FBT001 - drawn
) -> None:
    data = DATA[:at] + some + (b"" if is_cut else DATA[at + len(some) :])
    with contextlib.suppress(FormatError):
        assert parse_explanation(data).encode() == data
    with contextlib.suppress(FormatError):
        parse_explanation(some)
