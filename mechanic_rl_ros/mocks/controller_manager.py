"""The services of ros2_control's controller manager, as far as the backends use them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lifecycle_msgs.msg import State

from mechanic_rl_ros.nodes.backends.backend import interfaces
from mechanic_rl_ros.nodes.base import Node


class MockControllerManager:
    """Controllers by name, each active or inactive, on one hardware component."""

    def __init__(self, node: Node, name: str, controllers: Sequence[str], changed: Callable[[], None] = lambda: None) -> None:
        """``changed`` is called whenever a controller or the hardware starts or stops."""
        self.active = dict.fromkeys(controllers, True)
        self.hardware = True
        self.switches: list[tuple[list[str], list[str]]] = []
        self._changed = changed
        listing, switch, hardware, self._state = (
            *interfaces("mock", "controller_manager_msgs.srv", "ListControllers", "SwitchController", "SetHardwareComponentState"),
            *interfaces("mock", "controller_manager_msgs.msg", "ControllerState"),
        )
        node.create_service(listing, f"{name}/list_controllers", self._on_list)
        node.create_service(switch, f"{name}/switch_controller", self._on_switch)
        node.create_service(hardware, f"{name}/set_hardware_component_state", self._on_hardware)

    def shut_down(self) -> None:
        """What an error of the hardware does: it and all its controllers stop."""
        self.hardware = False
        self.active = dict.fromkeys(self.active, False)
        self._changed()

    def _on_list(self, request: Any, response: Any) -> Any:
        response.controller = [self._state(name=name, state="active" if active else "inactive") for name, active in self.active.items()]
        return response

    def _on_switch(self, request: Any, response: Any) -> Any:
        activate, deactivate = list(request.activate_controllers), list(request.deactivate_controllers)
        known = set(activate) | set(deactivate) <= self.active.keys()
        response.ok = known and (self.hardware or not activate)
        if response.ok:
            self.active |= dict.fromkeys(deactivate, False) | dict.fromkeys(activate, True)
            self._changed()
        return response

    def _on_hardware(self, request: Any, response: Any) -> Any:
        self.hardware = request.target_state.label == "active" or request.target_state.id == State.PRIMARY_STATE_ACTIVE
        response.ok = True
        response.state.label = "active" if self.hardware else "inactive"
        self._changed()
        return response
