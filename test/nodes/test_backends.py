"""Every backend against mocks of its robot, which run as processes."""

import sys

import numpy as np
import pytest
from control_msgs.action import GripperCommand
from controller_manager_msgs.srv import SwitchController
from diagnostic_msgs.msg import DiagnosticArray
from franka_msgs.msg import FrankaRobotState
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionServer
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.backends import BACKENDS, make_backend
from mechanic_rl_ros.nodes.backends.action_gripper import SEND_S
from mechanic_rl_ros.nodes.backends.crisp import TARGET_S
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.sim.trajectory import Trajectory

EMBODIMENT = load_embodiment()
HOME = np.array(EMBODIMENT.joints.home)
QUICK = {"recovery_pause": 0.1, "robot_patience": 5.0, "gripper_patience": 3.0}


def towards(positions):
    return Trajectory(np.array([0.2, 0.4]), np.stack([positions, positions]), np.zeros((2, 7)))


class Bench:
    """A backend on the probe's node, with the parameters of the test."""

    def __init__(self, ros, name, **parameters):
        self.nodes, self.probe = ros
        self.probe.node.parameter = lambda key, default, description, **bounds: parameters.get(key, default)
        self.diagnostics = self.probe.hear(DiagnosticArray, "/diagnostics", 10)
        self.backend = make_backend(name, self.probe.node, EMBODIMENT)

    def await_obstacle(self, words):
        self.probe.wait_for(lambda: words in self.backend.obstacle(), f"obstacle {words!r}, last: {self.backend.obstacle()!r}")

    def await_freedom(self):
        self.probe.wait_for(lambda: not self.backend.obstacle(), "no obstacle")

    def provoke(self, name, on):
        self.probe.call(SetBool, f"mock_franka/{name}", SetBool.Request(data=on))

    def reflex(self):
        self.probe.call(Trigger, "mock_franka/reflex", Trigger.Request())

    def mock_says(self, key):
        statuses = (status for array in reversed(self.diagnostics) for status in array.status if status.name == "mock_franka")
        return next((value.value for status in statuses for value in status.values if value.key == key), "")


@pytest.fixture
def franka(ros):
    """The backend, with its robot ready to be moved."""
    ros[0].start("mock_franka")
    bench = Bench(ros, "franka", **QUICK)
    bench.await_freedom()
    return bench


def test_mujoco_speaks_as_the_simulation_listens(ros):
    bench = Bench(ros, "mujoco")
    arm = bench.probe.hear(JointTrajectory, "fr3_arm_controller/joint_trajectory", qos.TRAJECTORY)
    hand = bench.probe.hear(Float64MultiArray, "fr3_gripper_controller/commands", qos.TRAJECTORY)
    assert bench.backend.obstacle() == ""

    def speak():
        bench.backend.move(towards(HOME))
        bench.backend.grip(0.03)

    bench.probe.every(0.05, speak)
    bench.probe.wait_for(lambda: arm and hand, "both commands")
    assert tuple(arm[-1].joint_names) == EMBODIMENT.joints.names
    assert hand[-1].data[0] == pytest.approx(0.03)


@pytest.mark.parametrize("stops", ["fr3_gripper_controller", "joint_state_broadcaster"])
def test_gazebo_waits_for_its_controllers_and_names_the_one_that_stops(ros, stops):
    bench = Bench(ros, "gazebo")
    bench.await_obstacle("controller_manager is not there: start ros2_control")
    ros[0].start("mock_controllers")
    bench.await_freedom()
    request = SwitchController.Request(deactivate_controllers=[stops], strictness=1)
    assert bench.probe.call(SwitchController, "controller_manager/switch_controller", request).ok
    bench.await_obstacle(f"controller {stops} is inactive: start it with")


def test_gazebo_without_an_arm_controller_says_how_to_load_it(ros):
    ros[0].start("mock_controllers", controllers=["fr3_gripper_controller"])
    Bench(ros, "gazebo").await_obstacle("controller fr3_arm_controller is not loaded: start it with")


def test_gazebo_drives_a_gripper_that_is_an_action(ros):
    ros[0].start("mock_controllers")
    bench = Bench(ros, "gazebo", gripper_action="fr3_gripper_controller/gripper_cmd")
    bench.await_obstacle("gripper fr3_gripper_controller/gripper_cmd is not there: start its driver")
    heard = []

    def execute(handle):
        heard.append((handle.request.command.position, handle.request.command.max_effort))
        handle.succeed()
        return GripperCommand.Result(stalled=True)

    server = ActionServer(bench.probe.node, GripperCommand, "fr3_gripper_controller/gripper_cmd", execute)
    bench.await_freedom()
    bench.backend.grip(0.01)
    bench.probe.wait_for(lambda: heard == [(pytest.approx(0.01), 20.0)], "the goal, a position per finger")
    server.destroy()


