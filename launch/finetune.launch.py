"""The robot practises: `ros2 launch mechanic_rl_ros finetune.launch.py simulation:=mujoco|gazebo|none`."""

from launch.actions import OpaqueFunction

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from mechanic_rl_ros.graph import describe
from mechanic_rl_ros.nodes.launching import DESCRIPTIONS, claim_domain, declare, environment, node, settings_from, with_run_folder


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """All processes of the graph."""
    settings = settings_from(context, DESCRIPTIONS)
    describe(settings)  # finds mistakes before anything is written
    claim_domain(context, settings)
    settings = with_run_folder(context, settings)
    nodes = [node(spec, settings, finishes=spec.executable == "episode_node") for spec in describe(settings)]
    return [*environment(context, settings), *nodes]


def generate_launch_description() -> LaunchDescription:
    """Entry point of launch."""
    return LaunchDescription([*declare(DESCRIPTIONS), OpaqueFunction(function=start)])
