"""One strategy for each model type, and mutators that make almost valid documents."""

from __future__ import annotations

import string

from hypothesis import strategies as st

from consensus.types import NodeId
from pyrsia_node.ledger.machine.context import Head
from pyrsia_node.model import leaves
from pyrsia_node.model.approvals import APPROVED_OPERATIONS
from pyrsia_node.model.canonical import JsonObject, JsonValue
from pyrsia_node.model.digest import Sha256
from pyrsia_node.model.documents import Contradiction, Document, FileEntry, Metadata
from pyrsia_node.model.evidence import STATEMENTS, SignedStatement
from pyrsia_node.model.items import MOVED
from pyrsia_node.model.mappings import AddSource, SourceMapping
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.statements import ADVISORY
from pyrsia_node.model.transactions import (
    FAILURES,
    Approve,
    AttestBatch,
    AttestCommit,
    BuildRequest,
    BuiltItem,
    Deprecate,
    Evidence,
    FailedItem,
    Item,
    Pipeline,
    RemoveNode,
    Result,
    Revoke,
    SetParam,
    Source,
    Vulnerable,
    Withdraw,
)
from tests.strategies import image_bodies as image
from tests.strategies import maven_bodies as maven
from tests.strategies import member_bodies as change
from tests.strategies.identities import identities, identity
from tests.strategies.json_values import texts, values

MEMBERS = tuple(one.id for one in identities(5))

digests = st.binary(min_size=32, max_size=32).map(lambda raw: Sha256(raw.hex()))
member_ids: st.SearchStrategy[NodeId] = st.sampled_from(MEMBERS)
counts = st.integers(0, 2**53 - 1)
levels = st.integers(0, 2)
names = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
file_names = st.builds("{}-{}.whl".format, names, names)
purls = st.builds("pkg:pypi/{}@{}.{}".format, names, st.integers(0, 99), st.integers(0, 99)).map(
    Purl.parse
)

