"""An operator with a joystick: takes the arm over, judges episodes, stops everything, and says that the scene is ready."""

from __future__ import annotations

from typing import Any

from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from mechanic_rl_ros import msg
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import OK, WARN, Node, nanoseconds, run
from mechanic_rl_ros.nodes.convert import reading_from_message
from mechanic_rl_ros.safety.joystick import load_joystick
from mechanic_rl_ros.safety.takeover import Takeover, Word

WATCH_S = 0.1  # wall seconds between two looks at the clock


class InterventionNode(Node):
    """Translates between topics and ``Takeover``."""

    def __init__(self) -> None:
        super().__init__("intervention_node")
        self.embodiment = self.embodiment_parameter()
        self.joystick = load_joystick(self.parameter("joystick", "gamepad", "gamepad, spacemouse, or a YAML file like those of config/joystick/"))
        self.takeover = Takeover(self.joystick, self.embodiment)
        self.said = ""

    def setup(self) -> None:
        self.interventions = self.create_publisher(msg.Intervention, "intervention", qos.COMMAND)
        self.labels = self.create_publisher(msg.Label, "label", qos.COMMAND)
        self.stops = self.create_publisher(Bool, "emergency_stop", qos.COMMAND)
        self.scene: Any = self.create_client(Trigger, "scene_ready")
        self.create_subscription(Joy, self.joystick.topic, self._on_joy, qos.COMMAND)
        self.create_subscription(JointState, self.embodiment.joints.topic, self._on_joints, qos.SENSOR)
        self.create_subscription(msg.ExecutedAction, "executed_action", self._on_executed, qos.COMMAND)
        self.create_timer(WATCH_S, self._watch, clock=self.wall)

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        if self.takeover.problem:
            return WARN, self.takeover.problem, {}
        return OK, "the operator has the arm" if self.takeover.active else "ready to take over", {}

    def _on_joy(self, message: Joy) -> None:
        if not self.active:
            return
        word = self.takeover.hear(message.axes, message.buttons, nanoseconds(message.header.stamp), self.now_ns())
        if "emergency_stop" in word.pressed:
            self.stops.publish(Bool(data=True))
            self.get_logger().warning("the operator has pressed the emergency stop")
        self._intervene(word, message)
        for name in ("success", "failure"):
            if name in word.pressed:
                self.labels.publish(msg.Label(header=message.header, success=name == "success"))
        if "scene_ready" in word.pressed:
            self._tell_scene()

    def _intervene(self, word: Word, message: Joy) -> None:
        if word.action is None and not word.gives_back:
            return
        intervention = msg.Intervention(header=message.header, active=word.action is not None)
        intervention.header.frame_id = self.embodiment.base_frame
        intervention.action = [] if word.action is None else word.action.tolist()
        self.interventions.publish(intervention)

    def _tell_scene(self) -> None:
        if self.scene.service_is_ready():
            self.scene.call_async(Trigger.Request()).add_done_callback(self._on_scene)
        else:
            self.get_logger().warning("nobody waits for the scene to be ready: service scene_ready is not there")

    def _on_scene(self, future: Any) -> None:
        answer = future.result()
        if not answer.success:
            self.get_logger().warning(f"the scene is not ready: {answer.message}")

    def _on_joints(self, message: JointState) -> None:
        try:
            self.takeover.set_finger(reading_from_message(message, self.embodiment).finger)
        except UserError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=5.0)

    def _on_executed(self, message: msg.ExecutedAction) -> None:
        if len(message.action) == len(self.embodiment.action):
            self.takeover.set_executed(nanoseconds(message.header.stamp), message.source, message.action[-1])

    def _watch(self) -> None:
        """Says in the log what keeps the operator from the arm, once."""
        self.takeover.watch(self.now_ns())
        problem, self.said = self.said, self.takeover.problem
        if self.said and self.said != problem:
            self.get_logger().warning(self.said)


def main() -> None:
    """Entry point of the executable ``intervention_node``."""
    run(InterventionNode)
