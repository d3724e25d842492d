"""The expanded files of the robot, and the two models made of them."""

import shutil
import subprocess
from xml.etree import ElementTree

import mujoco
import pytest

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.paths import description_directory
from mechanic_rl_ros.xacro_files import robot_description

KEEP_ALL = '<mujoco><compiler fusestatic="false" discardvisual="false"/></mujoco></robot>'  # else MuJoCo merges links and drops what is only seen


@pytest.fixture(scope="session")
def embodiment():
    return load_embodiment()


@pytest.fixture(scope="session")
def urdf():
    """For robot_state_publisher."""
    return ElementTree.fromstring(robot_description())


@pytest.fixture(scope="session")
def gazebo_urdf():
    return ElementTree.fromstring(robot_description("gazebo"))


@pytest.fixture(scope="session")
def urdf_model():
    """The expanded URDF as MuJoCo understands it."""
    return mujoco.MjModel.from_xml_string(robot_description().replace("</robot>", KEEP_ALL))


@pytest.fixture(scope="session")
def mjcf_model():
    """The MJCF of the robot with the front camera."""
    return mujoco.MjModel.from_xml_path(str(description_directory() / "scene.xml"))


@pytest.fixture(scope="session")
def sdf_tool():
    """Runs `ign sdf` (Debian) or `gz sdf` (Gazebo's own packages): the completed process with its text."""
    tool = shutil.which("ign") or shutil.which("gz")
    if tool is None:
        pytest.skip("neither ign nor gz is installed: apt-get install ignition-tools libsdformat-dev sdformat-sdf")

    def run(*arguments):
        return subprocess.run([tool, "sdf", *map(str, arguments)], capture_output=True, text=True, timeout=60)

    if "sdf" not in subprocess.run([tool, "--commands"], capture_output=True, text=True, timeout=60).stdout:
        pytest.skip(f"{tool} has no command sdf: apt-get install libsdformat-dev sdformat-sdf")
    return run
