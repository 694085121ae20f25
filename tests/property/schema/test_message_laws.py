"""Laws of the links' messages: they survive the wire, refuse what is out of form, keep the new."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildpipelines.spec.framing import (
    HEADER_BYTES,
    KINDS,
    Failure,
    Result,
    encode_answer,
    parse_answer,
)
from pyrsia_node.model.errors import (
    CorruptStateError,
    DiskError,
    InvalidInputError,
    NotFoundError,
    PeerMisbehaviorError,
)
from pyrsia_node.schema import http, links
from pyrsia_node.schema.fields import Answer, Params

PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
MESSAGES = [
    cls
    for module in (links, http)
    for _, cls in inspect.getmembers(module, inspect.isclass)
    if issubclass(cls, Params | Answer) and cls not in (Params, Answer)
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6) | st.just(PEER),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)


@given(st.sampled_from(MESSAGES), st.data())
def test_only_invalid_input_escapes_and_what_parses_survives_the_wire(
    kind: type[Params | Answer], data: st.DataObject
) -> None:
    names = [field.alias or name for name, field in kind.model_fields.items()]
    values = data.draw(
        st.dictionaries(st.sampled_from([*names, "new"]), json_values)
        | st.fixed_dictionaries(dict.fromkeys(names, json_values))
    )
    try:
        parsed = kind.parse(values)
    except InvalidInputError:
        return
    frame = encode_answer(Result(1, parsed.dump()))
    answer = parse_answer(frame[HEADER_BYTES:])
    assert isinstance(answer, Result)
    assert kind.parse(answer.result) == parsed


def test_params_with_an_unknown_field_are_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match="colour = 'red'"):
        links.BuildsParams.parse({"limit": 3, "colour": "red"})


def test_every_problem_of_a_message_is_named() -> None:
    with pytest.raises(InvalidInputError) as caught:
        links.AdoptParams.parse({"path": "", "size": "1"})
    for field in ("path = ''", "sha256 is missing", "size = '1'"):
        assert field in str(caught.value)


def test_answer_of_a_later_version_passes_through_whole() -> None:
    result = {"present": False, "tier": "cold"}
    assert links.Stat.parse(result).dump() == result


def test_deadline_class_is_called_class_on_the_wire() -> None:
    wire = {"ecosystem": "pypi", "name": "six", "version": "1.17.0", "class": "S"}
    parsed = links.BuildParams.parse(wire)
    assert parsed.deadline_class == "S"
    assert parsed.dump() == wire | {"platforms": []}


@given(st.sampled_from(KINDS), st.text(max_size=40))
def test_error_keeps_its_kind_and_its_text_across_a_link(kind: str, message: str) -> None:
    text = f"peer {PEER}: {message}" if kind == "peer" else message
    error = links.error_of(kind, text)
    assert str(error) == text
    assert links.kind_of(error) == kind


def test_misbehaving_peer_is_still_named_across_a_link() -> None:
    error = links.error_of("peer", str(PeerMisbehaviorError(PEER, "lied:\ntwice")))
    assert isinstance(error, PeerMisbehaviorError)
    assert error.peer == PEER


def test_error_that_is_not_ours_tells_nothing_but_internal() -> None:
    assert links.kind_of(KeyError("secret")) == "internal"
    assert links.kind_of(NotFoundError("x")) == "not_found"


def test_who_called_a_node_whose_disk_is_full_may_try_again_and_damage_stays_damage() -> None:
    assert links.kind_of(DiskError("no room")) == "unavailable"
    assert links.kind_of(CorruptStateError("a hole")) == "corrupt"


def test_internal_answer_without_a_text_is_still_an_answer() -> None:
    assert isinstance(parse_answer(encode_answer(Failure(1, "internal", ""))[4:]), Failure)
