"""Compiled classes that differ, told in a Java developer's words."""

from __future__ import annotations

import pytest

from buildpipelines.compare.classfile import class_differences
from buildpipelines.compare.instructions import first_difference
from tests.hostile.jars import class_file

RETURN = b"\xb1"


def told(ours: bytes, theirs: bytes) -> dict[str, tuple[str, str]]:
    found = class_differences(ours, theirs)
    assert found is not None
    return {d.attribute: (d.built, d.published) for d in found}


def test_release_of_java_is_named() -> None:
    assert told(class_file(major=52), class_file(major=61)) == {
        "class version": ("52.0 (Java 8)", "61.0 (Java 17)")
    }


def test_method_that_one_side_lacks_is_named() -> None:
    more = class_file(methods={"run": RETURN, "stop": RETURN})
    found = told(class_file(), more)
    assert found["method stop(): void"] == ("absent", "present")


def test_instructions_are_told_from_where_they_differ() -> None:
    ours = class_file(methods={"run": b"\x04\x57\xb1"})
    theirs = class_file(methods={"run": b"\x04\x00\x57\xb1"})
    assert told(ours, theirs)["method run(): void: instructions"] == ("at 1: pop", "at 1: nop")


def test_constants_that_one_side_has_alone_are_shown() -> None:
    ours, theirs = (class_file(strings=(text,)) for text in ("built at noon", "built at night"))
    assert told(ours, theirs) == {
        "constants on one side alone": ("'built at noon'", "'built at night'")
    }


def test_debug_tables_are_told_once_for_all_methods() -> None:
    methods = {"run": RETURN, "stop": RETURN, "walk": RETURN}
    ours, theirs = (class_file(methods=methods, lines=(n,)) for n in (7, 8))
    assert told(ours, theirs) == {
        "line numbers": ("own values in run(): void and 2 more", "other values")
    }


def test_classes_that_number_their_constants_differently_are_said_to() -> None:
    ours = class_file(first=("x", "y"))
    theirs = class_file(first=("y", "x"))
    found = told(ours, theirs)
    assert list(found) == ["constant pool"]


def test_reference_is_compared_by_what_it_means() -> None:
    constants = {1: "a.b", 2: "c.d"}.__getitem__
    others = {1: "c.d", 2: "a.b"}.__getitem__
    assert first_difference(b"\x13\x00\x01", b"\x13\x00\x02", constants, others) is None
    assert first_difference(b"\x12\x01", b"\x13\x00\x02", constants, others) is None
    assert first_difference(b"\xb7\x00\x01", b"\xb7\x00\x01", constants, others) == (
        "at 0: invokespecial a.b",
        "at 0: invokespecial c.d",
    )
    assert first_difference(b"\x00", b"", constants, others) == ("at 0: nop", "the end")


@pytest.mark.parametrize(
    "code",
    [
        b"\xff",
        b"\x10",
        b"\xc4",
        b"\xaa" + bytes(3),
        b"\xaa" + bytes(11) + b"\x7f\xff\xff\xff",
        b"\xab" + bytes(7) + b"\xff\xff\xff\xff",
    ],
)
def test_code_that_cannot_be_read_is_an_error_of_its_own(code: bytes) -> None:
    with pytest.raises(ValueError, match=r"opcode|cut|switch"):
        first_difference(code, code, str, str)


def test_switches_are_read_to_their_end() -> None:
    table = b"\xaa\x00\x00\x00" + (1).to_bytes(4, "big") + bytes(4) + (1).to_bytes(4, "big")
    lookup = b"\xab\x00\x00\x00" + (1).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes(8)
    wide = b"\xc4\x84" + bytes(4) + b"\xc4\x15" + bytes(2)
    for code in (table + bytes(8), lookup, wide):
        assert first_difference(code + b"\x00", code + b"\x57", str, str) == (
            f"at {len(code)}: nop",
            f"at {len(code)}: pop",
        )


@pytest.mark.parametrize("cut", range(0, len(class_file()), 7))
def test_class_that_is_cut_is_not_told_of(cut: int) -> None:
    assert class_differences(class_file(), class_file()[:cut]) is None


def test_class_with_bytes_behind_it_is_not_told_of() -> None:
    assert class_differences(class_file(), class_file() + b"x") is None


def test_long_constants_are_cut_and_still_told_apart() -> None:
    ours, theirs = (class_file(strings=("x" * 5000 + end,)) for end in ("a", "b"))
    built, published = told(ours, theirs)["constants on one side alone"]
    assert len(built) < 400
    assert built != published
