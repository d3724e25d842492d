"""mock_controllers: plays the controller manager of ros2_control.

Services: controller_manager/list_controllers, switch_controller, set_hardware_component_state.
Parameters (--ros-args -p name:=value):
  controllers  names of the controllers, all active at the start
  name         of the controller manager, default controller_manager
Stop one and start it again:
  ros2 service call /controller_manager/switch_controller controller_manager_msgs/srv/SwitchController \
    "{deactivate_controllers: [fr3_gripper_controller], strictness: 1}"
"""

from __future__ import annotations

from mechanic_rl_ros.mocks.controller_manager import MockControllerManager
from mechanic_rl_ros.mocks.main import start
from mechanic_rl_ros.nodes.base import Node

CONTROLLERS = ["joint_state_broadcaster", "fr3_arm_controller", "fr3_gripper_controller"]


class MockControllers(Node):
    """A controller manager and nothing behind it."""

    def __init__(self) -> None:
        super().__init__("mock_controllers")
        self.controllers = self.parameter("controllers", CONTROLLERS, "names of the controllers, all active at the start")
        self.manager_name = self.parameter("name", "controller_manager", "of the controller manager")

    def setup(self) -> None:
        self.manager = MockControllerManager(self, self.manager_name, self.controllers)


def main() -> None:
    """Entry point of the executable ``mock_controllers``."""
    start(MockControllers, __doc__)
