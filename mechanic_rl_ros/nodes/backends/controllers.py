"""The controller manager of ros2_control: which controllers are active, and switching them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lifecycle_msgs.msg import State

from mechanic_rl_ros.nodes.backends.backend import interfaces
from mechanic_rl_ros.nodes.backends.calls import Step, service_step
from mechanic_rl_ros.nodes.base import Node
from mechanic_rl_ros.safety.controllers import inactive

ASK_S = 1.0  # wall seconds between two looks
BROADCASTER = "joint_state_broadcaster"  # without it a joint_state_publisher goes on with old values under new stamps
SWITCH_S = 5  # s that switching may take inside of the controller manager


class Controllers:
    """Looks again and again whether the wanted controllers are active, and the one that reads the joints."""

    def __init__(self, node: Node, backend: str, wanted: Sequence[str]) -> None:
        """Declares the parameter ``controller_manager``."""
        self._name = node.parameter("controller_manager", "controller_manager", "name of the controller manager's node")
        self._wanted = (*wanted, BROADCASTER)
        list_controllers, switch, hardware = interfaces(
            backend, "controller_manager_msgs.srv", "ListControllers", "SwitchController", "SetHardwareComponentState"
        )
        self._list: Any = node.create_client(list_controllers, f"{self._name}/list_controllers")
        self._switch: Any = node.create_client(switch, f"{self._name}/switch_controller")
        self._hardware: Any = node.create_client(hardware, f"{self._name}/set_hardware_component_state")
        self._obstacle = f"{self._name} has not said yet which controllers are active: start ros2_control"
        self._asked: Any = None
        node.create_timer(ASK_S, self._ask, clock=node.wall)

    def obstacle(self) -> str:
        """See ``Backend.obstacle``."""
        return self._obstacle

    def switch(self, text: str, activate: Sequence[str] = (), deactivate: Sequence[str] = ()) -> Step:
        """Step that activates and deactivates; what is in that state already is left alone."""
        kind = self._switch.srv_type.Request
        request = kind(activate_controllers=list(activate), deactivate_controllers=list(deactivate), strictness=kind.BEST_EFFORT)
        request.timeout.sec = SWITCH_S
        return service_step(text, self._switch, request, lambda answer: "" if answer.ok else "the controller manager refuses")

    def activate_hardware(self, component: str) -> Step:
        """Step that takes a hardware component back to active."""
        request = self._hardware.srv_type.Request(name=component)
        request.target_state.id, request.target_state.label = State.PRIMARY_STATE_ACTIVE, "active"
        judge = lambda answer: "" if answer.ok else f"it stays {answer.state.label or 'as it is'}"  # noqa: E731
        return service_step(f"activating hardware {component}", self._hardware, request, judge)

    def _ask(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._list.remove_pending_request(self._asked)
            self._obstacle = f"{self._name} does not answer: see that ros2_control still runs"
        self._asked = None
        if not self._list.service_is_ready():
            self._obstacle = f"{self._name} is not there: start ros2_control (service {self._list.srv_name})"
            return
        self._asked = self._list.call_async(self._list.srv_type.Request())
        self._asked.add_done_callback(self._hear)

    def _hear(self, future: Any) -> None:
        if future is self._asked:
            self._obstacle = inactive({controller.name: controller.state for controller in future.result().controller}, self._wanted)