def test_a_gripper_that_comes_back_is_told_nothing_old(ros):
    ros[0].start("mock_controllers")
    bench = Bench(ros, "gazebo", gripper_action="hand")
    heard = []

    def execute(handle):
        heard.append(handle.request.command.position)
        handle.abort()
        return GripperCommand.Result()

    def serve():
        return ActionServer(bench.probe.node, GripperCommand, "hand", execute)

    server = serve()
    bench.await_freedom()
    bench.backend.grip(0.01)
    bench.probe.wait_for(lambda: heard, "a goal that fails")
    server.destroy()
    bench.await_obstacle("gripper hand is not there")
    server, told = serve(), len(heard)
    bench.await_freedom()
    beats = []
    bench.probe.every(SEND_S, lambda: beats.append(0))
    bench.probe.wait_for(lambda: len(beats) > 20, "twenty looks whether there is a goal to send")
    assert len(heard) == told
    bench.backend.grip(0.02)
    bench.probe.wait_for(lambda: heard[told:] == [pytest.approx(0.02)], "a new wish")
    server.destroy()


def test_franka_sets_load_and_thresholds_and_homes_the_hand_before_it_may_be_moved(ros):
    ros[0].start("mock_franka")
    bench = Bench(ros, "franka", gripper_homing=True, **QUICK)
    bench.await_freedom()
    bench.probe.wait_for(lambda: bench.mock_says("settings") == "load collision", "the settings")
    assert bench.mock_says("goals") == "homing"


def test_a_robot_that_refuses_its_settings_is_held_and_named(ros):
    ros[0].start("mock_franka", takes_settings=False)
    bench = Bench(ros, "franka", **QUICK)
    bench.await_obstacle("load and collision thresholds are not set (calling set_load: the robot is in mode IDLE): mend that")
    start = SwitchController.Request(activate_controllers=["fr3_arm_controller"], strictness=SwitchController.Request.BEST_EFFORT)

    def held_although_it_could_move():
        bench.probe.call(SwitchController, "controller_manager/switch_controller", start)
        return bench.backend.health()["robot_mode"] == "MOVE" and "thresholds are not set" in bench.backend.obstacle()

    bench.probe.wait_for(held_although_it_could_move, "an obstacle although a person has started the controller")


def test_a_robot_whose_services_are_found_late_is_set_up_without_a_person(ros):
    bench = Bench(ros, "franka", **QUICK)
    state = FrankaRobotState(robot_mode=FrankaRobotState.ROBOT_MODE_IDLE)
    state.measured_joint_state.velocity = [0.0] * 7
    states = bench.probe.speaker(FrankaRobotState, "franka_robot_state_broadcaster/robot_state", qos.SENSOR)
    beats = []

    def say_idle():
        if len(beats) < 60:  # of 0.05 s: tries beyond counting, if each of them were one
            beats.append(0)
            state.time = 0.05 * len(beats)
            states.publish(state)

    bench.probe.every(0.05, say_idle)
    bench.await_obstacle("thresholds are not set yet: service controller_manager/switch_controller is not there")
    bench.probe.wait_for(lambda: len(beats) == 60, "states of a robot that nobody can set up yet")
    ros[0].start("mock_franka")
    bench.await_freedom()


def test_franka_moves_arm_and_hand(franka):
    joints = franka.probe.hear(JointState, "joint_states", qos.SENSOR)
    franka.probe.every(0.1, lambda: franka.backend.move(towards(HOME + 0.1)))
    franka.backend.grip(0.0)
    franka.probe.wait_for(lambda: joints and np.allclose(joints[-1].position[:7], HOME + 0.1, atol=1e-3), "motion of the arm")
    franka.probe.wait_for(lambda: joints[-1].position[7] < 0.001, "a closed hand")
    franka.backend.grip(0.04)
    franka.probe.wait_for(lambda: joints[-1].position[7] > 0.039, "an open hand")
    assert franka.backend.health()["gripper_goals"] == 2


def test_franka_gives_the_hand_one_goal_at_a_time_and_the_last_wish_wins(franka):
    wishes = iter([0.0, 0.04] * 40 + [0.0])
    franka.probe.every(0.02, lambda: franka.backend.grip(next(wishes, 0.0)))
    franka.probe.wait_for(lambda: next(wishes, None) is None, "all wishes")
    franka.probe.wait_for(lambda: franka.mock_says("goals").endswith("grasp"), "the last goal")
    assert franka.mock_says("most_goals_at_once") == "1"
    assert len(franka.mock_says("goals").split()) < 20, "most of 81 wishes were out of date when the hand was free"


def test_a_gripper_that_never_answers_is_named_and_forgotten_once_it_does(franka):
    franka.provoke("gripper_answers", False)
    franka.backend.grip(0.0)
    franka.await_obstacle("gripper franka_gripper has not answered for 3 s")
    franka.provoke("gripper_answers", True)
    franka.await_freedom()


