"""What is compiled does as the readable files beside it say."""

import ctypes

import numpy as np
import pytest

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.safety import compiled_motion, compiled_servo, limits
from mechanic_rl_ros.safety.compiled_motion import CompiledMotion, make_motion
from mechanic_rl_ros.safety.compiled_servo import CompiledServo, make_servo
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.safety.motion import SHARES, Motion
from mechanic_rl_ros.safety.servo import Servo

FR3 = load_embodiment()
HOME = np.array(FR3.joints.home)
BIN = {"name": "bin", "low": [0.45, -0.3, 0.0], "high": [0.7, 0.1, 0.2]}
SHELF = {"name": "shelf", "low": [0.2, 0.25, 0.3], "high": [0.7, 0.5, 0.9]}
CELLS = {
    "as it is delivered": SafetyLimits.load(),
    "crowded": SafetyLimits.from_dict({"table_height": 0.0, "keep_out": [BIN, SHELF], "tcp_speed": 0.3}),
    "without a table": SafetyLimits.from_dict({"table_height": None, "joint_speed": [0.3, 1.2, 0.6, 1.2, 0.9, 1.2, 1.1], "position_margin": 0.2}),
}
PERIODS = {"at 100 Hz": 0.01, "at 50 Hz": 0.02}


def states(count, seed=0):
    """Positions, velocities and accelerations of all kinds: at home and anywhere, at rest, slow, and faster than allowed."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        anywhere = rng.uniform(limits.POSITION_LOWER, limits.POSITION_UPPER)
        q = anywhere if rng.random() < 0.5 else HOME + rng.uniform(-0.4, 0.4, 7)
        yield rng, (q, rng.uniform(-1.0, 1.0, 7) * rng.choice([0.0, 0.1, 1.2, 2.5]), rng.uniform(-9.0, 9.0, 7) * rng.choice([0.0, 1.0]))


def same(way, other):
    return all(np.allclose(getattr(way, name), getattr(other, name), rtol=0, atol=1e-12, equal_nan=True) for name in ("times_s", "positions", "velocities"))


@pytest.mark.parametrize("period", PERIODS.values(), ids=PERIODS)
@pytest.mark.parametrize("bounds", CELLS.values(), ids=CELLS)
def test_the_compiled_way_and_its_judgement_are_those_of_the_readable_one(bounds, period):
    readable, compiled, seen = Motion(FR3, bounds, period), CompiledMotion(FR3, bounds, period), set()
    for rng, state in states(400):
        wish = rng.uniform(-1.0, 1.0, 7) * rng.choice([0.1, 1.0, 10.0])
        for share in SHARES:
            (way, *named), (other, *theirs) = readable._next(state, wish, share), compiled._next(state, wish, share)
            assert same(way, other)
            assert named == theirs
            seen |= {"held back by " + name for name in named[0]} | {"not keeping " + name for name in named[1]}
        (way, broken), (other, theirs) = readable._rest(state), compiled._rest(state)
        assert same(way, other)
        assert broken == theirs
        seen.add("keeping all") if not broken else None
    wanted = {"workspace", "joint_position", "joint_velocity", "tcp_speed"} | ({"table"} if bounds.table_height is not None else set())
    wanted |= {"keep_out"} if bounds.keep_out else set()
    assert seen >= {"not keeping " + name for name in wanted} | {"keeping all"} | {
        "held back by " + name for name in ("acceleration", "jerk", "joint_velocity")
    }


@pytest.mark.parametrize("what", ["q", "v", "a", "wish"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [Motion, CompiledMotion])
def test_a_way_of_which_a_number_is_not_finite_is_not_taken_for_good(kind, what, value):
    motion = kind(FR3, SafetyLimits.load(), 0.01)
    for joint in range(7):
        given = {"q": HOME.copy(), "v": np.zeros(7), "a": np.zeros(7), "wish": np.full(7, 0.1)}
        given[what][joint] = value
        with np.errstate(all="ignore"):
            assert motion._next((given["q"], given["v"], given["a"]), given["wish"], 1.0)[2]
            assert what == "wish" or motion._rest((given["q"], given["v"], given["a"]))[1]


def test_a_wish_out_of_all_bounds_is_held_back_to_what_is_allowed():
    for motion in (Motion(FR3, SafetyLimits.load(), 0.01), CompiledMotion(FR3, SafetyLimits.load(), 0.01)):
        way, held_back, broken = motion._next((HOME, np.zeros(7), np.zeros(7)), np.full(7, 1e300), 1.0)
        assert np.isfinite(way.positions).all()
        assert "joint_velocity" in held_back
        assert not broken


def test_compiled_joint_velocities_are_those_of_the_readable_servo():
    readable, compiled, limited = Servo(FR3), CompiledServo(FR3), 0
    for rng, (q, _, _) in states(2000):
        velocity, spin = rng.uniform(-0.3, 0.3, 3), rng.uniform(-1.0, 1.0, 3) if rng.random() < 0.5 else None
        (expected, names), (found, theirs) = readable.joint_velocity(q, velocity, spin), compiled.joint_velocity(q, velocity, spin)
        assert found == pytest.approx(expected, abs=1e-10)
        assert names == theirs
        limited += bool(names)
    assert 100 < limited < 1900


def test_near_a_singularity_both_servos_move_the_tool_alike_and_no_joint_runs_away():
    readable, compiled = Servo(FR3), CompiledServo(FR3)
    for tilt in (0.0, 1e-9, 1e-6, 1e-3):
        stretched = np.array([0.0, tilt, 0.0, -tilt, 0.0, tilt, 0.0])  # upright; outside the limits of the joints, where no arm comes
        for velocity in (0.3 * np.eye(3)).tolist():
            found, expected = (servo.joint_velocity(stretched, np.array(velocity))[0] for servo in (compiled, readable))
            jacobian = readable._kinematics.jacobian(stretched)
            assert jacobian @ found == pytest.approx(jacobian @ expected, abs=1e-6)
            assert np.abs(found).max() < 5.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_tool_velocity_that_is_no_number_gives_joint_velocities_that_are_none(value):
    velocity = CompiledServo(FR3).joint_velocity(HOME, np.array([0.0, 0.0, 0.1]), np.array([value, 0.0, 0.0]))[0]
    assert not np.isfinite(velocity).any()


def test_where_the_library_is_not_built_the_readable_ones_act(monkeypatch):
    assert isinstance(make_motion(FR3, SafetyLimits.load(), 0.01), CompiledMotion)
    assert isinstance(make_servo(FR3), CompiledServo)
    monkeypatch.setattr(compiled_motion, "library", lambda: None)
    monkeypatch.setattr(compiled_servo, "library", lambda: None)
    assert type(make_motion(FR3, SafetyLimits.load(), 0.01)) is Motion
    assert type(make_servo(FR3)) is Servo
    with pytest.raises(RuntimeError, match="run make"):
        CompiledMotion(FR3, SafetyLimits.load(), 0.01)
    with pytest.raises(RuntimeError, match="run make"):
        CompiledServo(FR3)


@pytest.mark.parametrize(("kind", "arguments"), [(CompiledMotion, (SafetyLimits.load(), 0.01)), (CompiledServo, ())])
def test_a_library_that_takes_the_numbers_for_others_is_refused(kind, arguments, monkeypatch):
    module = compiled_motion if kind is CompiledMotion else compiled_servo

    class Longer(module._Numbers):
        _fields_ = (("more", ctypes.c_double),)

    monkeypatch.setattr(module, "_Numbers", Longer)
    with pytest.raises(RuntimeError, match="built from another version"):
        kind(FR3, *arguments)
