"""sim_node: what ros2_control and the camera drivers of a robot would say and obey."""

import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray
from mechanic_rl_ros.msg import TaskState
from mechanic_rl_ros.srv import ResetScene
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds

EMBODIMENT = load_embodiment()
ARM = list(EMBODIMENT.joints.names)
HOME = np.array(EMBODIMENT.joints.home)


class Cell:
    """The simulated robot cell, as the other nodes see it."""

    def __init__(self, ros):
        nodes, self.probe = ros
        self.process = nodes.start("sim_node", real_time_factor=2.0)
        hear = self.probe.hear
        self.clock = hear(Clock, "/clock", qos.SENSOR)
        self.joints = hear(JointState, EMBODIMENT.joints.topic, qos.SENSOR)
        self.tasks = hear(TaskState, "task_state", qos.STATE)
        self.diagnostics = hear(DiagnosticArray, "/diagnostics", 10)
        self.images = {key: hear(Image, spec.raw_topic, qos.SENSOR) for key, spec in EMBODIMENT.cameras.items()}
        self.arm = self.probe.speaker(JointTrajectory, "fr3_arm_controller/joint_trajectory", qos.TRAJECTORY)
        self.hand = self.probe.speaker(Float64MultiArray, "fr3_gripper_controller/commands", qos.TRAJECTORY)
        self.probe.wait_for(lambda: self.tasks and self.joints and all(self.images.values()), "the simulation")

    def reset(self, seed):
        response = self.probe.call(ResetScene, "reset_scene", ResetScene.Request(seed=seed))
        assert response.success, response.message
        self.probe.wait_for(lambda: self.tasks[-1].reset_count == response.reset_count, "the new scene")
        return response

    def position(self):
        return np.array(self.joints[-1].position[:7])

    def pass_time(self, seconds):
        until = nanoseconds(self.joints[-1].header.stamp) + round(seconds * 1e9)
        self.probe.wait_for(lambda: nanoseconds(self.joints[-1].header.stamp) >= until, "simulated time")

    def warnings(self):
        return [status.message for array in self.diagnostics for status in array.status if status.level != status.OK]


@pytest.fixture(scope="module")
def cell(shared_ros):
    return Cell(shared_ros)


def trajectory(positions, seconds=0.5, names=ARM):
    point = JointTrajectoryPoint(positions=[float(p) for p in positions], velocities=[0.0] * len(positions))
    point.time_from_start = Duration(sec=int(seconds), nanosec=round((seconds % 1) * 1e9))
    return JointTrajectory(joint_names=list(names), points=[point])


def test_it_publishes_what_the_drivers_of_a_robot_publish(cell):
    state = cell.joints[-1]
    assert list(state.name) == [*ARM, EMBODIMENT.joints.finger]
    assert len(state.position) == len(state.velocity) == len(state.effort) == 8
    assert np.abs(cell.position() - HOME).max() < 0.02
    for key, spec in EMBODIMENT.cameras.items():
        image = cell.images[key][-1]
        assert (image.height, image.width, image.encoding, image.step, image.header.frame_id) == (64, 64, "rgb8", 192, spec.frame)
        assert np.frombuffer(image.data, np.uint8).std() > 5, "the image shows something"


def test_cameras_joint_states_and_task_share_one_grid_of_stamps(cell):
    cell.pass_time(1.0)
    for key in EMBODIMENT.cameras:
        stamps = {nanoseconds(image.header.stamp) for image in cell.images[key]}
        assert all(stamp % EMBODIMENT.period_ns == 0 for stamp in stamps)
    assert all(nanoseconds(state.header.stamp) % 20_000_000 == 0 for state in cell.joints)
    assert all(nanoseconds(task.header.stamp) % EMBODIMENT.period_ns == 0 for task in cell.tasks)


def test_it_follows_a_trajectory_whatever_the_order_of_the_joints(cell):
    goal = HOME + 0.1
    order = [3, 1, 0, 2, 6, 5, 4]
    cell.arm.publish(trajectory(goal[order], names=[ARM[index] for index in order]))
    cell.probe.wait_for(lambda: np.abs(cell.position() - goal).max() < 0.02, "the goal")
    assert np.abs(cell.joints[-1].velocity[:7]).max() < 1.0


