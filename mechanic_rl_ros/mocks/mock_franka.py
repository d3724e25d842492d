"""mock_franka: plays a Franka Research 3 with its hand under franka_ros2.

It follows trajectories, publishes joint_states (with the finger) and franka_robot_state_broadcaster/robot_state, and serves
franka_gripper/{homing,move,grasp}, action_server/error_recovery, service_server/{set_load,set_full_collision_behavior} and
the controller manager.

Parameters (--ros-args -p name:=value):
  rate            Hz of joint states and robot state, default 100
  gripper_prefix  default franka_gripper
  gripper_time    s that a motion of the hand takes, default 0.3
  arm_controller  default fr3_arm_controller
  takes_settings  false: load and collision thresholds are refused, default true
  shuts_down      true: an error shuts the hardware down, as in franka_ros2 v2.4 and v3.3 and later; default false

What can be provoked:
  ros2 service call /mock_franka/reflex std_srvs/srv/Trigger                                  a reflex
  ros2 service call /mock_franka/user_stop std_srvs/srv/SetBool "{data: true}"                the stop button, pressed
  ros2 service call /mock_franka/gripper_answers std_srvs/srv/SetBool "{data: false}"         goals of the hand never end
  ros2 service call /mock_franka/gripper_accepts std_srvs/srv/SetBool "{data: false}"         goals of the hand are refused
  ros2 service call /mock_franka/recovery_works std_srvs/srv/SetBool "{data: false}"          error recovery fails
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool, Trigger

from mechanic_rl_ros.mocks.arm import MockArm
from mechanic_rl_ros.mocks.controller_manager import MockControllerManager
from mechanic_rl_ros.mocks.gripper import MockGripper
from mechanic_rl_ros.mocks.main import start
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.backends.backend import arm_controller, interfaces
from mechanic_rl_ros.nodes.base import OK, Node
from mechanic_rl_ros.safety.robot_mode import RobotMode

BROADCASTER = "franka_robot_state_broadcaster"


class MockFranka(Node):
    """Robot, hand and controller manager in one process."""

    def __init__(self) -> None:
        super().__init__("mock_franka")
        self.embodiment = self.embodiment_parameter()
        self.rate = self.parameter("rate", 100.0, "joint states and robot states per second, Hz", low=1.0, high=1000.0)
        self.prefix = self.parameter("gripper_prefix", "franka_gripper", "name of the gripper's node")
        self.gripper_time = self.parameter("gripper_time", 0.3, "s that a motion of the hand takes", low=0.0, high=60.0)
        self.shuts_down = self.parameter("shuts_down", False, "whether an error shuts the hardware down")
        self.takes_settings = self.parameter("takes_settings", True, "whether load and collision thresholds can be set")
        self.controller = arm_controller(self)
        self.reflex = self.stopped = False
        self.recovery_works = True
        self.settings: list[str] = []

    def setup(self) -> None:
        self.gripper = MockGripper(self, self.prefix, self.gripper_time)
        self.arm = MockArm(self, self.embodiment, self.controller)
        self.manager = MockControllerManager(self, "controller_manager", [self.controller, "joint_state_broadcaster", BROADCASTER], self._free_arm)
        load, collision = interfaces("mock", "franka_msgs.srv", "SetLoad", "SetFullCollisionBehavior")
        self.create_service(load, "service_server/set_load", lambda request, response: self._set("load", response))
        self.create_service(collision, "service_server/set_full_collision_behavior", lambda request, response: self._set("collision", response))
        (recovery,) = interfaces("mock", "franka_msgs.action", "ErrorRecovery")
        self.recovery: Any = ActionServer(self, recovery, "action_server/error_recovery", lambda handle: self._recover(handle, recovery.Result()))
        (self.state_type,) = interfaces("mock", "franka_msgs.msg", "FrankaRobotState")
        self.states = self.create_publisher(self.state_type, f"{BROADCASTER}/robot_state", qos.SENSOR)
        self.joints = self.create_publisher(JointState, self.embodiment.joints.topic, qos.SENSOR)
        self.create_service(Trigger, "~/reflex", self._on_reflex)
        self._switch("user_stop", self._on_user_stop)
        self._switch("gripper_answers", lambda on: setattr(self.gripper, "answers", on))
        self._switch("gripper_accepts", lambda on: setattr(self.gripper, "accepts", on))
        self._switch("recovery_works", lambda on: setattr(self, "recovery_works", on))
        self.create_timer(1.0 / self.rate, self._publish, clock=self.wall)

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        gripper = self.gripper
        values = {"settings": " ".join(self.settings), "goals": " ".join(gripper.goals), "most_goals_at_once": gripper.most_at_once}
        return OK, self.mode().name, values

    def mode(self) -> RobotMode:
        """What the robot says of itself."""
        if self.reflex:
            return RobotMode.REFLEX
        if self.stopped:
            return RobotMode.USER_STOPPED
        return RobotMode.MOVE if self.manager.active[self.controller] else RobotMode.IDLE

    def _publish(self) -> None:
        positions, velocities = self.arm.state()
        joints = JointState(name=[*self.embodiment.joints.names, self.embodiment.joints.finger])
        joints.header.stamp = self.get_clock().now().to_msg()
        joints.position, joints.velocity = [*positions.tolist(), 0.5 * self.gripper.width], [*velocities.tolist(), 0.0]
        if self.manager.active["joint_state_broadcaster"]:
            self.joints.publish(joints)
        if self.manager.active[BROADCASTER]:
            state = self.state_type(header=joints.header, measured_joint_state=joints, time=self.now_ns() * 1e-9, robot_mode=int(self.mode()))
            self.states.publish(state)

    def _free_arm(self) -> None:
        if self.mode() is not RobotMode.MOVE:
            self.arm.stop()
        self.arm.free = self.mode() is RobotMode.MOVE

    def _on_reflex(self, request: Any, response: Any) -> Any:
        self.reflex = True
        self._broken()
        response.success = True
        return response

    def _on_user_stop(self, on: bool) -> None:
        self.stopped = on
        if on:
            self._broken()
        self._free_arm()

    def _broken(self) -> None:
        self._free_arm()
        if self.shuts_down:
            self.manager.shut_down()

    def _set(self, name: str, response: Any) -> Any:
        response.success = self.takes_settings and self.mode() is RobotMode.IDLE
        response.error = "" if response.success else f"the robot is in mode {self.mode().name}"
        if response.success:
            self.settings.append(name)
        return response

    def _recover(self, handle: Any, result: Any) -> Any:
        if self.recovery_works and not self.stopped:
            self.reflex = False
            self._free_arm()
            handle.succeed()
        else:
            handle.abort()
        return result

    def _switch(self, name: str, act: Callable[[bool], None]) -> None:
        def on_call(request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
            act(request.data)
            response.success = True
            return response

        self.create_service(SetBool, f"~/{name}", on_call)


def main() -> None:
    """Entry point of the executable ``mock_franka``."""
    start(MockFranka, __doc__)
