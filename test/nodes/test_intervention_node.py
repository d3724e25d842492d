"""intervention_node as a process, with a joystick that the test plays."""

import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState, Joy
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from mechanic_rl_ros import msg
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import stamp
from mechanic_rl_ros.safety.joystick import load_joystick

EMBODIMENT, GAMEPAD = load_embodiment(), load_joystick("gamepad")


class Operator:
    """A gamepad that is told 20 times a second what its buttons are, and the arm whose hand is closed."""

    def __init__(self, nodes, probe):
        self.probe, self.held, self.x, self.speaks = probe, set(), 0.0, True
        self.readied = []
        self.interventions = probe.hear(msg.Intervention, "intervention", qos.COMMAND)
        self.labels = probe.hear(msg.Label, "label", qos.COMMAND)
        self.stops = probe.hear(Bool, "emergency_stop", qos.COMMAND)
        self.diagnostics = probe.hear(DiagnosticArray, "/diagnostics", 10)
        self.service = probe.node.create_service(Trigger, "scene_ready", self._ready)
        self.process = nodes.start("intervention_node", joystick="gamepad")
        self.joy = probe.speaker(Joy, GAMEPAD.topic, qos.COMMAND)
        self.joints = probe.speaker(JointState, EMBODIMENT.joints.topic, qos.SENSOR)
        probe.every(0.05, self._speak)
        self.wait_until_it_says("ready to take over")
        self.interventions.clear()  # the word that it does not have the arm, should an earlier life have had it

    def _ready(self, request, response):
        self.readied.append(request)
        return response

    def _speak(self):
        names = [*EMBODIMENT.joints.names, EMBODIMENT.joints.finger]
        state = JointState(name=names, position=[*EMBODIMENT.joints.home, 0.02])
        state.header.stamp = stamp(time.time_ns())
        self.joints.publish(state)
        if self.speaks:
            numbers = {GAMEPAD.dead_man if name == "dead_man" else GAMEPAD.buttons[name] for name in self.held}
            message = Joy(axes=[0.0, self.x, 0.0, 0.0, 0.0], buttons=[int(number in numbers) for number in range(11)])
            message.header.stamp = stamp(time.time_ns())
            self.joy.publish(message)

    def wait_until_it_says(self, text):
        self.diagnostics.clear()
        told = lambda: [s.message for array in self.diagnostics for s in array.status if s.name == "intervention_node"]  # noqa: E731
        self.probe.wait_for(lambda: any(text in message for message in told()), text)


@pytest.fixture
def operator(ros):
    return Operator(*ros)


def test_an_operator_takes_over_without_a_jump_of_the_hand_and_gives_back(operator):
    operator.held, operator.x = {"dead_man"}, 1.0
    operator.probe.wait_for(lambda: len(operator.interventions) > 3, "a takeover")
    first = operator.interventions[0]
    assert first.active
    assert list(first.action) == pytest.approx([0.5, 0.0, 0.0, 1.0])
    operator.wait_until_it_says("the operator has the arm")
    operator.held = set()
    operator.probe.wait_for(lambda: not operator.interventions[-1].active, "the arm back")


def test_a_joystick_that_falls_silent_sends_nothing_more_and_this_is_said(operator):
    operator.held = {"dead_man"}
    operator.probe.wait_for(lambda: operator.interventions, "a takeover")
    operator.speaks = False
    operator.wait_until_it_says("fallen silent")
    assert all(message.active for message in operator.interventions)  # nobody has the arm: the policy does not get it back either
    operator.interventions.clear()
    operator.speaks = True
    operator.wait_until_it_says("let go of the joystick")
    assert operator.interventions == []


def test_buttons_judge_the_episode_stop_the_arm_and_say_that_the_scene_is_ready(operator):
    for name in ("success", "failure"):
        operator.labels.clear()
        operator.held = {name}
        operator.probe.wait_for(lambda: operator.labels, name)
        assert [label.success for label in operator.labels] == [name == "success"]
    operator.held = {"scene_ready"}
    operator.probe.wait_for(lambda: operator.readied, "the word that the scene is ready")
    operator.held = {"emergency_stop"}
    operator.probe.wait_for(lambda: operator.stops, "the emergency stop")
    assert [stop.data for stop in operator.stops] == [True]


def test_an_unknown_joystick_is_one_line(ros):
    nodes, _ = ros
    assert "cannot read joystick" in nodes.refusal("intervention_node", joystick="steering_wheel")
