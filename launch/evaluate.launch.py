"""How good a policy is: `ros2 launch mechanic_rl_ros evaluate.launch.py checkpoint:=runs/mine/checkpoint episodes:=50`. Success is said at the end."""

from launch.actions import OpaqueFunction

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from mechanic_rl_ros.nodes.launch_arguments import EVALUATION, declare, settings_from
from mechanic_rl_ros.nodes.launching import success_at_the_end, whole_graph

CHECKPOINT = "folder of the policy to evaluate; the base checkpoint of the task when empty"


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """All processes of the graph but the learner; the policy does not explore, and meets scenes that no practice uses."""
    settings, started = whole_graph(context, settings_from(context, EVALUATION, learn=False, evaluate=True))
    return [success_at_the_end(settings), *started]


def generate_launch_description() -> LaunchDescription:
    """Entry point of launch."""
    declared = declare(EVALUATION, episodes=(50, "episodes to complete; 0: until stopped"), checkpoint=("", CHECKPOINT))
    return LaunchDescription([*declared, OpaqueFunction(function=start)])
