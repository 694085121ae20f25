"""``pyrsia search``, ``log`` and ``watch`` as programs, against a real gateway over a real log."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import hashlib
import hmac
import io
import json
import os
import signal
from pathlib import Path

import pytest

from pyrsia_node.model.digest import sha256_of
from pyrsia_node.model.purl import Purl
from pyrsia_node.model.statements import Deprecate, Revoke, Withdraw
from pyrsia_node.tlog.verify import verify_entry
from tests.fakes.command_at_a_gateway import PYRSIA, Receiver, Setting, bounded, scenario
from tests.fakes.published_log import document, file_entry
from tests.fakes.wheels import make_wheel

INVALID, VERIFICATION, NOT_FOUND, UNAVAILABLE = 2, 3, 4, 5


def test_search_prints_proved_hits_in_every_form(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        newest = [it.leaves[name] for name in ("attrs", "idna", "six")]
        found = (await it.pyrsia("search", "status:accepted", "--format", "json")).json()
        assert [hit["index"] for hit in found["hits"]] == newest
        assert (found["as_of"], found["complete"]) == (found["size"], True)
        assert all(hit["verified"] and "proof" not in hit for hit in found["hits"])
        words = ["search", "status:accepted", "--order", "log", "--proof", "--format", "jsonl"]
        *hits, stamp = (await it.pyrsia(*words)).lines()
        assert [hit["index"] for hit in hits] == newest[::-1]
        assert all(verify_entry(hit["proof"].encode(), it.node.log.trust) for hit in hits)
        assert stamp["root"] == found["root"]
        table = await it.pyrsia("search", "pkg:pypi/s*", "--format", "csv")
        (row,) = csv.DictReader(io.StringIO(table.out))
        assert (row["index"], row["purl"]) == (str(it.leaves["six"]), "pkg:pypi/six@1.0")
        shown = await it.pyrsia("search", "-pkg:pypi/six", "(idna OR attrs)", "--limit", "1")
        assert "pkg:pypi/attrs@1.0" in shown.out
        assert f"more: --cursor {newest[1] + 1} --as-of {found['as_of']}" in shown.out
        early = ["search", "status:accepted", "--as-of", it.leaves["idna"], "--format", "json"]
        assert [hit["index"] for hit in (await it.pyrsia(*early)).json()["hits"]] == newest[2:]

    scenario(tmp_path, act)


def test_proof_of_a_hit_verifies_its_file_offline(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        name, data = make_wheel("idna", "1.0")
        words = ["search", f"sha256:{hashlib.sha256(data).hexdigest()}", "--proof"]
        (hit,) = (await it.pyrsia(*words, "--format", "json")).json()["hits"]
        bundle, wheel = tmp_path / "idna.tlog-proof", tmp_path / name
        bundle.write_text(hit["proof"])
        wheel.write_bytes(data)
        nowhere = tmp_path / "nowhere.toml"
        nowhere.write_text(f"port = 9\ntrust = '{tmp_path / 'net.trust'}'\n")
        verify = ["verify", wheel, "--bundle", bundle, "--format", "json"]
        verified = (await it.pyrsia(*verify, PYRSIA_CONFIG=str(nowhere))).json()
        assert (verified["entry"], verified["purl"]) == (hit["index"], "pkg:pypi/idna@1.0")
        wheel.write_bytes(data + b"!")
        assert (await it.pyrsia(*verify, PYRSIA_CONFIG=str(nowhere))).code == VERIFICATION

    scenario(tmp_path, act)


def test_search_shows_with_a_caret_what_is_wrong(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        wrong = await it.pyrsia("search", "six", "statsu:open")
        assert wrong.code == INVALID
        assert wrong.err.splitlines()[-2:] == ["  six statsu:open", "      ^"]

    scenario(tmp_path, act)


def test_log_is_browsed_by_block_and_by_entry(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        tip = it.node.log.local.chain.tip
        blocks = await it.pyrsia("log", "list", "--limit", "2", "--format", "csv")
        rows = list(csv.DictReader(io.StringIO(blocks.out)))
        assert [row["height"] for row in rows] == [str(tip.height), str(tip.height - 1)]
        shown = (await it.pyrsia("log", "show", tip.height, "--format", "json")).json()
        indexes = [entry["index"] for entry in shown["entries"]]
        assert indexes == list(range(int(rows[0]["first"]), tip.size))
        assert (shown["as_of"], shown["complete"]) == (tip.size, True)
        one = (await it.pyrsia("log", "show", "--entry", it.leaves["six"])).json()
        assert one["doc"]["purl"] == "pkg:pypi/six@1.0"
        assert (await it.pyrsia("log", "show", tip.height + 9)).code == NOT_FOUND
        assert (await it.pyrsia("log", "show")).code == INVALID

    scenario(tmp_path, act)


def test_every_answer_says_what_it_holds_for_and_what_was_cut(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        tip = it.node.log.local.chain.tip
        stamp = f"as of {tip.size} entries, root {tip.root.hex()[:16]}"
        reads = (
            ["search", "status:accepted", "--limit", "1"],
            ["inspect-log", "pypi", "six"],
            ["log", "list", "--limit", "1"],
            ["log", "show", tip.height, "--limit", "1"],
        )
        for words in reads:
            table, rows, lines = [
                await it.pyrsia(*words, "--format", form) for form in ("table", "csv", "jsonl")
            ]
            assert stamp in table.out
            assert stamp in rows.err
            assert stamp not in rows.out
            assert lines.lines()[-1]["root"] == tip.root.hex()
            assert lines.lines()[-1]["complete"] is True
            is_cut = words[0] == "search" or words[1] == "show"
            assert ("more: " in table.out, "more: " in rows.err) == (is_cut, is_cut)
        cut = (await it.pyrsia(*reads[3], "--format", "json")).json()
        count = tip.size - cut["entries"][0]["index"]
        assert cut["entries_in_block"] == count
        shown = await it.pyrsia(*reads[3])
        assert f"more: 1 of {count} entries are shown; --limit {count}" in shown.out

    scenario(tmp_path, act)


def test_a_ranked_answer_says_how_many_matched_where_it_shows_fewer(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        words = ["search", "package", "--order", "rank"]
        whole = (await it.pyrsia(*words, "--format", "json")).json()
        assert (whole["order"], whole["matches"], len(whole["hits"])) == ("rank", 3, 3)
        shown = await it.pyrsia(*words)
        assert "best match first" in shown.out
        assert "more: " not in shown.out
        table, rows = [
            await it.pyrsia(*words, "--limit", "2", "--format", form) for form in ("table", "csv")
        ]
        assert "more: the best 2 of 3 matches are shown; --limit 3" in table.out
        assert "more: the best 2 of 3 matches are shown; --limit 3" in rows.err
        *hits, stamp = (await it.pyrsia(*words, "--limit", "2", "--format", "jsonl")).lines()
        assert (len(hits), stamp["matches"], stamp["next"]) == (2, 3, None)

    scenario(tmp_path, act)


def test_more_matches_than_are_ranked_come_newest_first_page_by_page_and_it_is_said(
    tmp_path: Path,
) -> None:
    short_pages = bounded(tmp_path / "command", "pyrsia_cli.commands.search", "PAGE_MAX", 2)
    few_ranked = bounded(tmp_path / "gateway", "pyrsia_node.ledger.search", "RANKED_MAX", 2)

    async def act(it: Setting) -> None:
        newest = [it.leaves[name] for name in ("attrs", "idna", "six")]
        words = ["search", "package", "--order", "rank", "--limit", "1000"]
        for form in ("table", "csv", "json", "jsonl"):
            found = await it.pyrsia(*words, "--format", form, **short_pages)
            assert found.code == 0, found.err
            assert "not ranked: too many match; the newest come first" in found.err
        answer = (await it.pyrsia(*words, "--format", "json", **short_pages)).json()
        assert [hit["index"] for hit in answer["hits"]] == newest
        assert (answer["order"], answer["next"]) == ("newest", None)
        cut = await it.pyrsia(*words[:-1], "1")
        cursor = ["--cursor", newest[1] + 1, "--as-of", answer["as_of"], "--order", "newest"]
        assert f"more: {' '.join(map(str, cursor))}" in cut.out
        assert "newest first" in cut.out
        rest = (await it.pyrsia(*words, *cursor, "--format", "json")).json()
        assert [hit["index"] for hit in rest["hits"]] == newest[1:]

    scenario(tmp_path, act, few_ranked)


def test_a_term_that_excludes_is_no_option_whatever_it_begins_with(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        newest = [it.leaves[name] for name in ("attrs", "idna", "six")]
        for term in ("-height:0", "-http*", "-height:1..1"):
            words = ["search", term, "status:accepted", "--format", "json"]
            assert [hit["index"] for hit in (await it.pyrsia(*words)).json()["hits"]] == newest
        for words in (["search", "-h"], ["watch", "-h"], ["search", "six", "--help"]):
            assert "Usage: pyrsia" in (await it.pyrsia(*words)).out

    scenario(tmp_path, act)


def test_watch_delivers_each_match_once_and_goes_on_from_its_state(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        state = tmp_path / "watch.json"
        words = ["watch", "pkg:pypi/s*", "pkg:pypi/idna", "--state", state, "--until-caught-up"]
        first = (await it.pyrsia(*words, "--from", "0")).lines()
        assert [event["index"] for event in first] == [it.leaves["six"], it.leaves["idna"]]
        assert (await it.pyrsia(*words)).lines() == []
        it.accept("sortedcontainers")
        it.accept("zipp")
        new = (await it.pyrsia(*words, "--proof")).lines()
        assert [event["index"] for event in new] == [it.leaves["sortedcontainers"]]
        proof = verify_entry(new[0]["proof"].encode(), it.node.log.trust)
        assert proof.index == it.leaves["sortedcontainers"]
        assert (await it.pyrsia(*words)).lines() == []
        other = await it.pyrsia("watch", "zipp", "--state", state, "--until-caught-up")
        assert other.code == INVALID
        assert "the state of another watch" in other.err

    scenario(tmp_path, act)


@pytest.mark.parametrize(
    "term", ["pkg:pypi/watched", 'author:"Grace Hopper"', "dep:wanted", "sha256:{digest}"]
)
def test_watch_follows_a_package_an_author_a_dependency_or_a_hash(
    tmp_path: Path, term: str
) -> None:
    async def act(it: Setting) -> None:
        file, data = make_wheel("watched", "1.0")
        doc = document("pkg:pypi/watched@1.0", file_entry(file, data))
        metadata = dataclasses.replace(doc.metadata, author="Grace Hopper", requires=("wanted>=2",))
        doc = dataclasses.replace(doc, metadata=metadata)
        words = ["watch", term.format(digest=hashlib.sha256(data).hexdigest())]
        words += ["--state", str(tmp_path / "state"), "--until-caught-up"]
        assert (await it.pyrsia(*words)).lines() == []
        it.accept("other")
        expected = it.node.log.accept(doc)
        it.accept("wanted")
        (event,) = (await it.pyrsia(*words)).lines()
        assert (event["index"], event["verified"]) == (expected, True)
        assert event["leaf"]["doc"]["metadata"]["author"] == "Grace Hopper"

    scenario(tmp_path, act)


def test_watch_of_a_status_tells_an_old_entry_when_a_statement_makes_it_match(
    tmp_path: Path,
) -> None:
    async def act(it: Setting) -> None:
        by, nonce = it.node.log.local.members[0].id, "07" * 16
        data = make_wheel("six", "1.0")[1]
        six, idna = Purl.parse("pkg:pypi/six@1.0"), Purl.parse("pkg:pypi/idna@1.0")
        closed = ["watch", "status:revoked", "status:withdrawn", "--until-caught-up"]
        closed += ["--state", str(tmp_path / "closed")]
        advised = ["watch", "status:deprecated -author:nobody", "--until-caught-up"]
        advised += ["--state", str(tmp_path / "advised")]
        for words in (closed, advised):
            assert (await it.pyrsia(*words)).lines() == []
        state = it.node.log.state
        revoked = state(Revoke(by, six, sha256_of(data), "steals", nonce))
        withdrawn = state(Withdraw(by, idna, it.leaves["idna"], "mistaken", nonce))
        project = Purl.parse("pkg:pypi/attrs")
        advice = state(Deprecate(by, project, "use another", None, nonce))
        it.accept("zipp")
        with Receiver(refuse=[204, 503]).listen() as receiver:  # refuses the second once
            hook = ["--webhook", receiver.url, "--retries", "0"]
            assert (await it.pyrsia(*closed, *hook)).code == UNAVAILABLE
            assert receiver.indexes() == [it.leaves["six"]]
            done = await it.pyrsia(*closed, *hook)
            assert done.code == 0, done.err
            names = [headers["X-Pyrsia-Delivery"] for headers, _ in receiver.taken][1:]
            events = [json.loads(body) for _, body in receiver.taken][1:]
        told = [(it.leaves["six"], revoked), (it.leaves["idna"], withdrawn)]
        assert [(event["index"], event["by_statement"]) for event in events] == told
        assert [event["status"] for event in events] == ["revoked", "withdrawn"]
        origin = it.node.log.trust.origin
        assert names == [f"{origin}#{entry}@{statement}" for entry, statement in told]
        (event,) = (await it.pyrsia(*advised)).lines()
        assert (event["index"], event["by_statement"]) == (it.leaves["attrs"], advice)
        for words in (closed, advised):
            assert (await it.pyrsia(*words)).lines() == []
        # From the beginning each is told once, in its place, as it stands now.
        anew = ["watch", *closed[1:4], "--from", "0"]
        assert [event["index"] for event in (await it.pyrsia(*anew)).lines()] == [
            it.leaves["six"],
            it.leaves["idna"],
        ]

    scenario(tmp_path, act)


def test_watch_refuses_at_once_a_query_that_it_could_not_ask_of_one_block(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        wrong = await it.pyrsia("watch", "statsu:open", "--until-caught-up")
        assert (wrong.code, wrong.err.splitlines()[-1]) == (INVALID, "  ^")
        names = " OR ".join(f"status:open{' ' * 150}" for _ in range(6))
        assert (await it.pyrsia("search", names)).code == 0
        long = await it.pyrsia("watch", names, "--until-caught-up", "--from", "0")
        assert long.code == INVALID
        assert "a watch of a status has 25 characters less" in long.err

    scenario(tmp_path, act)


def test_watch_without_a_beginning_tells_what_is_new_only(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        words = ["watch", "status:accepted", "--state", tmp_path / "s", "--until-caught-up"]
        assert (await it.pyrsia(*words)).lines() == []
        it.accept("zipp")
        (event,) = (await it.pyrsia(*words)).lines()
        assert event["index"] == it.leaves["zipp"]

    scenario(tmp_path, act)


def test_running_watch_prints_what_comes(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        # Tests that run in a shell's background ignore Ctrl-C, and so would what they start.
        process = await asyncio.create_subprocess_exec(
            *("env", "--default-signal=INT"),
            *(PYRSIA, "watch", "status:accepted", "--from", "0", "--interval", "0.1"),
            env=it.environment(),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        seen = [json.loads(await process.stdout.readline())["index"] for _ in range(3)]
        assert seen == [it.leaves[name] for name in ("six", "idna", "attrs")]
        it.accept("zipp")
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        assert json.loads(line)["index"] == it.leaves["zipp"]
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130

    scenario(tmp_path, act)


def test_webhook_gets_signed_events_and_failures_are_tried_again(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        key = tmp_path / "hook.key"
        key.write_text("0123456789abcdef0123\n")
        key.chmod(0o600)
        state = tmp_path / "hook.json"
        with Receiver(refuse=[500]).listen() as receiver:
            words = ["watch", "status:accepted", "--from", "0", "--until-caught-up"]
            words += ["--webhook", receiver.url, "--secret-file", str(key), "--state", str(state)]
            done = await it.pyrsia(*words)
            assert done.code == 0, done.err
            assert "answered 500; again in 1 s" in done.err
            assert receiver.indexes() == [it.leaves[name] for name in ("six", "idna", "attrs")]
            for headers, body in receiver.taken:
                mac = hmac.new(b"0123456789abcdef0123", body, hashlib.sha256).hexdigest()
                assert headers["X-Pyrsia-Signature"] == f"sha256={mac}"
                index = json.loads(body)["index"]
                assert headers["X-Pyrsia-Delivery"] == f"{it.node.log.trust.origin}#{index}"

    scenario(tmp_path, act)


def test_watch_that_gives_up_has_skipped_nothing(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        words = ["watch", "status:accepted", "--from", "0", "--until-caught-up"]
        words += ["--state", str(tmp_path / "state"), "--retries", "0"]
        with Receiver().listen() as receiver:
            receiver.refuse = [204, 503]  # takes the first, refuses the second
            failed = await it.pyrsia(*words, "--webhook", receiver.url)
            assert failed.code == UNAVAILABLE
            assert receiver.indexes() == [it.leaves["six"]]
            assert (await it.pyrsia(*words, "--webhook", receiver.url)).code == 0
            assert receiver.indexes() == [it.leaves[name] for name in ("six", "idna", "attrs")]

    scenario(tmp_path, act)


def test_killed_watch_delivers_again_what_may_not_have_arrived(tmp_path: Path) -> None:
    async def act(it: Setting) -> None:
        words = ["watch", "status:accepted", "--from", "0", "--until-caught-up"]
        words += ["--state", str(tmp_path / "state")]
        with Receiver().listen() as receiver:
            words += ["--webhook", receiver.url]

            def die() -> None:
                # The second event has arrived, its answer has not.
                if receiver.asked == 2:
                    os.kill(process.pid, signal.SIGKILL)

            receiver.before_answer = die
            process = await asyncio.create_subprocess_exec(PYRSIA, *words, env=it.environment())
            assert await process.wait() == -signal.SIGKILL
            assert receiver.indexes() == [it.leaves["six"], it.leaves["idna"]]
            assert (await it.pyrsia(*words)).code == 0
            again = [it.leaves[name] for name in ("idna", "attrs")]
            assert receiver.indexes()[2:] == again

    scenario(tmp_path, act)


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [("short", 0o600, "16 to 4096"), ("0123456789abcdef", 0o644, "chmod 600")],
)
def test_key_that_is_short_or_open_to_others_is_refused(
    tmp_path: Path, content: str, mode: int, says: str
) -> None:
    key = tmp_path / "key"
    key.write_text(content)
    key.chmod(mode)
    trust = tmp_path / "pyrsia.toml"
    trust.write_text("")

    async def act(it: Setting) -> None:
        words = ["watch", "six", "--webhook", "http://127.0.0.1:9/", "--secret-file", key]
        refused = await it.pyrsia(*words)
        assert refused.code == INVALID
        assert says in refused.err

    scenario(tmp_path, act)
