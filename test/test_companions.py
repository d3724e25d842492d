"""What a launch needs of other packages, found without them."""

import xml.dom.minidom
from pathlib import Path

import pytest
import yaml

from mechanic_rl_ros.companions import CONTROLLERS, Companion, companions, require_installed
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph_settings import GraphSettings
from mechanic_rl_ros.paths import config_directory

FOLDER = Path("/nowhere")


def needed(**settings: object) -> dict[str, Companion]:
    return {f"{item.package}/{item.name or item.program}": item for item in companions(GraphSettings(**settings), FOLDER)}


def test_neither_the_embedded_simulation_nor_a_robot_that_runs_already_needs_anything() -> None:
    assert needed() == {}
    assert needed(simulation="none") == {}


def test_a_robot_with_an_address_gets_its_driver_its_controller_and_one_driver_for_each_camera() -> None:
    found = needed(simulation="none", robot_ip="172.16.0.2", cameras="realsense2", namespace="left")
    driver = found.pop("franka_bringup/franka.launch.py")
    assert (driver.parameters["robot_ip"], driver.parameters["namespace"]) == ("172.16.0.2", "left")
    assert driver.parameters["controllers_yaml"].endswith("config/controllers/fr3_robot.yaml")
    assert found.pop("controller_manager/controller_spawner").arguments[0] == "fr3_arm_controller"
    assert set(found) == {"realsense2_camera/camera_front_driver", "realsense2_camera/camera_wrist_driver"}
    front = found["realsense2_camera/camera_front_driver"]
    assert front.parameters["serial_no"] == "_000000000001"
    assert front.remappings == {"~/color/image_raw": load_embodiment().cameras["front"].raw_topic}


def test_a_launch_that_joins_another_one_starts_no_drivers() -> None:
    assert needed(simulation="none", robot_ip="172.16.0.2", cameras="v4l2", bringup=False) == {}
    assert needed(simulation="gazebo", bringup=False) == {}


def test_gazebo_gets_the_world_of_the_task_the_robot_its_controllers_and_bridges_for_clock_and_images() -> None:
    found = needed(simulation="gazebo", task="push")
    gazebo = found["ros_gz_sim/gz_sim.launch.py"]
    (world,) = gazebo.files
    assert str(world) in gazebo.parameters["gz_args"]
    assert found["controller_manager/controller_spawner"].arguments[:3] == CONTROLLERS
    bridges = [bridge.split("@")[0] for bridge in found["ros_gz_bridge/parameter_bridge"].arguments]
    assert bridges == ["/clock", *(f"/{camera.raw_topic}" for camera in load_embodiment().cameras.values()), "/model/puck/pose"]
    assert found["ros_gz_bridge/parameter_bridge"].remappings["/model/puck/pose"] == "object_pose"


def test_the_spawned_controllers_are_those_of_the_controllers_file() -> None:
    configured = yaml.safe_load((config_directory() / "controllers" / "fr3_gazebo.yaml").read_text())["/**/controller_manager"]["ros__parameters"]
    assert {name for name, value in configured.items() if isinstance(value, dict)} == set(CONTROLLERS)


@pytest.mark.parametrize("task", ["lift", "push", "reach"])
def test_what_gazebo_reads_is_made_for_it(task: str) -> None:
    pytest.importorskip("xacro")
    for item in companions(GraphSettings(simulation="gazebo", task=task), FOLDER):
        for source in (*item.files.values(), *(value for value in item.parameters.values() if callable(value))):
            assert xml.dom.minidom.parseString(source()).documentElement.tagName in ("robot", "sdf")


@pytest.mark.parametrize("joystick", ["gamepad", "spacemouse"])
def test_the_driver_of_a_joystick_uses_the_graph_s_clock(joystick: str) -> None:
    for simulation in ("mujoco", "none"):
        (driver,) = companions(GraphSettings(simulation=simulation, joystick=joystick), FOLDER)
        assert driver.parameters["use_sim_time"] == (simulation == "mujoco")
        assert not driver.essential


@pytest.mark.parametrize("text", ["[", "package: p", "3", "{package: p, executable: e, image: i, parameters: {}, cameras: {front: {}}}"])
def test_a_file_that_describes_no_camera_driver_is_a_user_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=r"mine\.yaml"):
        needed(simulation="none", cameras=str(tmp_path / "mine.yaml"))


def test_an_unknown_camera_driver_is_a_user_error() -> None:
    with pytest.raises(UserError, match="cannot read camera driver"):
        needed(simulation="none", cameras="webcam")


def test_a_package_that_is_not_installed_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ament_index_python")
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    require_installed([Companion("mechanic_rl_ros", "sim_node")])
    with pytest.raises(UserError, match=r"package no_such_thing is not installed: `sudo apt install ros-jazzy-no-such-thing` or leave it"):
        require_installed([Companion("mechanic_rl_ros", "sim_node"), Companion("no_such_thing", "x", otherwise="or leave it")])
