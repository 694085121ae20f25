"""Strategies for locks, recipes, requests and results of builds."""

from __future__ import annotations

from hypothesis import strategies as st

from buildpipelines.errors import OUTCOMES
from buildpipelines.spec.lock import Lock, LockedFile, make_lock
from buildpipelines.spec.messages import (
    BuildResult,
    JobFailure,
    JobStatus,
    OutputFile,
    RebuildParams,
    RecipeValue,
    Source,
    TrialParams,
)
from buildpipelines.spec.metadata import Metadata

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
file_names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,40}", fullmatch=True)
projects = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
names = st.from_regex(r"[a-z0-9][a-z0-9-]{0,20}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
times = st.just("unknown") | st.datetimes().map(lambda t: t.strftime("%Y-%m-%dT%H:%M:%SZ")).filter(
    lambda text: len(text) == 20
)
sizes = st.integers(0, 2**31)

folders = st.lists(
    st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,9}", fullmatch=True), min_size=2, max_size=6
).map("/".join)

locked_files = st.one_of(
    [
        st.builds(
            LockedFile,
            ecosystem=st.just(ecosystem),
            project=named,
            file=file_names,
            sha256=digests,
            size=sizes,
            uploaded=times,
        )
        for ecosystem, named in (("pypi", projects), ("maven", folders))
    ]
)
locks: st.SearchStrategy[Lock] = st.lists(
    locked_files, max_size=6, unique_by=lambda f: (f.ecosystem, f.project, f.file)
).map(make_lock)

recipe_values: st.SearchStrategy[RecipeValue] = (
    texts
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.booleans()
    | st.lists(texts, max_size=3).map(tuple)
)
recipes = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), recipe_values, max_size=5
)
sources = st.builds(
    Source,
    kind=st.just("sdist"),
    file=file_names,
    sha256=digests,
    size=st.integers(1, 2**31),
)
purls = st.builds(lambda name, version: f"pkg:pypi/{name}@{version}", projects, names)
trials = st.builds(
    TrialParams,
    job=names,
    ecosystem=st.just("pypi"),
    name=projects,
    version=names,
    seconds_max=st.integers(1, 3600),
)
rebuilds = st.builds(
    RebuildParams,
    job=names,
    purl=purls,
    source=sources,
    lock=locks,
    recipe=recipes,
    toolchain=digests,
    seconds_max=st.integers(1, 3600),
    tamper=st.none() | texts,
)
metadata = st.builds(
    Metadata,
    name=texts,
    version=texts,
    summary=texts,
    author=texts,
    keywords=st.lists(texts, max_size=3).map(tuple),
    requires=st.lists(texts, max_size=3).map(tuple),
)


@st.composite
def output_files(draw: st.DrawFn) -> OutputFile:
    """Return an output file, with all of the upstream's fields or none."""
    has_upstream = draw(st.booleans())
    return OutputFile(
        name=draw(file_names),
        path=draw(texts),
        size=draw(sizes),
        sha256=draw(digests),
        l1=draw(digests),
        l2=draw(digests),
        media="application/zip",
        claim=draw(st.sampled_from(["rebuilt", "mirrored"])),
        upstream_sha256=draw(digests) if has_upstream else None,
        upstream_path=draw(texts) if has_upstream else None,
        level=draw(st.integers(0, 3)) if has_upstream else None,
        differences=tuple(draw(st.lists(texts, max_size=3))),
    )


results = st.builds(
    BuildResult,
    purl=purls,
    source=sources,
    pipeline=st.fixed_dictionaries(
        {"id": st.just("pypi"), "version": st.integers(1, 9), "digest": digests}
    ),
    toolchain=digests,
    lock=locks,
    recipe=recipes,
    metadata=metadata,
    files=st.lists(output_files(), max_size=3).map(tuple),
    environment=st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True), texts | sizes, max_size=4
    ),
    seconds=st.floats(0, 5000).map(lambda s: round(s, 3)),
    log_path=texts,
)
failures = st.builds(
    JobFailure,
    outcome=st.sampled_from(OUTCOMES),
    cause=st.text("abc: ", max_size=32),
    detail=texts,
)
statuses = st.one_of(
    st.builds(
        JobStatus,
        job=names,
        state=st.sampled_from(["queued", "running"]),
        stage=texts,
        detail=texts,
        log_tail=texts,
    ),
    st.builds(
        JobStatus,
        job=names,
        state=st.just("done"),
        stage=texts,
        detail=texts,
        log_tail=texts,
        result=results,
    ),
    st.builds(
        JobStatus,
        job=names,
        state=st.just("failed"),
        stage=texts,
        detail=texts,
        log_tail=texts,
        result=failures,
    ),
)
