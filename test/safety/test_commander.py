import numpy as np
import pytest

from mechanic_rl_ros.data import Source
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.commander import Commander
from mechanic_rl_ros.safety.kinematics import Kinematics

MS = 1_000_000


def test_before_it_is_started_it_holds_whatever_arrives(arm):
    arm.commander.set_chunk(arm.chunk())
    commands = arm.ticks(0.5)
    assert {command.holding for command in commands} == {"not started"}
    assert all(command.trajectory is None and command.finger is None for command in commands)


def test_a_chunk_moves_the_tool_as_its_actions_say(arm):
    arm.start()
    kinematics, start = Kinematics(arm.embodiment), arm.controller.sample(arm.now_ns)[0]
    arm.commander.set_chunk(arm.chunk((0.5, -0.25, 0.0, 1.0), policy_version=7, best_of_n=True))
    commands = arm.ticks(0.4)
    moved = kinematics.tcp(arm.controller.sample(arm.now_ns)[0])[0] - kinematics.tcp(start)[0]
    assert moved == pytest.approx([0.06, -0.03, 0.0], abs=0.012)  # 0.4 s at 0.15 and 0.075 m/s, less the start
    last = commands[-1]
    assert (last.holding, last.source, last.policy_version, last.best_of_n, last.finger) == ("", Source.POLICY, 7, True, 0.0)
    assert last.action == pytest.approx([0.5, -0.25, 0.0, 1.0])


def test_every_trajectory_has_two_points_or_more_and_ends_at_rest(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk((1.0, 1.0, -1.0, -1.0)))
    for command in arm.ticks(0.5):
        assert len(command.trajectory.times_s) >= 2
        assert (command.trajectory.velocities[-1] == 0.0).all()


def test_an_action_beyond_one_is_clipped(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk((5.0, -5.0, 0.0, 0.0)))
    command = arm.tick()
    assert command.action == pytest.approx([1.0, -1.0, 0.0, 0.0])
    assert command.finger == pytest.approx(0.04)
    assert "action" in command.limited


def test_when_the_chunk_is_over_the_arm_stops_and_holds(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk(steps=3))
    commands = arm.ticks(1.0)
    assert commands[29].holding == ""
    assert commands[30].holding == "no action for now"
    assert commands[30].source is Source.HOLD
    assert commands[-1].trajectory is None
    assert arm.at_rest()


def test_a_stale_joint_state_stops_the_arm(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk())
    arm.ticks(0.2)
    commands = arm.ticks(0.6, joints=False)
    assert commands[11].holding == ""  # 0.12 s old at most: still fresh
    assert commands[19].holding == "joint state is stale or missing"
    assert commands[-1].trajectory is None
    assert arm.at_rest()


def test_when_the_stream_of_commands_ends_the_arm_stops_by_itself_within_150_ms(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk((1.0, 1.0, -1.0, -1.0)))
    arm.ticks(0.3)
    assert arm.speed() > 0.3
    arm.now_ns += 150 * MS
    assert arm.at_rest()


def test_from_the_highest_speed_the_arm_stops_smoothly_within_150_ms(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk((1.0, 0.0, 0.0, -1.0)))
    arm.ticks(0.3)
    assert arm.speed() > 0.8 * limits.SafetyLimits().joint_speed[1]
    arm.commander.stop("test")
    speeds = [arm.speed()]
    for _ in range(15):
        arm.tick()
        speeds.append(arm.speed())
    assert arm.at_rest()
    assert np.abs(np.diff(speeds)).max() <= 0.01 * limits.ACCELERATION


def test_after_an_obstacle_it_goes_on_only_from_a_new_chunk(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk(steps=40))
    arm.ticks(0.1)
    assert arm.ticks(0.3, joints=False)[-1].holding == "joint state is stale or missing"
    assert {command.holding for command in arm.ticks(0.2)} == {"no action for now"}
    arm.commander.set_chunk(arm.chunk())
    assert arm.tick().holding == ""


def test_a_chunk_from_an_old_observation_is_no_longer_followed(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk(steps=40))
    commands = arm.ticks(1.0)
    assert (commands[80].holding, commands[81].holding) == ("", "no fresh chunk")
    assert arm.at_rest()


