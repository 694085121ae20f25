"""Places see each other through the hub alone, and a wrong clock is wrong at once. Root only."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.hub import FAIR, Hub, Weather
from tests.chaos.namespaces import Place
from tests.chaos.stage import compile_wrong_clock

pytestmark = pytest.mark.nightly


@pytest.fixture
def hub() -> Iterator[tuple[Hub, Place, Place]]:
    left, right = Place("10.77.0.1"), Place("10.77.0.2")
    made = Hub({"left": left, "right": right}, 1)
    made.start()
    yield made, left, right
    made.close()
    left.close()
    right.close()


def _echo(place: Place, is_up: threading.Event) -> None:
    place.enter()
    with socket.create_server((place.address, 5000)) as server:
        is_up.set()
        connection, _ = server.accept()
        with connection:
            while content := connection.recv(100):
                connection.sendall(content)


def test_bytes_cross_in_fair_weather_late_in_slow_and_not_when_blocked(
    hub: tuple[Hub, Place, Place],
) -> None:
    wire, left, right = hub
    is_up = threading.Event()
    server = threading.Thread(target=_echo, args=(right, is_up))
    server.start()
    assert is_up.wait(5)
    times: list[float] = []

    def ask() -> None:
        left.enter()
        with socket.create_connection((right.address, 5000), timeout=5) as connection:
            for weather in (FAIR, Weather(delay_ms={"left": 100})):
                wire.weather = weather
                started_s = time.perf_counter()
                connection.sendall(b"?")
                assert connection.recv(1) == b"?"
                times.append(time.perf_counter() - started_s)
            wire.weather = Weather(blocked=frozenset({("right", "left")}))
            connection.settimeout(0.3)
            connection.sendall(b"?")
            with pytest.raises(TimeoutError):
                connection.recv(1)
            wire.weather = FAIR
            connection.settimeout(5)
            assert connection.recv(1) == b"?"  # TCP said it again

    client = threading.Thread(target=ask)
    client.start()
    client.join()
    server.join()
    assert times[1] >= 0.1 > times[0]
    assert wire.lost >= 1


def test_a_place_reaches_nothing_of_the_machine(hub: tuple[Hub, Place, Place]) -> None:
    _, left, _ = hub
    done = subprocess.run(
        [*left.prefix, "ip", "-brief", "link"],
        pass_fds=(left.network,),
        capture_output=True,
        text=True,
        check=True,
    )
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"lo", "eth0"}


PRINTER = "import sys, time\nfor _ in sys.stdin: print(time.time(), time.monotonic(), flush=True)"


def test_a_wall_clock_is_wrong_from_the_moment_it_is_set_and_timers_are_not(tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_bytes(struct.pack("=q", 0))
    library = compile_wrong_clock(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", PRINTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LD_PRELOAD": str(library), "PYRSIA_CLOCK": str(clock)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for ahead_s in (0, 60, -60):
            clock.write_bytes(struct.pack("=q", ahead_s * 1_000_000_000))
            process.stdin.write("\n")
            process.stdin.flush()
            wall, monotonic = map(float, process.stdout.readline().split())
            assert abs(wall - time.time() - ahead_s) < 1
            assert abs(monotonic - time.monotonic()) < 1
        process.stdin.close()
