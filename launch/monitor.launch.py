"""Looks at a graph that runs: `ros2 launch mechanic_rl_ros monitor.launch.py simulation:=mujoco`. It moves nothing."""

from launch.actions import OpaqueFunction

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from mechanic_rl_ros.companions import rviz
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import monitor
from mechanic_rl_ros.nodes.launch_arguments import MONITOR, declare, settings_from
from mechanic_rl_ros.nodes.launching import actions
from mechanic_rl_ros.supervise import lock_run

FOLDER = "folder in which another monitor_node writes what it hears; when empty none is started, the graph has its own"


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz, and a monitor_node where a folder is given."""
    settings = settings_from(context, MONITOR)
    settings.check()
    if not (settings.rviz or settings.run_directory):
        raise UserError("nothing to start: use rviz:=true, run_directory:=FOLDER or both")
    if settings.run_directory:
        context.extend_globals({"run_lock": lock_run(settings.run_directory)})
    return actions(context, settings, [monitor(settings)] if settings.run_directory else [], rviz(settings) if settings.rviz else [])


def generate_launch_description() -> LaunchDescription:
    """Entry point of launch."""
    declared = declare(MONITOR, rviz=(True, "whether RViz is started"), run_directory=("", FOLDER))
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
