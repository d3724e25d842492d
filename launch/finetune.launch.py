"""The robot practises: `ros2 launch mechanic_rl_ros finetune.launch.py simulation:=mujoco|gazebo|none`."""

from launch.actions import OpaqueFunction

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from mechanic_rl_ros.nodes.launch_arguments import PRACTICE, declare, settings_from
from mechanic_rl_ros.nodes.launching import whole_graph


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """All processes of the graph."""
    return whole_graph(context, settings_from(context, PRACTICE))[1]


def generate_launch_description() -> LaunchDescription:
    """Entry point of launch."""
    return LaunchDescription([*declare(PRACTICE), OpaqueFunction(function=start)])
