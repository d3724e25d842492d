"""Only what drives the robot, to be left running: `ros2 launch mechanic_rl_ros robot.launch.py robot_ip:=172.16.0.2 cameras:=realsense2`."""

from launch.actions import OpaqueFunction

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from mechanic_rl_ros.companions import companions
from mechanic_rl_ros.graph import world
from mechanic_rl_ros.nodes.launch_arguments import ROBOT, declare, settings_from
from mechanic_rl_ros.nodes.launching import actions, launch_folder


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Drivers of arm, hand and cameras, controllers, and scene_node; finetune.launch.py with bringup:=false joins them."""
    settings = settings_from(context, ROBOT, simulation="none")
    settings.check()
    return actions(context, settings, world(settings), companions(settings, launch_folder()))


def generate_launch_description() -> LaunchDescription:
    """Entry point of launch."""
    return LaunchDescription([*declare(ROBOT), OpaqueFunction(function=start)])
