"""The simulated network: hostile before it settles, timely and exact from then on."""

from __future__ import annotations

import random

from consensus.sim.clock import SECOND, Clock
from consensus.sim.network import Cut, Network, Weather
from consensus.types import NodeId

A, B = NodeId("a"), NodeId("b")
CALM = Weather(
    delay_us_min=10, delay_us_mean=100, loss=0, duplicate=0, straggle=0, straggle_us_max=0
)
ROUGH = Weather(
    delay_us_min=10,
    delay_us_mean=100_000,
    loss=300,
    duplicate=300,
    straggle=200,
    straggle_us_max=5 * SECOND,
)


class _Post:
    """A network whose deliveries are written down."""

    def __init__(self, weather: Weather, *, gst_us: int, cuts: tuple[Cut, ...] = ()) -> None:
        self.clock = Clock()
        self.arrived: list[tuple[int, bytes]] = []
        self.network = Network(
            self.clock,
            random.Random(7),
            lambda _source, _target, frame: self.arrived.append((self.clock.now_us, frame)),
            weather=weather,
            cuts=cuts,
            gst_us=gst_us,
        )

    def run(self) -> list[bytes]:
        while self.clock.advance():
            pass
        return [frame for _, frame in self.arrived]


def test_frames_are_lost_doubled_and_reordered_before_the_network_settles() -> None:
    post = _Post(ROUGH, gst_us=100 * SECOND)
    sent = [bytes([number]) for number in range(200)]
    for frame in sent:
        post.network.send(A, B, frame)
    arrived = post.run()
    assert set(arrived) < set(sent)
    assert any(arrived.count(frame) == 2 for frame in sent)
    assert arrived != sorted(arrived)


def test_every_frame_arrives_once_and_in_time_after_the_network_settled() -> None:
    post = _Post(ROUGH, gst_us=0)
    sent = [bytes([number]) for number in range(200)]
    for frame in sent:
        post.network.send(A, B, frame)
    assert sorted(post.run()) == sent
    assert all(at <= Network.SETTLED_US_MAX for at, _ in post.arrived)


def test_a_cut_is_directed_and_ends() -> None:
    cut = Cut(start_us=0, end_us=SECOND, links=frozenset({(A, B)}))
    post = _Post(CALM, gst_us=100 * SECOND, cuts=(cut,))
    post.network.send(A, B, b"lost")
    post.network.send(B, A, b"heard")
    post.clock.at(SECOND, lambda: post.network.send(A, B, b"later"))
    assert post.run() == [b"heard", b"later"]


def test_a_flapping_cut_holds_in_every_other_period() -> None:
    cut = Cut(start_us=0, end_us=10 * SECOND, links=frozenset({(A, B)}), period_us=SECOND)
    held = [cut.holds(A, B, b"any", second * SECOND) for second in range(6)]
    assert held == [True, False, True, False, True, False]


def test_a_jam_swallows_exactly_the_frames_that_begin_so() -> None:
    weather = Weather(10, 100, 0, 0, 0, 0, jammed=(b"\x01\x03",))
    post = _Post(weather, gst_us=100 * SECOND)
    for frame in (b"\x01\x03 finalize", b"\x01\x01 notarize", b"\x03 proposal"):
        post.network.send(A, B, frame)
    assert sorted(post.run()) == [b"\x01\x01 notarize", b"\x03 proposal"]
