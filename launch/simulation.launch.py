"""Only the simulation, with the topics of the robot: `ros2 launch mechanic_rl_ros simulation.launch.py simulation:=mujoco|gazebo task:=lift`."""

from launch.actions import OpaqueFunction

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from mechanic_rl_ros.companions import companions
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.graph import world
from mechanic_rl_ros.nodes.launch_arguments import SIMULATION, declare, settings_from
from mechanic_rl_ros.nodes.launching import actions, claim_domain, launch_folder


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The simulation's processes; finetune.launch.py with bringup:=false joins them."""
    settings = settings_from(context, SIMULATION)
    settings.check()
    if not settings.simulated:
        raise UserError("simulation none is a robot: use robot.launch.py")
    needed = companions(settings, launch_folder())
    claim_domain(context, settings)
    return actions(context, settings, world(settings), needed)


def generate_launch_description() -> LaunchDescription:
    """Entry point of launch."""
    return LaunchDescription([*declare(SIMULATION), OpaqueFunction(function=start)])
