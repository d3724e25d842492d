"""The launch files say what the graph says. These tests run where ROS 2's `launch` is installed."""

import importlib.util
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from mechanic_rl_ros.companions import Companion
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import NodeSpec, describe
from mechanic_rl_ros.graph_settings import GraphSettings
from mechanic_rl_ros.ros_domain import REACH_VARIABLES, free_domain

# A folder called launch lies in this repository too, so that the name alone may be importable.
pytest.importorskip("launch.launch_context")
pytest.importorskip("launch_ros.actions")

LAUNCH = Path(__file__).parents[2] / "launch"


def load(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, LAUNCH / f"{name}.launch.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def actions(name: str, **arguments: str) -> list[Any]:
    """What the launch file starts, given these arguments, without starting it."""
    return begun(name, **arguments)[1]


def begun(name: str, **arguments: str) -> tuple[Any, list[Any]]:
    """The same with the context of the launch, which lives as long as the launch would."""
    from launch.actions import DeclareLaunchArgument
    from launch.launch_context import LaunchContext

    context = LaunchContext()
    for variable in REACH_VARIABLES:
        context.environment.pop(variable, None)
    context.launch_configurations.update(arguments)
    module = load(name)
    for action in module.generate_launch_description().entities:
        if isinstance(action, DeclareLaunchArgument):
            action.execute(context)
    return context, module.start(context)


def nodes(started: list[Any]) -> list[Any]:
    from launch_ros.actions import Node

    return [action for action in started if isinstance(action, Node)]


def command(node: Any) -> list[str]:
    """The command line of a node, found without starting it: in a launch that is shutting down, nothing is started."""
    from launch.launch_context import LaunchContext

    context = LaunchContext()
    context._set_is_shutdown(True)
    node.execute(context)
    return [part for part in node.process_description.final_cmd if part]


def parameters(words: list[str]) -> dict[str, Any]:
    """What the last parameter file on a command line says."""
    path = [words[index + 1] for index, word in enumerate(words) if word == "--params-file"][-1]
    (given,) = yaml.safe_load(Path(path).read_text()).values()
    return given["ros__parameters"]


def ends_all(process: Any, returncode: int) -> bool:
    """Whether the launch shuts down when this process ends."""
    from launch.actions import Shutdown
    from launch.event_handlers import OnProcessExit
    from launch.events.process import ProcessExited
    from launch.launch_context import LaunchContext

    event = ProcessExited(returncode=returncode, action=process, name="process", cmd=[], cwd=None, env=None, pid=1)
    handler = OnProcessExit(target_action=process, on_exit=process._ExecuteLocal__on_exit)
    assert handler.matches(event)
    return any(isinstance(action, Shutdown) for action in handler.handle(event, LaunchContext()) or [])


def test_every_setting_of_practice_is_a_launch_argument() -> None:
    declared = {argument.name: argument for argument in load("finetune").generate_launch_description().get_launch_arguments()}
    assert set(declared) == {field.name for field in fields(GraphSettings)} - {"evaluate"}


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.launch.py")), ids=lambda path: path.name)
def test_every_argument_of_every_launch_file_has_a_description_and_a_default(path: Path) -> None:
    arguments = load(path.name.removesuffix(".launch.py")).generate_launch_description().get_launch_arguments()
    assert arguments
    assert all(argument.description and argument.default_value is not None for argument in arguments)


@pytest.mark.parametrize("settings", [{}, {"simulation": "none", "learn": False}, {"bringup": False}, {"namespace": "robot1", "checkpoint": "/my runs/7"}])
def test_the_launch_file_starts_what_the_graph_describes(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = str(tmp_path / "a run")
    expected: dict[str, NodeSpec] = {spec.executable: spec for spec in describe(GraphSettings(run_directory=folder, **settings))}
    started = nodes(actions("finetune", run_directory=folder, **{name: str(value).lower() for name, value in settings.items()}))
    assert [node.node_executable for node in started] == list(expected)
    for node in started:
        spec = expected[node.node_executable]
        words = command(node)
        assert words[0] == "setsid"
        assert (words[1:4] == ["nice", "-n", str(spec.nice)]) == (spec.nice > 0)
        assert f"__node:={spec.executable}" in words
        assert ("__ns:=/robot1" in words) == ("namespace" in settings)
        received = parameters(words)
        assert received == spec.parameters
        assert {name: type(value) for name, value in received.items()} == {name: type(value) for name, value in spec.parameters.items()}


def test_a_checkpoint_called_by_a_number_stays_a_string(tmp_path: Path) -> None:
    (node,) = nodes(actions("simulation", embodiment="123"))
    assert parameters(command(node))["embodiment"] == "123"


def test_only_a_simulation_is_kept_on_this_machine(tmp_path: Path) -> None:
    from launch.actions import SetEnvironmentVariable

    def kept(**arguments: str) -> bool:
        return any(isinstance(action, SetEnvironmentVariable) for action in actions("finetune", **arguments))

    assert kept(run_directory=str(tmp_path / "a"))
    assert not kept(run_directory=str(tmp_path / "b"), simulation="none")


def test_while_a_launch_lives_others_get_neither_its_run_folder_nor_the_domain_of_its_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    held, _ = begun("finetune", run_directory=str(tmp_path / "a"))
    for name, arguments in (("finetune", {"run_directory": str(tmp_path / "b")}), ("simulation", {})):
        with pytest.raises(UserError, match=r"is in use by another run.*export ROS_DOMAIN_ID=\d+"):
            actions(name, **arguments)
    assert not (tmp_path / "b").exists()
    actions("finetune", run_directory=str(tmp_path / "b"), bringup="false")
    del held
    held, _ = begun("finetune", run_directory=str(tmp_path / "c"), simulation="none")
    with pytest.raises(UserError, match="c is in use by another run"):
        actions("finetune", run_directory=str(tmp_path / "c"), simulation="none")
    del held
    actions("finetune", run_directory=str(tmp_path / "c"), simulation="none")


@pytest.mark.parametrize(("arguments", "message"), [({"seed": "99"}, "seed"), ({"episodes": "many"}, "episodes:=many is not a number")])
def test_a_wrong_argument_is_a_user_error_and_leaves_nothing_behind(tmp_path: Path, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        actions("finetune", run_directory=str(tmp_path / "run"), **arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "arguments", "package"),
    [
        ("finetune", {"rviz": "true"}, "rviz2"),
        ("finetune", {"joystick": "gamepad"}, "joy"),
        ("simulation", {"simulation": "gazebo"}, "ros_gz_sim"),
        ("robot", {"robot_ip": "172.16.0.2"}, "franka_bringup"),
        ("monitor", {"simulation": "none"}, "rviz2"),
    ],
)
def test_a_package_that_is_missing_is_named_before_anything_is_started_or_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, arguments: dict[str, str], package: str
) -> None:
    from ament_index_python.packages import PackageNotFoundError

    def find(wanted: str) -> str:
        if wanted == package:
            raise PackageNotFoundError(wanted)
        return "/opt"

    monkeypatch.setattr("ament_index_python.packages.get_package_prefix", find)
    folder = {"run_directory": str(tmp_path / "run")} if name == "finetune" else {}
    with pytest.raises(UserError, match=f"package {package} is not installed"):
        actions(name, **arguments, **folder)
    assert not (tmp_path / "run").exists()


def test_a_monitor_without_rviz_and_folder_has_nothing_to_do() -> None:
    with pytest.raises(UserError, match="nothing to start"):
        actions("monitor", rviz="false")


def test_a_monitor_does_not_write_into_the_folder_of_a_run_that_goes_on(tmp_path: Path) -> None:
    held, _ = begun("finetune", run_directory=str(tmp_path), simulation="none")
    with pytest.raises(UserError, match="is in use by another run"):
        actions("monitor", rviz="false", run_directory=str(tmp_path))
    del held


def test_an_evaluation_and_a_practice_do_not_share_a_folder(tmp_path: Path) -> None:
    actions("evaluate", run_directory=str(tmp_path), episodes="260", simulation="none")
    with pytest.raises(UserError, match="evaluate"):
        actions("finetune", run_directory=str(tmp_path), simulation="none")


def test_a_run_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    actions("finetune", run_directory=str(tmp_path), seed="1")
    actions("finetune", run_directory=str(tmp_path), seed="1")
    with pytest.raises(UserError, match="seed"):
        actions("finetune", run_directory=str(tmp_path), seed="2")


@pytest.mark.parametrize(
    ("executable", "returncode", "simulation", "ends"),
    [
        ("episode_node", 0, "mujoco", True),
        ("episode_node", -9, "mujoco", False),
        ("policy_node", 1, "mujoco", True),
        ("policy_node", -9, "mujoco", False),
        ("policy_node", 0, "mujoco", False),
        ("command_node", -9, "mujoco", False),
        ("command_node", -9, "none", True),
    ],
)
def test_all_ends_when_the_episodes_are_done_a_node_says_what_is_wrong_or_a_robot_has_lost_its_command_node(
    tmp_path: Path, executable: str, returncode: int, simulation: str, ends: bool
) -> None:
    started = nodes(actions("finetune", run_directory=str(tmp_path), simulation=simulation))
    (node,) = [node for node in started if node.node_executable == executable]
    assert ends_all(node, returncode) == ends


@pytest.mark.parametrize(
    ("item", "returncode", "ends"),
    [
        (Companion("franka_bringup", "franka.launch.py"), 0, True),
        (Companion("controller_manager", "spawner", once=True), 0, False),
        (Companion("controller_manager", "spawner", once=True), 1, True),
        (Companion("rviz2", "rviz2", essential=False), -11, False),
    ],
)
def test_all_ends_when_a_driver_has_ended_but_not_when_a_window_was_closed(item: Companion, returncode: int, ends: bool) -> None:
    from mechanic_rl_ros.nodes.launching import companion
    from mechanic_rl_ros.nodes.ordered_shutdown import StopOrder

    assert ends_all(companion(item, GraphSettings(), StopOrder()), returncode) == ends


def test_a_real_node_with_a_mistake_says_so_and_ends_the_launch_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from launch.actions import RegisterEventHandler
    from launch.event_handlers import OnProcessExit, OnProcessIO

    from launch import LaunchDescription, LaunchService

    monkeypatch.setenv("ROS_DOMAIN_ID", str(free_domain()))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path))
    (mistaken,) = nodes(actions("simulation", task="nonsense"))
    said: list[str] = []
    codes: list[int] = []
    service = LaunchService(noninteractive=True)
    service.include_launch_description(
        LaunchDescription(
            [
                RegisterEventHandler(OnProcessIO(target_action=mistaken, on_stderr=lambda event: said.append(event.text.decode()))),
                RegisterEventHandler(OnProcessExit(target_action=mistaken, on_exit=lambda event, context: codes.append(event.returncode))),
                mistaken,
            ]
        )
    )
    service.run()
    assert codes == [1]
    assert "unknown task 'nonsense'" in "".join(said)