_wheel = {"media": st.just("application/zip"), "pieces": digests, "sha256": digests}
files = st.builds(
    FileEntry,
    name=file_names,
    size=counts,
    claim=st.sampled_from(["external", "rebuilt"]),
    origin=st.just("built"),
    **_wheel,
) | st.builds(
    FileEntry,
    name=file_names,
    size=counts,
    claim=st.sampled_from(["external", "rebuilt", "mirrored"]),
    origin=st.just("upstream"),
    **_wheel,
)
metadata = st.builds(
    Metadata,
    name=names,
    version=names,
    summary=texts,
    author=names,
    licence=texts,
    homepage=texts,
    repository=texts,
    keywords=st.lists(texts, max_size=3).map(tuple),
    requires=st.lists(texts, max_size=3).map(tuple),
    requires_python=texts,
    provides_extra=st.lists(texts, max_size=3).map(tuple),
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    entries = draw(st.lists(files, min_size=1, max_size=4, unique_by=lambda each: each.name))
    entries.sort(key=lambda each: each.name)
    chosen = [each for each in entries if each.origin == "built" and draw(st.booleans())]
    published = draw(st.lists(digests, min_size=len(chosen), max_size=len(chosen)))
    return Document(
        purl=draw(purls),
        files=tuple(entries),
        contradicts=tuple(
            Contradiction(each.name, other)
            for each, other in zip(chosen, published, strict=True)
            if other != each.sha256
        ),
        metadata=draw(metadata),
    )


recipes = st.dictionaries(
    names.map(lambda name: "k" + name),
    texts | st.booleans() | st.integers(-9, 9) | st.lists(texts, max_size=3).map(tuple),
    max_size=4,
)
requests = (
    image.requests(member_ids)
    | maven.requests(member_ids)
    | st.builds(
        BuildRequest,
        sponsor=member_ids,
        purl=purls,
        claim=st.sampled_from(["rebuilt", "mirrored"]),
        source=st.builds(
            Source, kind=st.just("sdist"), file=file_names, sha256=digests, size=counts
        ),
        pipeline=st.builds(Pipeline, id=st.just("pypi"), version=counts, digest=digests),
        toolchain=digests,
        lock=digests,
        recipe=recipes,
        time_class=st.sampled_from(["S", "M", "L"]),
        until=counts,
        nonce=st.binary(min_size=16, max_size=16).map(bytes.hex),
    )
)
times_seen = st.none() | counts
salts = st.just("") | st.binary(min_size=16, max_size=16).map(bytes.hex)
items: st.SearchStrategy[Item] = (
    st.builds(
        BuiltItem,
        request=digests,
        result=digests,
        level=levels,
        own=st.tuples(digests, digests, digests),
        salt=salts,
        seen_ms=times_seen,
        explained=st.none() | digests,
    )
    | st.builds(
        FailedItem,
        request=digests,
        outcome=st.sampled_from([each for each in FAILURES if each != MOVED]),
        cause=names,
        salt=salts,
        seen_ms=times_seen,
    )
    | st.builds(
        FailedItem,
        request=digests,
        outcome=st.just(MOVED),
        cause=names,
        salt=salts,
        seen_ms=counts,
        moved=image.digests_of_registries,
    )
)
batches = st.builds(
    AttestBatch,
    voter=member_ids,
    seq=st.integers(1, 2**53 - 1),
    items=st.lists(items, min_size=1, max_size=4, unique_by=lambda each: each.request).map(tuple),
    environment=st.dictionaries(
        names.map(lambda name: "k" + name), texts | st.integers(-9, 9), max_size=3
    ),
)
results = st.builds(
    Result, voter=member_ids, request=digests, document=documents() | image.documents
)
commits = st.builds(AttestCommit, voter=member_ids, request=digests, commit=digests)

# Proofs and records carry signatures that hold, in the network ``NETWORK``.
NETWORK = bytes(range(32))
nonces = st.binary(min_size=16, max_size=16).map(bytes.hex)
signatures = st.binary(min_size=64, max_size=64)
reasons = st.text(string.printable, min_size=1, max_size=500)
heads = st.builds(Head, size=st.integers(2, 2**40), root=digests)
newcomers = st.integers(100, 103).map(identity)
approvals = st.builds(
    Approve,
    by=member_ids,
    op=st.sampled_from(APPROVED_OPERATIONS),
    subject=digests,
    since=st.integers(0, 2**53 - 1),
    expiry=st.integers(1, 2**53 - 1),
)
additions = st.builds(
    lambda by, one, height, head: change.add(by, one, NETWORK, height=height, head=head),
    member_ids,
    newcomers,
    counts,
    heads,
)
rotations = st.builds(
    lambda old, fresh, height, head: change.rotate(
        change.renewed(old.member.record, fresh), NETWORK, height=height, head=head
    ),
    st.sampled_from(identities(5)),
    newcomers,
    counts,
    heads,
)
removals = st.builds(RemoveNode, by=member_ids, node=member_ids, nonce=nonces)
params = st.builds(
    SetParam,
    by=member_ids,
    name=st.sampled_from(["burst", "k.pypi", "class_ms.S", "anything.else"]),
    value=counts,
    nonce=nonces,
)
signed_statements = st.builds(
    SignedStatement,
    kind=st.sampled_from(STATEMENTS),
    block=digests,
    signature=signatures,
)
evidence = st.builds(
    Evidence,
    by=member_ids,
    culprit=member_ids,
    height=st.integers(1, 2**53 - 1),
    view=st.integers(0, 2**32 - 1),
    set=digests,
    first=signed_statements,
    second=signed_statements,
)
statements = st.one_of(
    st.builds(Withdraw, by=member_ids, purl=purls, entry=counts, reason=reasons, nonce=nonces),
    st.builds(Revoke, by=member_ids, purl=purls, sha256=digests, reason=reasons, nonce=nonces),
    st.builds(
        Deprecate,
        by=member_ids,
        purl=purls | purls.map(Purl.without_version),
        reason=reasons,
        instead=st.none() | purls,
        nonce=nonces,
    ),
    st.builds(
        AddSource,
        by=member_ids,
        mapping=maven.mappings | maven.mappings.map(lambda each: SourceMapping(each.pattern, "")),
        reason=reasons,
        nonce=nonces,
    ),
    st.builds(
        Vulnerable,
        by=member_ids,
        purl=purls | purls.map(Purl.without_version),
        advisory=st.from_regex(ADVISORY, fullmatch=True),
        reason=reasons,
        nonce=nonces,
    ),
)
transactions = st.one_of(
    *(requests, batches, results, commits, approvals, additions, rotations, removals, params),
    *(evidence, statements),
)

headers = st.builds(
    leaves.Header,
    network=digests,
    height=st.integers(1, 2**53 - 1),
    parent=digests,
    prev_size=st.integers(2, 2**40),
    prev_root=digests,
    view=st.integers(0, 2**32 - 1),
    proposer=member_ids,
    time_ms=counts,
    n_leaves=st.integers(1, 2**40),
    body_root=digests,
    state_root=digests,
    set=digests,
    next_set=digests,
    prev_epoch_height=counts,
    parent_cert=digests,
)
causes = st.builds(
    leaves.Cause,
    id=member_ids,
    outcome=st.sampled_from([each for each in FAILURES if each != MOVED]),
    cause=names,
) | st.builds(
    leaves.Cause,
    id=member_ids,
    outcome=st.just(MOVED),
    cause=names,
    moved=image.digests_of_registries,
    seen_ms=counts,
)
outcomes: st.SearchStrategy[leaves.Outcome] = st.one_of(
    st.builds(
        leaves.Accepted,
        request=digests,
        document=documents() | image.documents,
        k=st.integers(1, 5),
        level=levels,
        attestors=st.lists(
            st.builds(leaves.Attestor, id=member_ids, leaf=counts, level=levels), max_size=3
        ).map(tuple),
        differ=st.lists(st.builds(leaves.Difference, id=member_ids, own=digests), max_size=3).map(
            tuple
        ),
    ),
    st.builds(
        leaves.Diverged,
        request=digests,
        purl=purls,
        classes=st.lists(
            st.builds(
                leaves.ResultClass,
                own=st.tuples(digests, digests, digests),
                ids=st.lists(member_ids, max_size=3).map(tuple),
                result=digests,
            ),
            max_size=3,
        ).map(tuple),
    ),
    st.builds(
        leaves.Failed,
        request=digests,
        purl=purls,
        causes=st.lists(
            causes,
            max_size=3,
        ).map(tuple),
    ),
    st.builds(
        leaves.Expired,
        request=digests,
        purl=purls,
        silent=st.lists(member_ids, max_size=3).map(tuple),
    ),
    st.builds(
        leaves.Unsealed, request=digests, committed=st.lists(member_ids, max_size=3).map(tuple)
    ),
    st.builds(leaves.Level, request=digests, level=levels),
    st.builds(leaves.LateDivergence, request=digests, id=member_ids, own=digests),
)


@st.composite
def almost_valid(draw: st.DrawFn, valid: JsonObject) -> JsonObject:
    """Return ``valid`` with one member, at any depth, changed, removed, added or swapped."""
    copy: JsonObject = dict(valid)
    key = draw(st.sampled_from(sorted(copy)))
    inner = copy[key]
    if isinstance(inner, dict) and inner and draw(st.booleans()):
        copy[key] = draw(almost_valid(inner))
        return copy
    if isinstance(inner, list) and inner and draw(st.booleans()):
        position = draw(st.integers(0, len(inner) - 1))
        element = inner[position]
        changed: JsonValue = (
            draw(almost_valid(element)) if isinstance(element, dict) and element else draw(values)
        )
        copy[key] = [*inner[:position], changed, *inner[position + 1 :]]
        return copy
    match draw(st.sampled_from(["remove", "replace", "add", "double"])):
        case "remove":
            del copy[key]
        case "replace":
            copy[key] = draw(values)
        case "add":
            copy[draw(names)] = draw(values)
        case _:
            copy[key] = [inner, inner]
    return copy
