"""The one description of the graph: complete, checked, and the same by the time it reaches a node."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import NodeSpec, describe, ros_arguments
from mechanic_rl_ros.graph_settings import GraphSettings
from mechanic_rl_ros.ros_domain import claimed_domain
from mechanic_rl_ros.scene_seeds import EVALUATION_SEED, LARGEST_SEED

ROOT = Path(__file__).parents[1]
AWKWARD = ["", "123", "1e3", "true", "null", "a b", "/my runs/№ 1", "it's", 'a "b"', "x: y", "# no", "[1]", "back\\slash"]


def specs(**settings: object) -> dict[str, NodeSpec]:
    return {spec.executable: spec for spec in describe(GraphSettings(**settings))}


def everything() -> dict[str, NodeSpec]:
    """Every node that there can be."""
    return specs() | specs(simulation="none", joystick="gamepad")


def test_every_executable_is_a_node_that_is_installed_under_this_name(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr("setuptools.setup", lambda **arguments: given.update(arguments))
    exec(compile((ROOT / "setup.py").read_text(), str(ROOT / "setup.py"), "exec"), {"__file__": str(ROOT / "setup.py")})
    installed = {script.split(" = ")[0] for script in given["entry_points"]["console_scripts"]}
    assert set(everything()) == {name for name in installed if name.endswith("_node")}


@pytest.mark.parametrize("path", sorted((ROOT / "mechanic_rl_ros" / "nodes").glob("*_node.py")), ids=lambda path: path.stem)
def test_every_node_has_a_main_and_is_named_like_its_executable(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert any(isinstance(item, ast.FunctionDef) and item.name == "main" for item in tree.body)
    constants = {item.value for item in ast.walk(tree) if isinstance(item, ast.Constant)}
    assert path.stem in constants


@pytest.mark.parametrize("path", sorted((ROOT / "mechanic_rl_ros" / "nodes").glob("*_node.py")), ids=lambda path: path.stem)
def test_every_parameter_of_the_graph_is_one_that_the_node_declares(path: Path) -> None:
    tree = ast.parse(path.read_text())
    calls = [item for item in ast.walk(tree) if isinstance(item, ast.Call) and isinstance(item.func, ast.Attribute)]
    declared = {call.args[0].value for call in calls if call.func.attr == "parameter"} | {"use_sim_time"}
    declared |= {"embodiment"} if any(call.func.attr == "embodiment_parameter" for call in calls) else set()
    given = {name for graph in (specs(evaluate=True), everything()) if path.stem in graph for name in graph[path.stem].parameters} | set(
        parameters_in_file(path.stem)
    )
    assert given <= declared


def parameters_in_file(node: str) -> dict[str, object]:
    return yaml.safe_load((ROOT / "config" / "nodes.yaml").read_text()).get(f"/**/{node}", {}).get("ros__parameters", {})


def test_the_learner_takes_only_what_the_others_leave() -> None:
    nice = {name: spec.nice for name, spec in specs().items()}
    learner = nice.pop("learner_node")
    assert learner > max(nice.values())
    assert nice["command_node"] == min(nice.values())


def test_the_command_node_is_stopped_first_and_the_simulation_last() -> None:
    orders = {name: spec.stop_order for name, spec in specs().items()}
    assert [name for name in orders if orders[name] == min(orders.values())] == ["command_node"]
    assert [name for name in orders if orders[name] == max(orders.values())] == ["sim_node"]


def test_the_scene_is_the_embedded_simulation_s_or_that_of_scene_node_or_another_launch_s() -> None:
    assert {"sim_node", "scene_node"} & set(specs()) == {"sim_node"}
    for simulation in ("gazebo", "none"):
        assert {"sim_node", "scene_node"} & set(specs(simulation=simulation)) == {"scene_node"}
    for simulation in ("mujoco", "gazebo", "none"):
        assert not {"sim_node", "scene_node"} & set(specs(simulation=simulation, bringup=False))


def test_the_arm_is_moved_by_the_simulation_or_by_the_robot_that_was_chosen() -> None:
    chosen = ({}, {"simulation": "gazebo"}, {"simulation": "none"}, {"simulation": "none", "robot": "crisp"})
    assert [specs(**settings)["command_node"].parameters["backend"] for settings in chosen] == ["mujoco", "gazebo", "franka", "crisp"]


def test_only_on_a_robot_a_command_node_that_died_is_not_started_again() -> None:
    assert [name for name, spec in everything().items() if not spec.respawn] == ["command_node"]
    assert all(spec.respawn for spec in specs().values())


def test_an_evaluation_learns_nothing_tries_nothing_and_meets_scenes_that_no_practice_uses() -> None:
    graph = specs(evaluate=True, seed=1)
    assert "learner_node" not in graph
    assert not graph["episode_node"].parameters["learn"]
    assert not graph["policy_node"].parameters["explore"]
    assert graph["policy_node"].parameters["mode"] == "gate"
    assert graph["episode_node"].parameters["seed_first"] > EVALUATION_SEED


def test_a_robot_has_no_simulated_time() -> None:
    assert all(spec.parameters["use_sim_time"] for spec in specs(simulation="gazebo").values())
    assert not any(spec.parameters["use_sim_time"] for spec in specs(simulation="none").values())


def test_without_learning_there_is_no_learner() -> None:
    assert "learner_node" not in specs(learn=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"simulation": "webots"}, "mujoco, gazebo, none"),
        ({"simulation": "none", "robot": "kuka"}, "franka, crisp"),
        ({"robot_ip": "172.16.0.2"}, "leave robot_ip"),
        ({"cameras": "realsense2"}, "cameras out"),
        ({"simulation": "none", "robot": "crisp", "robot_ip": "172.16.0.2"}, "robot_ip is for robot franka"),
        ({"seed": -1}, "seed"),
        ({"seed": LARGEST_SEED + 1}, "seed"),
        ({"episodes": -1}, "episodes"),
        ({"episodes": 10_001}, "episodes"),
        ({"real_time_factor": 0.0}, "real-time factor"),
        ({"real_time_factor": float("nan")}, "real-time factor"),
        ({"parameter_file": "/does/not/exist.yaml"}, "parameter file"),
    ],
)
def test_a_setting_out_of_range_is_a_user_error(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        specs(**settings)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\0", "", "rate: 50.0", "/**/command_node: {rate: 50.0}", "n: {ros__parameters: 3}"])
def test_a_parameter_file_that_is_none_is_a_user_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "my parameters.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"my parameters\.yaml"):
        specs(parameter_file=str(path))


def test_a_parameter_file_of_other_bytes_is_a_user_error(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(UserError, match=r"p\.yaml"):
        specs(parameter_file=str(path))


def test_scenes_of_runs_with_different_seeds_never_meet_and_stay_below_those_for_evaluation() -> None:
    firsts = [specs(seed=seed)["episode_node"].parameters["seed_first"] for seed in (0, 1, LARGEST_SEED)]
    assert firsts[1] - firsts[0] >= 10_000
    assert firsts[2] + 10_000 <= 400_000


@pytest.mark.parametrize("value", AWKWARD)
def test_a_string_parameter_reaches_yaml_as_the_same_string(value: str) -> None:
    arguments = ros_arguments(NodeSpec("n", {"text": value}), GraphSettings())
    name, text = arguments[arguments.index("-p") + 1].split(":=", 1)
    assert (name, yaml.safe_load(text)) == ("text", value)


@pytest.fixture
def domain() -> Iterator[int]:
    with claimed_domain() as number:
        yield number


@pytest.mark.parametrize("value", [*AWKWARD, True, False, 0, 7, 2.0, 0.05, 1e-7])
def test_a_parameter_reaches_ros_with_value_and_type_and_beats_the_parameter_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, domain: int, value: object
) -> None:
    rclpy = pytest.importorskip("rclpy")
    from rclpy.context import Context
    from rclpy.node import Node

    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    (tmp_path / "p.yaml").write_text("/**/n: {ros__parameters: {given: from the file, other: 3}}")
    settings = GraphSettings(namespace="robot1", parameter_file=str(tmp_path / "p.yaml"))
    context = Context()
    rclpy.init(args=ros_arguments(NodeSpec("n", {"given": value}), settings), context=context)
    try:
        node = Node("n", context=context, automatically_declare_parameters_from_overrides=True, start_parameter_services=False, enable_rosout=False)
        received = node.get_parameter("given").value
        assert (type(received), received) == (type(value), value)
        assert node.get_parameter("other").value == 3
        assert node.get_namespace() == "/robot1"
        node.destroy_node()
    finally:
        context.try_shutdown()