def test_an_emergency_stop_stays_whatever_is_asked_for_until_it_is_reset_and_then_waits_for_a_start(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk())
    arm.ticks(0.2)
    arm.commander.emergency_stop()
    arm.commander.start()
    assert not arm.commander.go_home()
    arm.commander.set_override((0.0, 0.0, 1.0, 1.0), arm.now_ns)
    arm.commander.set_chunk(arm.chunk())
    assert {command.holding for command in arm.ticks(0.3)} == {"emergency stop"}
    assert arm.at_rest()
    arm.commander.reset_emergency_stop()
    arm.commander.set_chunk(arm.chunk())
    assert "was reset" in arm.tick().holding
    assert arm.at_rest()
    arm.start()


def test_an_obstacle_stops_the_arm_and_after_it_the_measurement_counts_and_only_a_new_chunk(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk((1.0, 0.0, 0.0, -1.0), steps=40))
    arm.ticks(0.3)
    arm.commander.set_obstacle("the robot is in mode REFLEX")
    assert {command.holding for command in arm.ticks(0.15)} == {"the robot is in mode REFLEX"}
    assert arm.at_rest()
    pushed = arm.reading().positions + 0.02
    arm.controller.hold(pushed)
    arm.ticks(0.1)
    arm.commander.set_obstacle("")
    assert arm.tick().holding == "resynchronising"
    assert arm.ticks(0.4)[-1].holding == "no action for now"
    assert arm.controller.sample(arm.now_ns)[0] == pytest.approx(pushed, abs=1e-3)
    arm.commander.set_chunk(arm.chunk())
    assert arm.tick().holding == ""


def test_a_controller_that_kept_its_desired_state_is_led_slowly_to_where_the_arm_was_pushed(arm):
    arm.start()
    arm.commander.stop("over")
    arm.ticks(0.2)
    desired = arm.controller.sample(arm.now_ns)[0]
    arm.commander.start()
    velocities = []
    for _ in range(90):
        arm.commander.set_joints(arm.reading(offset=desired + 0.15 - arm.controller.sample(arm.now_ns)[0]))
        arm.tick(joints=False)
        velocities += [arm.controller.sample(arm.now_ns + (ms - 10) * MS)[1] for ms in range(10)]
    assert arm.controller.sample(arm.now_ns)[0] == pytest.approx(desired + 0.15, abs=1e-3)
    assert np.abs(velocities).max() <= 0.51
    assert np.abs(np.diff(velocities, axis=0)).max() / 0.001 <= limits.ACCELERATION


def test_while_stopped_the_arm_goes_home_when_asked_and_opens_the_hand(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk((1.0, 1.0, -0.5, 1.0)))
    arm.ticks(0.6)
    assert not arm.commander.go_home(), "an episode is running"
    arm.commander.stop("over")
    arm.ticks(0.3)
    home = np.array(arm.embodiment.joints.home)
    assert np.abs(arm.controller.sample(arm.now_ns)[0] - home).max() > 0.1
    assert arm.commander.go_home()
    commands = arm.ticks(4.0)
    assert "going home" in {command.holding for command in commands}
    assert {command.finger for command in commands if command.holding == "going home"} == {0.04}
    assert commands[-1].holding == "over"
    assert arm.controller.sample(arm.now_ns)[0] == pytest.approx(home, abs=0.01)
    assert arm.at_rest()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_action_that_is_not_finite_stops_the_arm(arm, bad):
    arm.start()
    chunk = arm.chunk()
    chunk.actions[3:, 1] = bad
    arm.commander.set_chunk(chunk)
    commands = arm.ticks(0.7)
    assert commands[29].holding == ""
    assert commands[30].holding == "action is not finite"
    assert commands[30].action == pytest.approx(np.zeros(4))
    assert arm.at_rest()


def test_a_stop_is_smooth_and_is_obeyed_until_the_next_start(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk((1.0, 0.0, 0.0, -1.0)))
    arm.ticks(0.3)
    before = arm.speed()
    arm.commander.stop("episode is over")
    arm.commander.set_chunk(arm.chunk())
    first = arm.tick()
    assert first.holding == "episode is over"
    arm.ticks(0.05)
    assert 0.0 < arm.speed() < before
    assert arm.ticks(0.5)[-1].holding == "episode is over"
    assert arm.at_rest()
    arm.start()
    arm.commander.set_chunk(arm.chunk())
    assert arm.tick().holding == ""


