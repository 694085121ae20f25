"""Values inside and outside the canonical JSON profile."""

from __future__ import annotations

from hypothesis import strategies as st

from pyrsia_node.model.canonical import INTEGER_MAX, JsonObject, JsonValue

ascii_keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=8)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars: st.SearchStrategy[JsonValue] = st.one_of(
    texts, st.booleans(), st.integers(-INTEGER_MAX, INTEGER_MAX)
)
values: st.SearchStrategy[JsonValue] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ascii_keys, inner, max_size=4),
    max_leaves=12,
)
objects: st.SearchStrategy[JsonObject] = st.dictionaries(ascii_keys, values, max_size=5)
