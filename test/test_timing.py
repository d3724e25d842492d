"""The beat on the arm's clock, with clocks that the test moves."""

from types import SimpleNamespace

import numpy as np
import pytest

from mechanic_rl_ros.timing import STILL_S, ArmClock, BeatStatistics

PERIOD = 0.02


def run(clock, seconds, rate=1.0, at=0.0, arm=100.0, delays=None):
    """Clock messages every 20 ms of the arm's time; when the last one was heard (s) and what it said (s)."""
    count = round(seconds * rate / PERIOD)
    for index in range(1, count + 1):
        sent = at + index * PERIOD / rate
        clock.add(round((arm + index * PERIOD) * 1e9), sent + (delays[index % len(delays)] if delays is not None else 0.0))
    return at + count * PERIOD / rate, arm + count * PERIOD


def error_ms(clock, at, arm):
    return abs(clock.now_ns(at) - arm * 1e9) * 1e-6


@pytest.fixture
def clock():
    return ArmClock(simulated=True)


def test_without_a_message_the_time_is_unknown(clock):
    assert clock.now_ns(5.0) is None
    assert clock.wall_until(10**9, 5.0) == 0.0


def test_between_two_messages_time_goes_on(clock):
    at, arm = run(clock, 2.0)
    assert error_ms(clock, at + 0.01, arm + 0.01) < 1.0


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0, 2.0, 5.0])
def test_it_finds_the_rate_of_the_arm_s_clock(clock, rate):
    at, arm = run(clock, 60.0, rate)
    assert clock.rate == pytest.approx(rate, rel=0.05)
    assert error_ms(clock, at, arm) < 5.0 * max(rate, 1.0)
    assert clock.wall_until(round((arm + 0.02) * 1e9), at) == pytest.approx(0.02 / rate, abs=0.006 / min(rate, 1.0))


def test_a_change_of_the_rate_is_followed(clock):
    at, arm = run(clock, 10.0, 1.0)
    at, arm = run(clock, 30.0, 0.5, at, arm)
    at, arm = run(clock, 30.0, 0.5, at, arm)
    assert clock.rate == pytest.approx(0.5, rel=0.05)
    assert error_ms(clock, at, arm) < 20.0


def test_late_messages_shake_the_beat_much_less_than_they_are_late(clock):
    delays = np.random.default_rng(0).exponential(0.004, 997)
    at, arm = run(clock, 20.0, delays=delays)
    shown = []
    for index in range(500):
        clock.add(round((arm + index * PERIOD) * 1e9), at + index * PERIOD + delays[index])
        shown.append(clock.now_ns(at + index * PERIOD + 0.019) - (arm + index * PERIOD + 0.019) * 1e9)
    assert np.std(shown) * 1e-9 < 0.3 * np.std(delays)


def test_a_clock_that_stands_still_has_no_time_until_it_goes_on(clock):
    at, arm = run(clock, 2.0)
    assert clock.now_ns(at + 0.9 * STILL_S) is not None
    assert clock.now_ns(at + 1.1 * STILL_S) is None
    at, arm = run(clock, 0.1, at=at + 60.0, arm=arm)
    assert error_ms(clock, at, arm) < 1.0, "the pause is not made up for"


@pytest.mark.parametrize("jump", [-90.0, 1000.0])
def test_a_jump_of_the_clock_is_followed_at_once(clock, jump):
    at, arm = run(clock, 5.0)
    at, arm = run(clock, 0.1, at=at, arm=arm + jump)
    assert error_ms(clock, at, arm) < 1.0


def test_on_a_robot_it_is_the_system_s_time():
    clock = ArmClock(simulated=False)
    clock.add(5, 1.0)
    assert clock.now_ns() > 1.6e18
    assert clock.rate == 1.0


def beat(statistics, periods, rate=1.0, at=0.0):
    """Beats at these wall times (s) apart."""
    for step in [0.0, *periods]:
        at += step
        statistics.beat(round(at * rate * 1e9), at, rate)
    return at


def test_a_steady_beat_has_no_error():
    statistics = BeatStatistics(PERIOD)
    beat(statistics, [PERIOD] * 100)
    figures = statistics.take()
    assert figures["period_count"] == 100
    assert figures["period_mean_error"] == pytest.approx(0.0, abs=1e-6)
    assert figures["period_deviation"] == pytest.approx(0.0, abs=1e-6)
    assert figures["period_p99"] == pytest.approx(PERIOD)


def test_an_uneven_beat_is_told_in_shares_of_the_period():
    statistics = BeatStatistics(PERIOD)
    beat(statistics, [0.018, 0.022] * 50)
    figures = statistics.take()
    assert figures["period_mean_error"] == pytest.approx(0.0, abs=1e-6)
    assert figures["period_deviation"] == pytest.approx(0.1)
    assert figures["period_p99"] == pytest.approx(0.022)


def test_a_beat_that_is_too_slow_has_a_mean_error():
    statistics = BeatStatistics(PERIOD)
    beat(statistics, [0.025] * 40)
    assert statistics.take()["period_mean_error"] == pytest.approx(0.25)


def test_periods_are_measured_in_seconds_of_the_arm():
    statistics = BeatStatistics(PERIOD)
    beat(statistics, [PERIOD / 2] * 40, rate=2.0)
    assert statistics.take()["period_p99"] == pytest.approx(PERIOD)


def test_a_pause_is_no_period():
    statistics = BeatStatistics(PERIOD)
    at = beat(statistics, [PERIOD] * 10)
    statistics.skip()
    statistics.skip()
    beat(statistics, [PERIOD] * 10, at=at + 30.0)
    figures = statistics.take()
    assert figures["period_count"] == 20
    assert figures["period_p99"] == pytest.approx(PERIOD)


def test_every_period_is_told_once_also_the_one_between_two_windows():
    statistics = BeatStatistics(PERIOD)
    at = beat(statistics, [PERIOD] * 10)
    assert statistics.take()["period_count"] == 10
    assert statistics.take()["period_count"] == 0
    statistics.beat(round((at + PERIOD) * 1e9), at + PERIOD, 1.0)
    assert statistics.take()["period_count"] == 1


def test_latencies_are_told_once():
    statistics = BeatStatistics(PERIOD)
    statistics.latency(0.05)
    statistics.latency(0.07)
    assert statistics.take()["latencies"] == pytest.approx([0.05, 0.07])
    assert list(statistics.take()["latencies"]) == []


def test_a_small_step_of_the_systems_clock_is_followed_slowly_and_a_large_one_at_once(monkeypatch):
    now = [1000.0, 5 * 10**18]
    monkeypatch.setattr("mechanic_rl_ros.timing.time", SimpleNamespace(monotonic=lambda: now[0], time_ns=lambda: now[1]))
    clock = ArmClock(simulated=False)
    before = clock.now_ns()

    def pass_time(seconds, step_ns=0):
        now[0], now[1] = now[0] + seconds, now[1] + round(seconds * 1e9) + step_ns
        return clock.now_ns()

    assert pass_time(0.01) - before == pytest.approx(10_000_000, abs=1000)
    before = clock.now_ns()
    assert pass_time(0.01, step_ns=50_000_000) - before == pytest.approx(10_100_000, abs=1000)
    for _ in range(600):
        pass_time(0.01)
    assert clock.now_ns() == pytest.approx(now[1], abs=1000)
    before = clock.now_ns()
    assert pass_time(0.01, step_ns=-(10**9)) < before
