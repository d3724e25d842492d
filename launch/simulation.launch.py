"""Only the embedded simulation, with the topics of the robot: `ros2 launch mechanic_rl_ros simulation.launch.py task:=lift`."""

from launch.actions import OpaqueFunction

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from mechanic_rl_ros.graph import describe
from mechanic_rl_ros.nodes.launching import claim_domain, declare, environment, node, settings_from

ARGUMENTS = ("task", "real_time_factor", "embodiment", "namespace", "parameter_file", "log_level")


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The simulation's process."""
    settings = settings_from(context, ARGUMENTS)
    specs = describe(settings)
    claim_domain(context, settings)
    return [*environment(context, settings), *(node(spec, settings) for spec in specs if spec.executable == "sim_node")]


def generate_launch_description() -> LaunchDescription:
    """Entry point of launch."""
    return LaunchDescription([*declare(ARGUMENTS), OpaqueFunction(function=start)])
