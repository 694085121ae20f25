"""Laws of package URLs, with packageurl-python as the oracle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from packageurl import PackageURL

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.model.purl import Purl

purl_like = st.from_regex(
    r"pkg:(pypi|maven|npm|docker)/([A-Za-z0-9.~%:@é_-]{1,8}/){0,2}[A-Za-z0-9.%_-]{1,8}(@[a-z0-9.%+!-]{0,8})?",
    fullmatch=True,
)


@given(purl_like | st.text(max_size=40))
def test_only_our_error_escapes_and_what_passes_is_canonical(text: str) -> None:
    try:
        purl = Purl.parse(text)
    except InvalidInputError:
        return
    assert str(purl) == text
    assert Purl.parse(str(purl)) == purl


@given(purl_like)
def test_accepted_purl_means_the_same_to_the_reference_library(text: str) -> None:
    try:
        purl = Purl.parse(text)
    except InvalidInputError:
        return
    reference = PackageURL.from_string(text)
    if purl.type == "pypi":
        assert reference.to_string() == text
    assert (reference.type, reference.version) == (purl.type, purl.version)


@given(purl_like | st.text(max_size=40))
def test_from_user_gives_a_canonical_purl_or_our_error(text: str) -> None:
    try:
        purl = Purl.from_user(text)
    except InvalidInputError:
        return
    assert Purl.parse(str(purl)) == purl