def test_an_operator_takes_over_and_gives_back(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk((0.5, 0.0, 0.0, -1.0)))
    arm.commander.set_override((0.0, 0.0, 1.0, 1.0), arm.now_ns)
    command = arm.tick()
    assert (command.source, command.finger) == (Source.HUMAN, 0.0)
    assert command.action == pytest.approx([0.0, 0.0, 1.0, 1.0])
    arm.commander.set_override(None, arm.now_ns)
    assert arm.tick().source is Source.POLICY


def test_an_operator_who_falls_silent_stops_the_arm_rather_than_waking_the_policy(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk(steps=20))
    arm.commander.set_override((0.0, 0.0, 1.0, 1.0), arm.now_ns)
    commands = arm.ticks(0.8)
    assert commands[29].source is Source.HUMAN
    assert commands[-1].holding == "operator's command is stale"
    assert arm.at_rest()


@pytest.mark.parametrize("bad", [(np.nan, 0.0, 0.0, 0.0), (0.0, 0.0)])
def test_a_malformed_command_of_an_operator_stops_the_arm(arm, bad):
    arm.start()
    arm.commander.set_override(bad, arm.now_ns)
    assert arm.tick().holding == "operator's command is malformed"


def test_an_abrupt_reversal_stays_within_the_acceleration_limit(arm):
    arm.start()
    chunk = arm.chunk((1.0, 1.0, 1.0, -1.0))
    chunk.actions[3:, :3] *= -1.0
    arm.commander.set_chunk(chunk)
    velocities = []
    for _ in range(100):
        arm.tick()
        velocities += [arm.controller.sample(arm.now_ns + (ms - 10) * MS)[1] for ms in range(10)]
    accelerations = np.diff(velocities, axis=0) / 0.001
    assert 5.0 < np.abs(accelerations).max() <= limits.ACCELERATION
    assert np.abs(np.diff(accelerations, axis=0)).max() / 0.001 <= limits.JERK


def test_late_actions_are_counted(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk(stamp_ns=arm.now_ns - 250 * MS))
    assert arm.tick().late_actions == 2


