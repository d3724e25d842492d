"""The URDF is well formed, and its joints are those of limits, MJCF, controllers and embodiment."""

import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
import yaml

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import config_directory, description_directory
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.sim.simulation import FINGER_OPEN, FINGER_SPEED
from mechanic_rl_ros.xacro_files import robot_description

SIMULATIONS = ("none", "gazebo")
FINGERS = ("fr3_finger_joint1", "fr3_finger_joint2")


def limit(root, joint):
    """Lower, upper, velocity and effort."""
    entry = root.find(f"joint[@name='{joint}']/limit")
    return [float(entry.get(name)) for name in ("lower", "upper", "velocity", "effort")]


def interfaces(root, joint, kind):
    return [entry.get("name") for entry in root.findall(f"ros2_control/joint[@name='{joint}']/{kind}_interface")]


@pytest.mark.parametrize("simulation", SIMULATIONS)
def test_the_urdf_is_accepted_by_check_urdf(simulation, tmp_path):
    if shutil.which("check_urdf") is None:
        pytest.skip("check_urdf is not installed: apt-get install liburdfdom-tools")
    path = tmp_path / "fr3.urdf"
    path.write_text(robot_description(simulation))
    result = subprocess.run(["check_urdf", path], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Error" not in result.stdout + result.stderr


@pytest.mark.parametrize("simulation", SIMULATIONS)
def test_it_expands_without_ros_without_network_and_from_any_folder(simulation, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no network here")

    expected = robot_description(simulation)
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    monkeypatch.setitem(sys.modules, "ament_index_python", None)
    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.chdir(tmp_path)
    assert robot_description(simulation) == expected


def test_every_name_of_the_robot_takes_the_prefix():
    xacro = pytest.importorskip("xacro")
    path = description_directory() / "urdf" / "fr3.urdf.xacro"
    text = xacro.process_file(str(path), mappings={"simulation": "gazebo", "prefix": "left"}).toxml()
    assert not re.findall(r'"fr3_\w+"', text)
    assert text.replace("left_", "fr3_").count('"fr3_') == len(re.findall(r'"fr3_\w+"', robot_description("gazebo")))


@pytest.mark.parametrize("simulation", SIMULATIONS)
def test_the_text_can_be_given_to_a_node_as_it_is(simulation):
    """ROS reads a parameter as YAML: a colon and a blank in a comment would make a mapping of it."""
    text = robot_description(simulation)
    assert yaml.safe_load(text).split() == text.split()


def test_an_unknown_simulation_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="simulation:=moveit is unknown: use none or gazebo"):
        robot_description("moveit")


def test_without_xacro_the_way_to_get_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "xacro", None)
    with pytest.raises(UserError, match="pip install xacro"):
        robot_description()


def test_only_in_gazebo_there_are_plugins_sensors_and_a_fixed_base(urdf, gazebo_urdf):
    assert urdf.find("ros2_control") is None
    assert urdf.find(".//plugin") is None
    assert urdf.find(".//sensor") is None
    assert urdf.find("link[@name='world']") is None
    assert gazebo_urdf.find("joint[@name='world_joint']/parent").get("link") == "world"
    assert gazebo_urdf.find("joint[@name='world_joint']/child").get("link") == "fr3_link0"


def test_joint_limits_are_those_that_the_commands_keep(urdf, embodiment):
    lower, upper, velocity, effort = np.array([limit(urdf, name) for name in embodiment.joints.names]).T
    assert lower.tolist() == limits.POSITION_LOWER.tolist()
    assert upper.tolist() == limits.POSITION_UPPER.tolist()
    assert velocity.tolist() == limits.VELOCITY.tolist()
    assert effort.tolist() == limits.TORQUE.tolist()


def test_joint_limits_are_those_of_the_mjcf(urdf, mjcf_model, embodiment):
    forces = {name: mjcf_model.jnt_actfrcrange[mjcf_model.joint(name).id] for name in embodiment.joints.names}
    forces |= {name: mjcf_model.actuator(actuator).forcerange for name, actuator in zip(FINGERS, ("left_finger", "right_finger"), strict=True)}
    for name, force in forces.items():
        joint = mjcf_model.joint(name)
        lower, upper, _, effort = limit(urdf, name)
        assert joint.range == pytest.approx([lower, upper])
        assert force == pytest.approx([-effort, effort])
        assert joint.damping == pytest.approx(float(urdf.find(f"joint[@name='{name}']/dynamics").get("damping")))


def test_the_fingers_open_as_far_and_move_as_fast_as_in_the_simulation(urdf):
    for name in FINGERS:
        assert limit(urdf, name)[:3] == [0.0, FINGER_OPEN, FINGER_SPEED]
    assert urdf.find("joint[@name='fr3_finger_joint2']/mimic").get("joint") == "fr3_finger_joint1"


def test_every_joint_starts_at_home_with_an_open_hand(gazebo_urdf, embodiment):
    initial = {
        joint.get("name"): float(joint.find("state_interface[@name='position']/param[@name='initial_value']").text)
        for joint in gazebo_urdf.findall("ros2_control/joint")
    }
    assert initial == {**dict(zip(embodiment.joints.names, embodiment.joints.home, strict=True)), **dict.fromkeys(FINGERS, FINGER_OPEN)}


def test_ros2_control_offers_what_the_controllers_claim(gazebo_urdf, embodiment):
    controllers = yaml.safe_load((config_directory() / "controllers" / "fr3_gazebo.yaml").read_text())
    arm = controllers["/**/fr3_arm_controller"]["ros__parameters"]
    assert arm["joints"] == list(embodiment.joints.names)
    for name in arm["joints"]:
        assert set(arm["command_interfaces"]) <= set(interfaces(gazebo_urdf, name, "command"))
        assert set(arm["state_interfaces"]) <= set(interfaces(gazebo_urdf, name, "state"))
    hand = controllers["/**/fr3_gripper_controller"]["ros__parameters"]
    assert hand["joints"] == [embodiment.joints.finger]
    assert hand["interface_name"] in interfaces(gazebo_urdf, embodiment.joints.finger, "command")


def test_the_finger_that_follows_takes_no_commands(gazebo_urdf):
    """ros2_control refuses a mimic joint with a command interface."""
    assert interfaces(gazebo_urdf, "fr3_finger_joint2", "command") == []
    assert "position" in interfaces(gazebo_urdf, "fr3_finger_joint2", "state")


def test_the_controller_manager_reads_the_installed_file_in_the_namespace_of_the_graph():
    text = robot_description("gazebo", namespace="/left/")
    assert f"<parameters>{config_directory() / 'controllers' / 'fr3_gazebo.yaml'}</parameters>" in text
    assert "<namespace>/left</namespace>" in text
    assert "<namespace>/</namespace>" in robot_description("gazebo")


def test_cameras_and_home_follow_another_embodiment(tmp_path):
    path = tmp_path / "cell.yaml"
    text = (config_directory() / "embodiment" / "fr3.yaml").read_text()
    path.write_text(text.replace("camera/wrist/image_raw", "camera/hand/image_raw").replace("wrist_optical", "hand_optical").replace("-2.433005", "-2.4"))
    description = robot_description("gazebo", embodiment=path)
    assert "<topic>camera/hand/image_raw</topic>" in description
    assert '<link name="camera_hand_optical_frame"/>' in description
    assert '<param name="initial_value">-2.4</param>' in description


def test_an_embodiment_that_is_not_there_is_told_in_one_line():
    with pytest.raises(UserError, match=r"cannot read embodiment .*/ur5\.yaml"):
        robot_description(embodiment="ur5")
