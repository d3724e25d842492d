"""What every node has in common: lifecycle, checked parameters, diagnostics, an orderly end, one line for a mistake."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException, ParameterUninitializedException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time

from mechanic_rl_ros.embodiment import Embodiment, load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes.mismatch import MismatchWatch

STOP_S = 0.1  # s until a signal is noticed by a node that hears nothing
ALARM_S = 0.1  # s between two looks for what everybody must hear of at once
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Node(LifecycleNode):
    """A lifecycle node that configures and activates itself, so that a process that was killed rejoins without a manager.

    Hooks: ``setup`` (make publishers, load files; on configure), ``begin`` (on activate), ``end`` (on deactivate and at
    the end of the process: the last chance to stop the arm), ``close`` (at the end of the process), ``health`` (what
    /diagnostics says, once a second), ``alarmed`` (whether that must not wait). Activation and deactivation
    may alternate; to configure anew, restart the process.
    """

    def __init__(self, name: str) -> None:
        self.mismatches = MismatchWatch(self)  # before the first subscription, that of the clock
        super().__init__(name)
        self.fault: BaseException | None = None
        self.active = False
        self.done = False  # set by a node whose work is over: the process ends with status 0
        self.wall = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics: Any = None
        self._was_alarmed = False

    def setup(self) -> None:
        """Makes what the node needs; raises UserError when it cannot."""

    def begin(self) -> None:
        """Starts the work."""

    def end(self) -> None:
        """Stops the work. Called once for every ``begin``."""

    def close(self) -> None:
        """Gives back what is neither a publisher nor a subscription."""

    def health(self) -> tuple[bytes, str, dict[str, Any]]:
        """Level, one line for people, and values for /diagnostics."""
        return OK, "running", {}

    def alarmed(self) -> bool:
        """Whether ``health`` is an error that must not wait for its second: asked often, and changes nothing."""
        return False

    def parameter(self, name: str, default: Any, description: str, *, low: float | None = None, high: float | None = None) -> Any:
        """Declares a read-only parameter with description and range, and returns its value.

        Raises:
            UserError: The value given is of the wrong type or out of range.
        """
        descriptor = ParameterDescriptor(description=description, read_only=True)
        if low is not None and high is not None:
            if isinstance(default, int):
                descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=0)]
            else:
                descriptor.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
        bounds = f" between {low} and {high}" if low is not None else ""
        try:
            return self.declare_parameter(name, default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException, ParameterUninitializedException) as error:
            given = self._parameter_overrides.get(name)
            value = given.value if given is not None else None
            raise UserError(f"parameter {name} of {self.get_name()} is {value!r}: give a {type(default).__name__}{bounds} ({description})") from error

    def embodiment_parameter(self) -> Embodiment:
        """Declares and loads the embodiment."""
        return load_embodiment(self.parameter("embodiment", "fr3", "name of a file in config/embodiment/, or a YAML file"))

    def create_subscription(self, msg_type: Any, topic: str, callback: Any, qos_profile: Any, **options: Any) -> Any:
        """As rclpy does, and a publisher that cannot be heard is an error in /diagnostics."""
        options = {"event_callbacks": self.mismatches.callbacks(topic, qos_profile), **options}
        return super().create_subscription(msg_type, topic, callback, qos_profile, **options)

    def now_ns(self) -> int:
        """This node's ROS time: simulated time where use_sim_time is set."""
        return self.get_clock().now().nanoseconds

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
            self.create_timer(1.0, self._publish_diagnostics, clock=self.wall)
            self.create_timer(ALARM_S, self._raise_alarm, clock=self.wall)
            self.setup()
        except Exception as error:
            self.fault = error
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self.begin()
        except Exception as error:
            self.fault = error
            return TransitionCallbackReturn.FAILURE
        self.active = True
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.finish()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.get_logger().error("cannot be configured anew: restart the process, which configures itself")
        return TransitionCallbackReturn.FAILURE

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self.finish()
        return super().on_shutdown(state)

    def finish(self) -> None:
        """Runs ``end`` once."""
        if self.active:
            self.active = False
            self.end()

    def _raise_alarm(self) -> None:
        alarmed = self.active and self.alarmed()
        if alarmed and not self._was_alarmed:
            self._publish_diagnostics()
        self._was_alarmed = alarmed

    def _publish_diagnostics(self) -> None:
        level, message, values = self.health() if self.active else (WARN, "not active", {})
        if mismatch := self.mismatches.reason():
            level, message = ERROR, mismatch if level == OK else f"{message}; {mismatch}"
            self.get_logger().error(mismatch, throttle_duration_sec=10.0)
        status = DiagnosticStatus(level=level, name=self.get_fully_qualified_name().lstrip("/"), message=message, hardware_id="")
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)


def nanoseconds(stamp: Any) -> int:
    """Nanoseconds of a ``builtin_interfaces/Time``."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec


def stamp(time_ns: int) -> Any:
    """``builtin_interfaces/Time`` of nanoseconds."""
    return Time(nanoseconds=max(0, time_ns)).to_msg()


def run(node_class: Callable[[], Node], arguments: list[str] | None = None) -> None:
    """Runs one node as a process until SIGINT or SIGTERM. A mistake of the user ends it with one line and status 1."""
    _die_with_parent()
    debug = os.environ.get("MECHANIC_DEBUG") == "1"
    # A flag, not an exception: one raised inside the middleware's calls would break them and lose the orderly end.
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    node: Node | None = None
    status = 0
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
        node = node_class()
        _spin(node, stopping)
    except ExternalShutdownException:
        pass
    except Exception as error:
        # Status 1 says that another start would not help; what nobody foresaw may, so the supervisor tries again.
        status = 1 if isinstance(error, (UserError, OSError)) else 2
        if debug or status == 2:
            traceback.print_exc()
        print(f"{node.get_name() if node else Path(sys.argv[0]).name}: error: {error}", file=sys.stderr, flush=True)
    finally:
        if node is not None:
            node.finish()
            node.close()
            node.destroy_node()
        rclpy.try_shutdown()
    sys.exit(status)


def _spin(node: Node, stopping: threading.Event) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.trigger_configure()
    if node.fault is None:
        node.trigger_activate()
    while node.fault is None and not node.done and not stopping.is_set():
        executor.spin_once(timeout_sec=STOP_S)
    if node.fault is not None:
        raise node.fault


def _die_with_parent() -> None:
    # A supervisor that is killed must not leave a robot program behind: the kernel passes the word on (Linux only).
    if os.environ.get("MECHANIC_PARENT_DEATH_SIGNAL") == "1":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