def test_a_point_without_velocities_is_a_point_too(cell):
    message = trajectory(HOME)
    message.points[0].velocities = []
    cell.arm.publish(message)
    cell.probe.wait_for(lambda: np.abs(cell.position() - HOME).max() < 0.02, "home")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (trajectory(HOME[:6], names=ARM[:6]), "it must name fr3_joint1"),
        (trajectory(HOME, names=[*ARM[:6], "elbow"]), "it must name fr3_joint1"),
        (trajectory([*HOME, 0.0]), "7 positions"),
        (JointTrajectory(joint_names=ARM), "7 positions"),
        (trajectory([np.nan] * 7), "not finite"),
        (trajectory(HOME + 0.3, seconds=0.0), "do not rise"),
    ],
    ids=["too few joints", "a foreign joint", "too many positions", "no points", "not a number", "no time"],
)
def test_a_malformed_trajectory_is_refused_with_a_warning_and_the_simulation_goes_on(cell, message, words):
    before = cell.position()
    cell.arm.publish(message)
    cell.probe.wait_for(lambda: any(words in warning for warning in cell.warnings()), "a warning")
    cell.pass_time(0.2)
    assert np.abs(cell.position() - before).max() < 0.02
    cell.diagnostics.clear()


def test_the_hand_closes_and_refuses_what_is_no_position(cell):
    cell.hand.publish(Float64MultiArray(data=[0.01]))
    cell.probe.wait_for(lambda: abs(cell.joints[-1].position[7] - 0.01) < 0.005, "the fingers")
    for data in ([], [0.01, 0.02], [float("inf")]):
        cell.diagnostics.clear()
        cell.hand.publish(Float64MultiArray(data=data))
        cell.probe.wait_for(lambda: any("gripper command refused" in warning for warning in cell.warnings()), "a warning")


def test_the_same_seed_gives_the_same_scene_and_another_one_another(cell):
    places, pictures = [], []
    for seed in (7, 8, 7):
        response = cell.reset(seed)
        task = cell.tasks[-1]
        assert task.seed == seed
        place = task.object.position
        places.append([round(place.x, 3), round(place.y, 3)])
        later = nanoseconds(response.stamp)
        cell.probe.wait_for(lambda later=later: nanoseconds(cell.images["front"][-1].header.stamp) > later, "a picture of the new scene")
        pictures.append(np.frombuffer(cell.images["front"][-1].data, np.uint8).astype(int))
    assert places[0] == places[2] != places[1]
    assert np.abs(pictures[0] - pictures[2]).max() <= 8, "the arm settles by fractions of a millimetre"
    assert np.abs(pictures[0] - pictures[1]).max() > 30


def test_a_reset_puts_arm_and_hand_back(cell):
    cell.arm.publish(trajectory(HOME + 0.2))
    cell.hand.publish(Float64MultiArray(data=[0.0]))
    cell.probe.wait_for(lambda: np.abs(cell.position() - HOME).max() > 0.1, "motion")
    response = cell.reset(3)
    cell.probe.wait_for(lambda: nanoseconds(cell.joints[-1].header.stamp) > nanoseconds(response.stamp), "a joint state")
    cell.pass_time(0.5)
    assert np.abs(cell.position() - HOME).max() < 0.02, "also the old trajectory is forgotten"
    assert cell.joints[-1].position[7] > 0.035


def test_time_never_goes_back_not_even_across_resets(cell):
    for seed in (1, 2):
        cell.reset(seed)
        cell.pass_time(0.3)
    for stamps in ([nanoseconds(message.clock) for message in cell.clock], [nanoseconds(state.header.stamp) for state in cell.joints]):
        assert (np.diff(stamps) >= 0).all()


def test_the_real_time_factor_is_kept_and_told(cell):
    def told():
        values = {value.key: value.value for status in cell.diagnostics[-1].status for value in status.values} if cell.diagnostics else {}
        return float(values.get("real_time_factor", 0.0))

    cell.diagnostics.clear()
    cell.probe.wait_for(lambda: told() > 0.0, "a measurement")
    assert 0.2 < told() < 2.5, "twice real time was asked for; a busy machine may give less, but never much more"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"real_time_factor": 50.0}, ["real_time_factor", "50.0", "between 0.05 and 20.0"]),
        ({"camera_size": 8}, ["camera_size", "8", "between 16 and 1024"]),
        ({"task": "juggle"}, ["juggle", "lift", "push", "reach"]),
        ({"renderer": "crayons"}, ["crayons", "rays", "mujoco"]),
        ({"embodiment": "octopus"}, ["octopus"]),
    ],
    ids=["too fast", "too small", "unknown task", "unknown renderer", "unknown embodiment"],
)
def test_a_parameter_that_cannot_be_ends_it_with_one_line(ros, parameters, words):
    line = ros[0].refusal("sim_node", **parameters)
    for word in words:
        assert word in line


def test_a_renderer_without_its_graphics_library_ends_it_with_one_line(ros):
    ros[0].environment["MUJOCO_GL"] = "disable"
    assert "use renderer=rays" in ros[0].refusal("sim_node", renderer="mujoco")
