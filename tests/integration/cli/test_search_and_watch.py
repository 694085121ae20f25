"""``pyrsia search``, ``log`` and ``watch`` as programs, against a real gateway over a real log."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import hashlib
import hmac
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pyrsia_node.tlog.verify import verify_entry
from tests.fakes.gateway_process import Node, node, run_gateway
from tests.fakes.published_log import document, file_entry
from tests.fakes.wheels import make_wheel

PYRSIA = Path(sys.executable).parent / "pyrsia"
INVALID, VERIFICATION, NOT_FOUND, UNAVAILABLE = 2, 3, 4, 5


@dataclass
class Finished:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        assert self.code == 0, self.err
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Setting:
    node: Node
    folder: Path
    leaves: dict[str, int] = field(default_factory=dict)

    def accept(self, name: str) -> int:
        file, data = make_wheel(name, "1.0")
        doc = document(f"pkg:pypi/{name}@1.0", file_entry(file, data))
        self.leaves[name] = self.node.log.accept(doc)
        return self.leaves[name]

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYRSIA_CONFIG": str(self.folder / "pyrsia.toml"),
            "COLUMNS": "200",
            "HOME": str(self.folder),
        }

    async def pyrsia(self, *words: object, **more: str) -> Finished:
        def run() -> Finished:
            done = subprocess.run(
                [PYRSIA, *map(str, words)],
                env=self.environment() | more,
                capture_output=True,
                text=True,
                timeout=50,
                check=False,
            )
            return Finished(done.returncode, done.stdout, done.stderr)

        return await asyncio.to_thread(run)


def scenario(
    folder: Path,
    act: Callable[[Setting], Awaitable[None]],
    environment: dict[str, str] | None = None,
) -> None:
    """Act on a gateway that runs in ``environment``, over three packages."""

    async def run() -> None:
        async with node(folder / "node") as own:
            it = Setting(own, folder)
            for name in ("six", "idna", "attrs"):
                it.accept(name)
            trust = folder / "net.trust"
            trust.write_bytes(own.log.trust_file.encode())
            async with run_gateway(own.layout, environment) as gateway:
                port = gateway.url.rpartition(":")[2]
                (folder / "pyrsia.toml").write_text(f"port = {port}\ntrust = '{trust}'\n")
                await act(it)

    asyncio.run(run())


def bounded(folder: Path, module: str, name: str, value: int) -> dict[str, str]:
    """Return the environment of a process in which a module's bound has another value."""
    folder.mkdir()
    code = f"import importlib\nimportlib.import_module({module!r}).{name} = {value}\n"
    (folder / "sitecustomize.py").write_text(code)
    return {"PYTHONPATH": str(folder)}


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


@dataclass
class Receiver:
    """A webhook's receiver: refuses what ``refuse`` says, keeps the rest."""

    refuse: list[int] = field(default_factory=list)
    taken: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    asked: int = 0
    url: str = ""
    before_answer: Callable[[], object] = field(default=lambda: None)

    @contextlib.contextmanager
    def listen(self) -> Iterator[Receiver]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.asked += 1
                status = receiver.refuse.pop(0) if receiver.refuse else 204
                if status == 204:
                    receiver.taken.append((dict(self.headers.items()), body))
                receiver.before_answer()
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_port}/hook"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def indexes(self) -> list[int]:
        return [json.loads(body)["index"] for _, body in self.taken]


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
