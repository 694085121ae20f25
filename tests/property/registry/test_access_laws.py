"""Laws of rights, scopes and tokens, for any settings and any bytes."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from pyrsia_node.model.errors import InvalidInputError
from pyrsia_node.ports.registry import Grant, Namespace, User
from pyrsia_node.registry.access import AccessRules, Action, AnonymousMode, check_prefix, may
from pyrsia_node.registry.scopes import TokenScope, parse_scopes
from pyrsia_node.registry.tokens import InvalidTokenError, Token, TokenSigner

PARTS = st.sampled_from(["a", "b", "ab"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
PREFIXES = st.one_of(st.just(""), PATHS)
MODES: st.SearchStrategy[AnonymousMode] = st.sampled_from(["push", "pull", "none"])
ACTIONS = st.sampled_from(list(Action))
NAMESPACES = st.dictionaries(PREFIXES, st.booleans(), max_size=5)
GRANTS = st.one_of(st.none(), st.dictionaries(PREFIXES, st.booleans(), max_size=5))
SIGNER = TokenSigner(bytes(range(32)))


def longest(settings: dict[str, bool], repository: str) -> bool | None:
    """The plain model: of all prefixes that fit, part by part, the one with most parts."""
    parts = repository.split("/")
    fitting = {
        len(own): value
        for prefix, value in settings.items()
        if parts[: len(own := prefix.split("/") if prefix else [])] == own
    }
    return fitting[max(fitting)] if fitting else None


@given(MODES, NAMESPACES, GRANTS, ACTIONS, PATHS)
def test_decision_is_that_of_the_plain_model(
    mode: AnonymousMode,
    namespaces: dict[str, bool],
    grants: dict[str, bool] | None,
    action: Action,
    repository: str,
) -> None:
    rules = AccessRules.make(mode, [Namespace(p, is_private=v) for p, v in namespaces.items()])
    user = None if grants is None else User("u", "", tuple(Grant(p, v) for p, v in grants.items()))

    is_private = longest(namespaces, repository) is True
    open_to_all = mode == "push" or (mode == "pull" and action is Action.PULL)
    granted = None if grants is None else longest(grants, repository)
    by_grant = granted is not None and (granted or action is Action.PULL)

    assert may(rules, user, action, repository) == ((open_to_all and not is_private) or by_grant)


@given(MODES, NAMESPACES, ACTIONS, PATHS)
def test_account_without_grants_is_as_good_as_none(
    mode: AnonymousMode, namespaces: dict[str, bool], action: Action, repository: str
) -> None:
    rules = AccessRules.make(mode, [Namespace(p, is_private=v) for p, v in namespaces.items()])
    assert may(rules, User("u", "", ()), action, repository) == may(rules, None, action, repository)


@given(st.text(max_size=300))
def test_any_text_is_a_prefix_or_our_error(text: str) -> None:
    try:
        assert check_prefix(text) == text
    except InvalidInputError:
        return


@given(st.lists(st.text(max_size=500), max_size=20))
def test_any_scopes_are_read_or_our_error(texts: list[str]) -> None:
    try:
        scopes = parse_scopes(texts)
    except InvalidInputError:
        return
    assert parse_scopes([" ".join(map(str, scopes))]) == scopes


SCOPES = st.builds(
    TokenScope,
    st.sampled_from(["repository", "registry", "repository(plugin)"]),
    st.from_regex(r"[a-z0-9._:/-]{1,60}", fullmatch=True),
    st.frozensets(ACTIONS),
)
TOKENS = st.builds(
    Token,
    st.sampled_from(["access", "refresh", "share"]),
    st.from_regex(r"[A-Za-z0-9._@+-]{0,64}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{16}", fullmatch=True),
    st.lists(SCOPES, max_size=16).map(tuple),
    st.integers(1, 2**40),
)


@given(TOKENS)
def test_token_says_what_it_was_issued_with(token: Token) -> None:
    assert SIGNER.read(SIGNER.issue(token), token.kind, now_s=token.expires_s - 1) == token


@given(st.text(max_size=400))
def test_any_text_is_no_token_and_only_our_error_escapes(text: str) -> None:
    for shown in (text, f"pyr1.{text}", f"pyr1.{text}.AAAA"):
        try:
            SIGNER.read(shown, "access", now_s=0)
        except InvalidTokenError:
            continue
        raise AssertionError(shown)


@given(st.binary(max_size=200))
def test_even_a_payload_under_our_key_is_read_or_our_error(payload: bytes) -> None:
    signed = "pyr1." + base64.urlsafe_b64encode(payload).rstrip(b"=").decode()
    mac = base64.urlsafe_b64encode(SIGNER._mac(signed)).rstrip(b"=").decode()
    try:
        SIGNER.read(f"{signed}.{mac}", "access", now_s=0)
    except InvalidTokenError:
        return
    raise AssertionError(payload)