def test_a_gripper_that_refuses_is_named(franka):
    franka.provoke("gripper_accepts", False)
    franka.backend.grip(0.0)
    franka.await_obstacle("gripper franka_gripper has failed 3 times (the goal was refused)")


@pytest.mark.parametrize("shuts_down", [False, True], ids=["hardware stays", "hardware shuts down"])
def test_a_reflex_is_read_recovered_from_and_gone(ros, shuts_down):
    # Where the hardware shuts down, nobody hears of a reflex: a person has to look, and asks for the recovery.
    ros[0].start("mock_franka", shuts_down=shuts_down)
    bench = Bench(ros, "franka", **QUICK)
    bench.await_freedom()
    bench.provoke("recovery_works", False)
    bench.reflex()
    bench.await_obstacle("has stopped: after an error" if shuts_down else "the robot is in mode REFLEX")
    bench.provoke("recovery_works", True)
    if shuts_down:
        assert bench.probe.call(Trigger, "recover", Trigger.Request()).success
    bench.await_freedom()
    assert bench.backend.health()["robot_mode"] == "MOVE"


def test_a_reflex_that_does_not_go_away_is_tried_a_few_times_and_then_a_person_is_asked(franka):
    franka.provoke("recovery_works", False)
    franka.reflex()
    franka.await_obstacle("tried 3 times (clearing the error: aborted): look at the arm, then call the service recover")
    franka.provoke("recovery_works", True)
    franka.probe.call(Trigger, "recover", Trigger.Request())
    franka.await_freedom()


def test_a_pressed_stop_button_is_named_and_nothing_recovers_by_itself(franka):
    franka.provoke("user_stop", True)
    franka.await_obstacle("the robot is in mode USER_STOPPED: release the stop button")
    assert franka.backend.health()["recoveries"] == 0


def test_a_robot_whose_joints_nobody_reads_any_more_is_held(franka):
    request = SwitchController.Request(deactivate_controllers=["joint_state_broadcaster"], strictness=1)
    assert franka.probe.call(SwitchController, "controller_manager/switch_controller", request).ok
    franka.await_obstacle("controller joint_state_broadcaster is inactive: start it with")


def test_crisp_leads_the_hand_along_the_trajectory(ros):
    ros[0].start("mock_franka", arm_controller="cartesian_impedance_controller")
    bench = Bench(ros, "crisp", **QUICK)
    bench.await_obstacle("nobody listens on target_pose")
    poses = bench.probe.hear(PoseStamped, "target_pose", qos.TRAJECTORY)
    bench.await_freedom()
    begin, end = (Kinematics(EMBODIMENT).tcp(positions)[0] for positions in (HOME, HOME + 0.2))
    bench.backend.move(towards(HOME))
    bench.backend.move(Trajectory(np.array([1.0]), (HOME + 0.2)[None], np.zeros((1, 7))))

    def places():
        return np.array([[pose.pose.position.x, pose.pose.position.y, pose.pose.position.z] for pose in poses]).reshape(-1, 3)

    bench.probe.wait_for(lambda: len(poses) and np.allclose(places()[-1], end, rtol=0.0, atol=1e-13), "the end of the trajectory")
    ways = np.linalg.norm(places() - begin, axis=1) / np.linalg.norm(end - begin)
    assert ways[0] < 0.2, "it begins where the arm is"
    assert (np.diff(ways) > -1e-9).all()
    assert poses[-1].header.frame_id == "fr3_link0"
    bench.probe.node.create_publisher(PoseStamped, "target_pose", qos.TRAJECTORY)
    bench.await_obstacle("2 nodes publish target_pose")
    poses.clear()
    beats = []
    bench.probe.every(TARGET_S, lambda: beats.append(0))
    bench.probe.wait_for(lambda: len(beats) > 10, "ten periods of the target")
    assert not poses, "an arm at rest is left alone"
    bench.backend.close()


@pytest.mark.parametrize(("backend", "package"), [("gazebo", "controller_manager_msgs"), ("franka", "franka_msgs"), ("crisp", "franka_msgs")])
def test_a_package_that_is_not_installed_is_named(ros, monkeypatch, backend, package):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"^backend {backend} needs the package {package}: install ros-.*{package.replace('_', '-')}"):
        Bench(ros, backend)


def test_what_cannot_be_chosen_is_refused(ros):
    with pytest.raises(UserError, match="unknown backend 'octopus': use one of " + ", ".join(BACKENDS)):
        Bench(ros, "octopus")
    with pytest.raises(UserError, match="gripper of probe is 'teeth': use franka or forward"):
        Bench(ros, "crisp", gripper="teeth")
    with pytest.raises(UserError, match=r"collision_torques of probe is .*: give 7 finite numbers from 0 on"):
        Bench(ros, "franka", collision_torques=[1.0, float("nan")])
