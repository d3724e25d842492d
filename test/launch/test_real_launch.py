"""Launch files as a person starts them, with real nodes. These tests run where ROS 2's `launch` is installed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mechanic_rl_ros.ros_domain import claimed_domain

pytest.importorskip("launch.launch_context")
pytest.importorskip("launch_ros.actions")

BOUND_S = 120.0
LAUNCH = Path(__file__).parents[2] / "launch"
PROGRAM = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
path, *arguments = sys.argv[1:]
service = LaunchService(noninteractive=True)
pairs = [tuple(argument.split(":=")) for argument in arguments]
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(PythonLaunchDescriptionSource(path), launch_arguments=pairs)]))
sys.exit(service.run())
"""


class Launches:
    """`ros2 launch`, several times in one domain."""

    def __init__(self, folder: Path, domain: int) -> None:
        self.folder = folder
        self.environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_LOG_DIR": str(folder)}
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, **arguments: object) -> subprocess.Popen[bytes]:
        words = [f"{key}:={str(value).lower() if isinstance(value, bool) else value}" for key, value in arguments.items()]
        with open(self.log(name), "wb") as output:
            command = [sys.executable, "-c", PROGRAM, str(LAUNCH / f"{name}.launch.py"), *words]
            self.started.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=self.environment))
        return self.started[-1]

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def wait_for(self, name: str, text: str) -> None:
        deadline = time.monotonic() + BOUND_S
        while text not in self.log(name).read_text():
            assert time.monotonic() < deadline, self.log(name).read_text()
            assert self.started[-1].poll() is None, self.log(name).read_text()
            time.sleep(0.05)


@pytest.fixture
def launches(tmp_path: Path) -> Iterator[Launches]:
    # It is free again when the launch claims it: other tests take the highest free one, and runs the lowest.
    with claimed_domain(range(50, 20, -1)) as domain:
        launches = Launches(tmp_path, domain)
    yield launches
    for process in launches.started:
        process.send_signal(signal.SIGINT)
    for process in launches.started:
        process.wait(BOUND_S)


def test_an_evaluation_joins_a_simulation_says_its_result_and_leaves_the_simulation_running(
    launches: Launches, checkpoint_folder: Path, tmp_path: Path
) -> None:
    simulation = launches.start("simulation", real_time_factor=2.0)
    launches.wait_for("simulation", "process started")
    evaluation = launches.start("evaluate", bringup=False, episodes=1, checkpoint=checkpoint_folder, run_directory=tmp_path / "run")
    assert evaluation.wait(BOUND_S) == 0, launches.log("evaluate").read_text()
    lines = launches.log("evaluate").read_text()
    assert "of 1 episodes" in lines
    assert "learner_node" not in lines
    assert simulation.poll() is None
    simulation.send_signal(signal.SIGINT)
    assert simulation.wait(BOUND_S) == 0


def test_on_ctrl_c_the_command_node_has_ended_before_anything_else_is_told_to(launches: Launches, checkpoint_folder: Path, tmp_path: Path) -> None:
    practice = launches.start("finetune", episodes=0, real_time_factor=2.0, checkpoint=checkpoint_folder, run_directory=tmp_path / "run", learn=False)
    launches.wait_for("finetune", "episode 1:")
    practice.send_signal(signal.SIGINT)
    assert practice.wait(BOUND_S) == 0
    said = launches.log("finetune").read_text()
    told = [said.index(f"sending signal 'SIGINT' to process[{name}-") for name in ("command_node", "policy_node", "sim_node")]
    assert told == sorted(told)
    assert told[0] < said.index("[command_node-2]: process has finished cleanly") < told[1]
    assert "SIGTERM" not in said
