"""What every backend on a real Franka needs beside the arm's controller: its state, its settings, and the way back from a reflex."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.action import ActionClient
from rclpy.serialization import deserialize_message
from std_srvs.srv import Trigger

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.backends.backend import interfaces
from mechanic_rl_ros.nodes.backends.calls import Procedure, Step, action_step, service_step
from mechanic_rl_ros.nodes.backends.controllers import BROADCASTER, Controllers
from mechanic_rl_ros.nodes.base import Node
from mechanic_rl_ros.safety.recovery import Recovery
from mechanic_rl_ros.safety.robot_mode import RobotMode, RobotState, RobotWatch

TICK_S = 0.05  # wall seconds
HELD_S = 0.5  # wall seconds for which one call of ``hold`` counts
READ_S = 0.05  # wall seconds between two robot states that are read: they are large, and may come at 1 kHz
TORQUES = [35.0, 35.0, 32.0, 30.0, 29.0, 27.0, 24.0]  # Nm, as franka_ros2's examples set them
FORCES = [40.0, 40.0, 40.0, 35.0, 35.0, 35.0]  # N and Nm, likewise
CONTACT = 10.0  # Nm and N below the threshold of a reflex, from which the robot reports a contact
CONFIGURATIONS = 3  # tries of setting load and thresholds until a person is asked
UNSET = "load and collision thresholds are not set yet"


class FrankaRobot:
    """Watches the robot's mode; sets load and collision thresholds at the start; recovers from a reflex once the arm rests."""

    def __init__(self, node: Node, backend: str, arm_controller: str, first: Sequence[Step] = ()) -> None:
        """Declares its parameters. ``first``: steps of the backend that belong to the start."""
        topic = node.parameter("robot_state_topic", "franka_robot_state_broadcaster/robot_state", "topic of franka_msgs/FrankaRobotState")
        max_age = node.parameter("robot_state_max_age", 0.5, "s: an older robot state holds the arm", low=0.05, high=5.0)
        tries = node.parameter("recovery_tries", 3, "recoveries from a reflex without a person, 0 for none", low=0, high=20)
        pause = node.parameter(
            "recovery_pause",
            2.0,
            "s at rest before the first recovery, doubled for each further one; s between two tries of setting load and thresholds",
            low=0.1,
            high=60.0,
        )
        patience = node.parameter("robot_patience", 15.0, "s that a service or action of the robot may take", low=0.5, high=120.0)
        self._hardware = node.parameter("hardware", "FrankaHardwareInterface", "hardware component to activate after a recovery")
        self._restarted = node.parameter(
            "restarted_controllers",
            [arm_controller, BROADCASTER, "franka_robot_state_broadcaster"],
            "controllers that an error stops, started again after a recovery",
        )
        self._arm_controller, self._first = arm_controller, first
        self._controllers = Controllers(node, backend, (arm_controller,))
        (self._state_type,) = interfaces(backend, "franka_msgs.msg", "FrankaRobotState")
        (recovery,) = interfaces(backend, "franka_msgs.action", "ErrorRecovery")
        action = node.parameter("error_recovery", "action_server/error_recovery", "action of type franka_msgs/ErrorRecovery")
        self._clear = action_step("clearing the error", action, ActionClient(node, recovery, action), recovery.Goal(), lambda result: "")
        self._settings = _settings(node, backend)
        self._configured, self._configurations, self._unset = not (self._settings or first), 0, UNSET
        self._pause, self._configure_at = pause, 0.0
        self._watch, self._recovery, self._procedure = RobotWatch(topic, max_age), Recovery(tries, pause), Procedure(patience)
        self._read_at, self._held_at = 0.0, -HELD_S
        node.create_subscription(self._state_type, topic, self._on_state, qos.SENSOR, raw=True)
        node.create_service(Trigger, "recover", self._on_recover)
        node.create_timer(TICK_S, self._tick, clock=node.wall)
        self._log = node.get_logger()

    def hold(self) -> None:
        """See ``Backend``."""
        self._held_at = time.monotonic()

    def obstacle(self) -> str:
        """See ``Backend.obstacle``."""
        at = time.monotonic()
        if self._procedure.text:
            return f"the robot is being prepared: {self._procedure.text}"
        mode, unset = self._watch.mode(at), "" if self._configured else self._unset
        if mode is RobotMode.IDLE and (unset or self._controllers.obstacle()):
            return unset or self._controllers.obstacle()
        state, recovery = self._watch.obstacle(at), self._recovery.text(mode is RobotMode.REFLEX)
        if state:
            return f"{state}; {recovery}" if recovery else state
        return unset or self._controllers.obstacle()

    def health(self) -> dict[str, Any]:
        """See ``Backend.health``."""
        mode = self._watch.mode(time.monotonic())
        return {"robot_mode": "unknown" if mode is None else mode.name, "recoveries": self._recovery.tried}

    def _on_state(self, message: bytes) -> None:
        at = time.monotonic()
        if at - self._read_at < READ_S:
            return
        self._read_at = at
        state = deserialize_message(message, self._state_type)
        mode = RobotMode(state.robot_mode) if state.robot_mode in set(RobotMode) else None
        speeds = np.abs(state.measured_joint_state.velocity)
        self._watch.see(RobotState(mode, float(speeds.max()) if len(speeds) else math.inf, state.time), at)

    def _tick(self) -> None:
        at = time.monotonic()
        self._procedure.tick()
        if self._procedure.text:
            return
        mode, resting, held = self._watch.mode(at), self._watch.resting(at), at - self._held_at < HELD_S
        if self._recovery.begin(mode is RobotMode.REFLEX, resting or mode is None, at, held):
            self._log.warning("recovering the robot")
            self._procedure.start(self._recover(), self._recovered)
        elif not (self._configured or held) and at >= self._configure_at and resting and mode in (RobotMode.IDLE, RobotMode.MOVE):
            self._configure()

    def _configure(self) -> None:
        """Sets what belongs to the start, once all who do it are there. Settings are taken only while no controller moves the arm."""
        if self._configurations == CONFIGURATIONS:
            return
        steps = [self._stop([self._arm_controller]), *self._settings, *self._first, self._start([self._arm_controller])]
        missing = next(filter(None, (step.missing() for step in steps)), "")
        if missing:
            self._unset = f"{UNSET}: {missing}"
            return
        self._configurations += 1
        self._procedure.start(steps, self._configured_now)

    def _recover(self) -> list[Step]:
        """As franka_ros2 documents it: an error shuts the hardware down, and on Humble leaves controllers that look active.

        What only reads goes on until the error is cleared, so that the robot's mode stays known where it is not.
        """
        hardware = self._controllers.activate_hardware(self._hardware)
        return [self._stop([self._arm_controller]), self._clear, self._stop(self._restarted), hardware, *self._settings, self._start(self._restarted)]

    def _stop(self, names: Sequence[str]) -> Step:
        return self._controllers.switch("stopping controllers", deactivate=names)

    def _start(self, names: Sequence[str]) -> Step:
        return self._controllers.switch("starting controllers", activate=names)

    def _recovered(self, why: str) -> None:
        self._recovery.ended(why, time.monotonic())
        self._log.warning(f"recovery failed: {why}" if why else "the robot has recovered")

    def _configured_now(self, why: str) -> None:
        self._configured = not why
        if why:
            self._configure_at = time.monotonic() + self._pause
            self._unset = f"load and collision thresholds are not set ({why}): mend that, then call the service recover"
            self._log.error(self._unset)

    def _on_recover(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._recovery.ask()
        self._configurations, self._configure_at = 0, 0.0
        response.success, response.message = True, "recovery begins; /diagnostics say how it goes"
        return response


def _settings(node: Node, backend: str) -> list[Step]:
    """Steps that set load and collision thresholds, none where the robot keeps its own."""
    wanted = node.parameter("configure_robot", True, "whether load and collision thresholds are set at the start; false: the robot keeps its own")
    mass = node.parameter("load_mass", 0.0, "what the hand carries all the time, kg", low=0.0, high=3.0)
    centre = _numbers(node, "load_centre", [0.0] * 3, "its centre of mass in the flange frame, m")
    inertia = _numbers(node, "load_inertia", [0.0] * 9, "its inertia, kg m^2, column by column")
    torques = _numbers(node, "collision_torques", TORQUES, "external torques of the joints that make a reflex, Nm", low=0.0)
    forces = _numbers(node, "collision_forces", FORCES, "external forces (N) and torques (Nm) at the hand that make a reflex", low=0.0)
    load, collision = interfaces(backend, "franka_msgs.srv", "SetLoad", "SetFullCollisionBehavior")
    lower_torques, lower_forces = ([max(value - CONTACT, 0.0) for value in values] for values in (torques, forces))
    requests = {
        "set_load": (load, {"mass": mass, "center_of_mass": centre, "load_inertia": inertia}),
        "set_full_collision_behavior": (
            collision,
            {
                f"{side}_{kind}_thresholds_{phase}": values
                for phase in ("acceleration", "nominal")
                for side, kind, values in (
                    ("lower", "torque", lower_torques),
                    ("upper", "torque", torques),
                    ("lower", "force", lower_forces),
                    ("upper", "force", forces),
                )
            },
        ),
    }
    return [_setting(node, name, kind, fields) for name, (kind, fields) in requests.items()] if wanted else []


def _numbers(node: Node, name: str, default: list[float], description: str, low: float = -math.inf) -> list[float]:
    values = list(node.parameter(name, default, description))
    if len(values) != len(default) or not all(math.isfinite(value) and value >= low for value in values):
        above = "" if low == -math.inf else f" from {low:g} on"
        raise UserError(f"parameter {name} of {node.get_name()} is {values}: give {len(default)} finite numbers{above} ({description})")
    return values


def _setting(node: Node, name: str, kind: Any, fields: dict[str, Any]) -> Step:
    client: Any = node.create_client(kind, f"service_server/{name}")
    return service_step(f"calling {name}", client, kind.Request(**fields), lambda answer: "" if answer.success else answer.error or "refused")
