"""The way that the arm goes on, judged before it is sent."""

import numpy as np
import pytest

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.compiled_motion import CompiledMotion
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.safety.motion import Motion
from mechanic_rl_ros.sim.trajectory import Trajectory

EMBODIMENT = load_embodiment()
HOME = np.array(EMBODIMENT.joints.home)
NOW_NS = 1_000_000_000
JOINT_LIMITS = {"joint_position", "joint_velocity"}


@pytest.fixture(params=[Motion, CompiledMotion])
def motion(request):
    motion = request.param(EMBODIMENT, SafetyLimits.load(), 0.01)
    motion.begin(HOME, Trajectory(np.array([0.1]), HOME[None], np.zeros((1, 7))), NOW_NS)
    return motion


def test_a_wish_that_is_no_number_sends_nothing(motion):
    state = motion.controller.state(NOW_NS)
    assert motion.go_on(NOW_NS, state, lambda q: (np.full(7, 0.1), []))[0] is not None
    assert motion.go_on(NOW_NS, state, lambda q: (np.full(7, np.nan), []))[0] is None


def test_where_a_way_is_seen_to_be_far_from_joint_limits_it_keeps_them(motion, monkeypatch):
    rng, seen = np.random.default_rng(0), {True: 0, False: 0}
    for _ in range(600):
        q = rng.uniform(limits.POSITION_LOWER, limits.POSITION_UPPER) if rng.random() < 0.5 else HOME + rng.uniform(-0.6, 0.6, 7)
        v = rng.uniform(-1.0, 1.0, 7) * rng.choice([0.1, 1.2, 2.5])
        way = motion._limiter.trajectory(q, v, rng.uniform(-9.0, 9.0, 7))
        quick = JOINT_LIMITS & set(motion._broken(way, q, v))
        with monkeypatch.context() as patch:
            patch.setattr(Motion, "_far_from_joint_limits", lambda *_: False)
            assert quick == JOINT_LIMITS & set(motion._broken(way, q, v))
        seen[bool(quick)] += 1
    assert min(seen.values()) > 50  # both kinds came


def test_at_its_braking_distance_a_joint_may_have_that_speed():
    speed = np.full(7, 1.2)
    distance = limits.braking_distance(speed)
    assert (limits.velocity_bounds(limits.POSITION_UPPER - distance)[1] >= speed).all()
    assert (limits.velocity_bounds(limits.POSITION_LOWER + distance)[0] <= -speed).all()
    assert (limits.velocity_bounds(limits.POSITION_UPPER - distance + 2e-6)[1] < speed).all()  # and no nearer
