"""The files for ros2_control say what the nodes and the graph say."""

import pytest
import yaml

from mechanic_rl_ros.paths import config_directory
from mechanic_rl_ros.ros_domain import claimed_domain
from mechanic_rl_ros.safety.commander import DRIFT

FILES = ("fr3_gazebo", "fr3_robot")


def path(name):
    return config_directory() / "controllers" / f"{name}.yaml"


@pytest.fixture(scope="module", params=FILES)
def controllers(request):
    """Parameters of every node of a file, by the name of the node."""
    return {node.removeprefix("/**/"): content["ros__parameters"] for node, content in yaml.safe_load(path(request.param).read_text()).items()}


@pytest.mark.parametrize("namespace", ["/", "/left"])
@pytest.mark.parametrize("file", FILES)
def test_ros_gives_the_arm_controller_what_the_file_says_in_any_namespace(file, namespace):
    rclpy = pytest.importorskip("rclpy")
    from rclpy.signals import SignalHandlerOptions

    context = rclpy.Context()
    with claimed_domain(range(100, 0, -1)) as domain:
        rclpy.init(context=context, domain_id=domain, args=["--ros-args", "--params-file", str(path(file))], signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = rclpy.create_node("fr3_arm_controller", namespace=namespace, context=context, automatically_declare_parameters_from_overrides=True)
            assert list(node.get_parameter("joints").value) == [f"fr3_joint{number}" for number in range(1, 8)]
            assert node.get_parameter("constraints.fr3_joint7.trajectory").value > DRIFT, "the command node notices first"
            node.destroy_node()
        finally:
            context.try_shutdown()


def test_the_manager_knows_the_type_of_every_controller_with_parameters(controllers):
    types = {name for name, value in controllers["controller_manager"].items() if isinstance(value, dict)}
    assert set(controllers) - {"controller_manager"} <= types
    assert controllers["controller_manager"]["update_rate"] == 1000


def test_a_trajectory_goes_on_from_the_desired_state_and_must_end_at_rest(controllers, embodiment):
    arm = controllers["fr3_arm_controller"]
    assert arm["joints"] == list(embodiment.joints.names)
    assert arm["command_interfaces"] == ["position"]
    assert arm["state_interfaces"] == ["position", "velocity"]
    assert arm["interpolate_from_desired_state"] is arm["open_loop_control"] is True  # the same by two names, for different releases
    assert arm["allow_nonzero_velocity_at_trajectory_end"] is False
    assert set(arm["constraints"]) == set(embodiment.joints.names)


def test_joint_states_come_often_enough_for_the_command_node(controllers, embodiment):
    assert 5.0 / controllers["joint_state_broadcaster"]["update_rate"] < embodiment.joints.max_age