def test_after_a_drift_the_command_slowly_goes_to_the_measured_position(arm):
    arm.start()
    arm.ticks(0.2)
    free, speeds, holding = arm.reading().positions, [], []
    for step in range(300):
        pushed = free + np.array([min(0.02 * step, 0.8), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
        arm.commander.set_joints(arm.reading(offset=pushed - arm.controller.sample(arm.now_ns)[0]))
        holding.append(arm.tick(joints=False).holding)
        speeds.append(arm.speed())
    assert "resynchronising" in holding
    assert holding[-1] == "no action for now"
    assert 0.4 < max(speeds) <= 0.52
    assert arm.controller.sample(arm.now_ns)[0] == pytest.approx(pushed, abs=0.01)


def test_an_arm_that_was_put_elsewhere_while_it_moved_is_not_torn_back_and_is_held_until_the_next_start(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk(steps=60))
    arm.ticks(0.3)
    elsewhere = arm.reading().positions + 0.5
    arm.controller.hold(elsewhere)
    for _ in range(100):
        arm.commander.set_chunk(arm.chunk())
        assert arm.tick().holding.startswith("joint states jumped")
    arm.commander.start()
    assert arm.ticks(3.0)[-1].holding == "no action for now"
    assert arm.controller.sample(arm.now_ns)[0] == pytest.approx(elsewhere, abs=1e-6)


def test_joint_states_of_a_second_robot_stop_the_arm_which_follows_its_own_again_later(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk(steps=60))
    arm.ticks(0.3)
    at = arm.controller.sample(arm.now_ns + 150 * MS)[0]
    for _ in range(50):
        own, foreign = arm.reading(stamp_ns=arm.now_ns - 5 * MS), arm.reading(offset=np.array([1.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))
        refused = [arm.commander.set_joints(own), arm.commander.set_joints(foreign)]
        arm.commander.set_chunk(arm.chunk())
        assert "joint 1 move 1.20 rad" in refused[1]
        assert "one robot alone" in refused[1]
        assert arm.tick(joints=False).holding.startswith("joint states jumped")
    assert arm.at_rest()
    assert arm.controller.sample(arm.now_ns)[0] == pytest.approx(at, abs=0.02)
    assert arm.ticks(0.5)[-1].holding == "no action for now"
    arm.commander.set_chunk(arm.chunk())
    assert arm.tick().holding == ""


def test_with_the_joint_states_of_two_robots_an_arm_is_not_led_anywhere_at_the_start(arm):
    arm.commander.start()
    for _ in range(100):
        arm.commander.set_joints(arm.reading(stamp_ns=arm.now_ns - 5 * MS, offset=np.array([1.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])))
        assert arm.tick().trajectory is None


@pytest.mark.parametrize("ends", ["obstacle", "operator"])
def test_a_way_home_that_was_broken_off_does_not_go_on_by_itself(arm, ends):
    arm.start()
    arm.commander.set_chunk(arm.chunk((1.0, 1.0, -0.5, 1.0)))
    arm.ticks(0.6)
    arm.commander.stop("over")
    arm.ticks(0.3)
    assert arm.commander.go_home()
    arm.ticks(0.5)
    assert arm.speed() > 0.05
    if ends == "obstacle":
        arm.commander.set_obstacle("the robot is in mode REFLEX")
        assert not arm.commander.go_home()
        arm.ticks(0.3)
        arm.commander.set_obstacle("")
    else:
        arm.commander.set_override(np.zeros(4), arm.now_ns)
        arm.ticks(0.3)
    where = arm.controller.sample(arm.now_ns)[0]
    assert {command.holding for command in arm.ticks(1.0)} == {"over"}
    assert arm.controller.sample(arm.now_ns)[0] == pytest.approx(where)


def test_while_it_was_stopped_the_arm_may_be_moved_and_start_follows_the_measurement(arm):
    arm.start()
    arm.commander.stop("reset")
    arm.ticks(0.3)
    home = np.array(arm.embodiment.joints.home)
    arm.controller.hold(home + 0.5)
    arm.ticks(0.1)
    arm.commander.start(placed=True)
    assert arm.ticks(0.3)[-1].holding == "no action for now"
    arm.commander.set_chunk(arm.chunk((0.0, 0.0, 0.0, -1.0)))
    arm.tick()
    assert arm.controller.sample(arm.now_ns)[0] == pytest.approx(home + 0.5, abs=0.01)


def test_a_measurement_from_before_a_reset_does_not_count(arm):
    arm.commander.start(not_before_ns=arm.now_ns)
    arm.commander.set_joints(arm.reading(stamp_ns=arm.now_ns - 10 * MS, offset=0.5))
    assert arm.tick(joints=False).holding == "joint state is stale or missing"
    assert arm.tick().holding == "resynchronising"


def test_a_measurement_that_came_before_a_reset_does_not_count_though_its_stamp_is_ahead(arm):
    arm.commander.set_joints(arm.reading(stamp_ns=arm.now_ns + 40 * MS, offset=0.5))
    arm.commander.start(not_before_ns=arm.now_ns)
    assert arm.tick(joints=False).holding == "joint state is stale or missing"
    assert arm.tick().holding == "resynchronising"


@pytest.mark.parametrize(("offset", "shape"), [(np.nan, 7), (np.inf, 7), (100.0, 7), (-100.0, 7), (0.0, 6)])
def test_a_broken_measurement_is_ignored(arm, offset, shape):
    arm.commander.start()
    reading = arm.reading(offset=offset)
    object.__setattr__(reading, "positions", reading.positions[:shape])
    assert "joint state" in arm.commander.set_joints(reading)
    assert arm.tick(joints=False).holding == "joint state is stale or missing"


def test_a_measurement_stamped_in_the_future_does_not_keep_the_true_ones_out(arm):
    arm.commander.start()
    arm.commander.set_joints(arm.reading(stamp_ns=10**18))
    assert arm.tick(joints=False).holding == "joint state is stale or missing"
    assert arm.tick().holding == "resynchronising"


@pytest.mark.parametrize("jump_ns", [-(10**9), 10**10])
def test_after_a_jump_of_the_clock_the_arm_comes_to_rest_and_goes_on_with_new_data(arm, jump_ns):
    arm.start()
    arm.commander.set_chunk(arm.chunk((1.0, 0.0, 0.0, -1.0)))
    arm.ticks(0.3)
    position = arm.controller.final
    arm.now_ns += jump_ns
    arm.controller.hold(position)  # the robot's own clock did not jump: it came to rest
    arm.commander.set_joints(arm.reading())
    assert arm.tick().holding in ("clock jumped", "joint state is stale or missing")
    assert arm.ticks(0.8)[-1].holding == "no action for now"
    arm.commander.set_chunk(arm.chunk())
    assert arm.tick().holding == ""


def test_while_the_clock_stands_still_nothing_is_sent(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk())
    arm.ticks(0.2)
    arm.now_ns -= 10 * MS
    arm.commander.tick(arm.now_ns)
    for _ in range(20):
        command = arm.commander.tick(arm.now_ns)
        assert command.trajectory is None
    assert command.holding == "clock stands still"


def test_a_tick_that_comes_a_little_late_does_not_disturb_the_motion(arm):
    arm.start()
    arm.commander.set_chunk(arm.chunk((1.0, 0.0, 0.0, -1.0)))
    arm.ticks(0.3)
    before = arm.speed()
    arm.now_ns += 15 * MS
    arm.tick()
    assert arm.speed() == pytest.approx(before, rel=0.1)


def test_the_workspace_limit_is_named(arm):
    arm.start()
    for _ in range(3):
        arm.commander.set_chunk(arm.chunk((0.0, 0.0, -1.0, -1.0)))
        commands = arm.ticks(0.5)
    assert "workspace" in commands[-1].limited


@pytest.mark.parametrize("period_s", [0.005, 0.01, 0.02])
def test_at_every_rate_a_chunk_moves_the_tool_alike(arm, period_s, monkeypatch):
    monkeypatch.setattr("test.safety.conftest.PERIOD_NS", round(period_s * 1e9))
    arm.commander = Commander(arm.embodiment, period_s)
    arm.start()
    kinematics, start = Kinematics(arm.embodiment), arm.controller.sample(arm.now_ns)[0]
    arm.commander.set_chunk(arm.chunk((0.5, 0.0, 0.0, -1.0)))
    arm.ticks(1.2)
    moved = kinematics.tcp(arm.controller.sample(arm.now_ns)[0])[0] - kinematics.tcp(start)[0]
    assert moved == pytest.approx([0.12, 0.0, 0.0], abs=0.006)  # 0.8 s at 0.15 m/s


def test_a_keep_out_box_and_the_table_are_not_entered_and_named(arm):
    box = {"name": "bin", "low": [0.5, -0.2, 0.0], "high": [0.9, 0.2, 0.2]}
    arm.commander = Commander(arm.embodiment, bounds=limits.SafetyLimits.from_dict({"keep_out": [box], "table_height": 0.1}))
    arm.start()
    kinematics, limited = Kinematics(arm.embodiment), set()
    for action in [(1.0, 0.0, -1.0, -1.0), (0.0, 1.0, -1.0, -1.0), (-1.0, 0.0, 0.2, -1.0), (0.4, 0.0, -0.2, -1.0), (0.0, 0.0, -1.0, -1.0)]:
        arm.commander.set_chunk(arm.chunk(action))
        for command in arm.ticks(0.8):
            limited |= set(command.limited)
            x, y, z = kinematics.tcp(arm.controller.sample(arm.now_ns)[0])[0]
            assert z > 0.1
            assert not (x > 0.5 and abs(y) < 0.2 and z < 0.2)
    assert {"keep_out", "table"} <= limited


def test_an_arm_that_starts_beyond_a_limit_may_come_back_but_not_go_further(arm):
    box = {"name": "bin", "low": [0.3, -0.2, 0.0], "high": [0.6, 0.2, 0.3]}  # around where the hand is
    arm.commander = Commander(arm.embodiment, bounds=limits.SafetyLimits.from_dict({"table_height": None, "keep_out": [box]}))
    arm.start()
    kinematics = Kinematics(arm.embodiment)
    before = kinematics.tcp(arm.controller.sample(arm.now_ns)[0])[0]
    arm.commander.set_chunk(arm.chunk((0.0, 0.0, -1.0, -1.0)))
    assert "keep_out" in arm.ticks(0.5)[-1].limited
    assert kinematics.tcp(arm.controller.sample(arm.now_ns)[0])[0] == pytest.approx(before, abs=1e-3)
    arm.commander.set_chunk(arm.chunk((0.0, 0.0, 1.0, -1.0)))
    arm.ticks(0.8)
    assert kinematics.tcp(arm.controller.sample(arm.now_ns)[0])[0][2] > before[2] + 0.05


def test_the_hand_opens_no_wider_than_allowed(arm):
    arm.commander = Commander(arm.embodiment, bounds=limits.SafetyLimits.from_dict({"table_height": None, "grip_width": 0.05}))
    arm.start()
    arm.commander.set_chunk(arm.chunk((0.0, 0.0, 0.0, -1.0)))
    command = arm.tick()
    assert command.finger == pytest.approx(0.025)
    assert "grip_width" in command.limited
