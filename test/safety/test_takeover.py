"""When an operator has the arm. The joysticks are those of config/joystick/."""

from pathlib import Path

import pytest
import yaml

from mechanic_rl_ros.data import Source
from mechanic_rl_ros.embodiment import Embodiment, load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import config_directory
from mechanic_rl_ros.safety.joystick import load_joystick
from mechanic_rl_ros.safety.takeover import Takeover, Word

EMBODIMENT = load_embodiment()
MS = 1_000_000
GAMEPAD, SPACEMOUSE = load_joystick("gamepad"), load_joystick("spacemouse")


class Operator:
    """A joystick in somebody's hands: one message every 20 ms."""

    def __init__(self, joystick=GAMEPAD, finger=0.04):
        self.joystick, self.takeover, self.now_ns = joystick, Takeover(joystick, EMBODIMENT), 10**10
        if finger is not None:
            self.takeover.set_finger(finger)

    def says(self, *held, stamp_ns=None, axes=None, **moves) -> Word:
        """One message in which the buttons ``held`` are pressed and the tool is meant to move."""
        self.now_ns += 20 * MS
        values = [0.0] * 8
        for motion, value in moves.items():
            values[self.joystick.axes[motion].axis] = value
        numbers = {self.joystick.dead_man if name == "dead_man" else self.joystick.buttons[name] for name in held}
        buttons = [int(number in numbers) for number in range(12)]
        return self.takeover.hear(values if axes is None else axes, buttons, self.now_ns if stamp_ns is None else stamp_ns, self.now_ns)

    def rests(self, seconds) -> list[Word]:
        return [self.says() for _ in range(round(seconds / 0.02))]


def test_a_gamepad_has_the_arm_while_its_dead_man_button_is_held():
    operator = Operator()
    operator.says()
    assert operator.says(x=1.0).action is None
    assert operator.says("dead_man", x=1.0, z=-1.0).action == pytest.approx([0.5, 0.0, -0.5, -1.0])
    assert operator.says("dead_man").action == pytest.approx([0.0, 0.0, 0.0, -1.0])
    assert operator.says(x=1.0) == Word(None, True, frozenset())
    assert operator.says(x=1.0) == Word()


def test_a_spacemouse_takes_the_arm_as_soon_as_it_is_moved_and_gives_it_back_after_a_rest():
    operator = Operator(SPACEMOUSE)
    operator.says()
    assert operator.says(y=0.05).action is None  # a hand that lies on it
    assert operator.says(y=-1.0).action == pytest.approx([0.0, -0.8, 0.0, -1.0])
    words = operator.rests(1.0)
    assert [word.gives_back for word in words].index(True) * 20 == pytest.approx(1e3 * SPACEMOUSE.rest, abs=40)
    assert sum(word.gives_back for word in words) == 1
    assert words[5].action == pytest.approx([0.0, 0.0, 0.0, -1.0])
    assert words[-1].action is None


def test_motion_begins_at_the_edge_of_the_dead_zone_without_a_step():
    operator = Operator()
    operator.says()
    assert 0.0 < operator.says("dead_man", x=GAMEPAD.dead_zone + 0.01).action[0] < 0.01


@pytest.mark.parametrize(
    ("finger", "told", "closed"),
    [
        (0.04, None, False),
        (0.02, None, True),  # it holds a cube
        (0.04, (Source.POLICY, 1.0), True),  # it has just begun to close
        (0.01, (Source.EXPERT, -1.0), False),
        (0.02, (Source.HOLD, 0.0), True),  # nobody has told it
    ],
)
@pytest.mark.parametrize("joystick", [GAMEPAD, SPACEMOUSE])
def test_at_takeover_the_hand_stays_as_it_is_until_a_button_says_otherwise(joystick, finger, told, closed):
    operator = Operator(joystick, finger)
    operator.says()
    if told:
        operator.takeover.set_executed(operator.now_ns, *told)
    holding = () if joystick.dead_man is None else ("dead_man",)
    assert [operator.says(*holding, x=1.0).action[-1] for _ in range(2)] == [1.0 if closed else -1.0] * 2
    button = "toggle_gripper" if joystick is SPACEMOUSE else "open_gripper" if closed else "close_gripper"
    after = [operator.says(*holding, button, x=1.0), operator.says(*holding, button, x=1.0), operator.says(*holding, x=1.0)]
    assert [word.action[-1] for word in after] == [-1.0 if closed else 1.0] * 3


def test_what_the_hand_was_told_long_ago_does_not_count():
    operator = Operator(finger=0.04)
    operator.takeover.set_executed(operator.now_ns, Source.POLICY, 1.0)
    operator.rests(2.0)
    assert operator.says("dead_man").action[-1] == -1.0


def test_nobody_takes_over_a_hand_that_was_never_seen():
    operator = Operator(finger=None)
    operator.says()
    assert operator.says("dead_man", x=1.0).action is None
    assert "nothing is known of the hand" in operator.takeover.problem
    operator.takeover.set_finger(0.04)
    assert operator.says("dead_man", x=1.0).action is not None
    assert operator.takeover.problem == ""


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"x": float("nan")}, "no number"),
        ({"axes": [0.0, 0.0]}, "2 axes"),
        ({"axes": []}, "0 axes"),
        ({"stamp_ns": 0}, "stamps are +1"),
        ({"stamp_ns": 10**12}, "stamps are -9"),
    ],
)
def test_what_cannot_be_meant_gives_the_arm_to_nobody_until_the_joystick_was_let_go(wrong, problem):
    operator = Operator()
    operator.says()
    operator.says("dead_man", x=1.0)
    assert operator.says("dead_man", **wrong) == Word()
    assert not operator.takeover.active
    assert problem in operator.takeover.problem
    assert operator.says("dead_man", x=1.0) == Word()
    assert "let go" in operator.takeover.problem
    assert operator.says().gives_back
    assert operator.says("dead_man", x=1.0).action is not None


def test_a_joystick_that_falls_silent_has_the_arm_no_more():
    operator = Operator()
    operator.says()
    operator.says("dead_man", x=1.0)
    operator.takeover.watch(operator.now_ns + 250 * MS)
    assert operator.takeover.active
    operator.takeover.watch(operator.now_ns + 310 * MS)
    assert not operator.takeover.active
    assert "silent" in operator.takeover.problem
    assert operator.says("dead_man", x=1.0).action is None


def test_a_joystick_that_is_in_use_when_it_is_first_heard_must_be_let_go_first():
    operator = Operator()
    assert operator.says("dead_man", "success", x=1.0) == Word()
    assert operator.says("dead_man", "success", x=1.0) == Word()
    assert operator.says().gives_back  # should an earlier life of the node have had the arm
    assert operator.says("dead_man", "success").pressed == {"success"}


def test_a_message_that_lists_no_buttons_is_a_released_button_of_a_spacemouse_and_a_fault_of_a_gamepad():
    mouse, pad = Operator(SPACEMOUSE), Operator()
    for operator in (mouse, pad):
        operator.says()
        operator.now_ns += 20 * MS
        operator.takeover.hear([0.0] * 8, [], operator.now_ns, operator.now_ns)
    assert mouse.takeover.problem == ""
    assert "0 buttons" in pad.takeover.problem


def test_a_button_counts_once_for_every_press():
    operator = Operator()
    operator.says()
    assert [bool(operator.says(*held).pressed) for held in (["success"], ["success"], [], ["success"])] == [True, False, False, True]


def test_the_emergency_stop_counts_however_broken_the_message_is():
    for wrong in ({"axes": []}, {"stamp_ns": 0}, {"x": float("nan")}, {}):
        operator = Operator()
        words = [operator.says("emergency_stop", "success", **wrong) for _ in range(3)]
        assert [word.pressed for word in words] == [{"emergency_stop"}, frozenset(), frozenset()]


def test_a_joystick_that_speaks_a_thousand_times_a_second_is_passed_on_fifty_times():
    operator = Operator()
    operator.says()
    start_ns, sent = operator.now_ns, 0
    for step in range(1000):
        operator.now_ns = start_ns + step * MS - 20 * MS
        sent += operator.says("dead_man", x=1.0).action is not None
    assert 45 <= sent <= 50


def test_a_clock_that_is_set_back_costs_one_message():
    operator = Operator()
    operator.says()
    operator.now_ns -= 5_000 * MS
    assert "go back" not in operator.takeover.problem
    operator.says()
    assert "go back" in operator.takeover.problem
    operator.says()
    assert operator.says("dead_man").action is not None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"takeover": {}}, "takeover needs a button, or a rest"),
        ({"axes": {}}, "no axes"),
        ({"axes": {"w": {"axis": 1}}}, "name w"),
        ({"axes": {"x": {"axis": 1, "scale": 2.0}}}, "scale"),
        ({"dead_zone": 1.0}, "dead_zone"),
        ({"buttons": {"success": 4}}, "two meanings"),
        ({"buttons": {"success": -1}}, "numbers from 0"),
        ({"buttons": {"dance": 3}}, "name dance"),
        ({"driver": {"package": "joy"}}, "executable"),
        ({"colour": "red"}, "unknown colour"),
    ],
)
def test_a_file_that_describes_no_joystick_is_a_user_error(tmp_path: Path, change, complaint):
    data = yaml.safe_load((config_directory() / "joystick" / "gamepad.yaml").read_text())
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**data, **change}))
    with pytest.raises(UserError, match=rf"mine\.yaml.*{complaint}"):
        load_joystick(tmp_path / "mine.yaml")


def test_turns_of_the_joystick_turn_the_tool_where_the_embodiment_has_rotations():
    data = EMBODIMENT.to_dict()
    data["action"].insert(3, {"name": "tcp_spin_z", "unit": "rad/s", "frame": "fr3_link0", "scale": 1.0})
    takeover = Takeover(SPACEMOUSE, Embodiment.from_dict(data))
    takeover.set_finger(0.04)
    takeover.hear([0.0] * 6, [], 10**9, 10**9)
    assert takeover.hear([0.0] * 5 + [1.0], [], 10**9, 10**9).action == pytest.approx([0.0, 0.0, 0.0, 0.8, -1.0])


def test_an_arm_that_is_told_joint_angles_cannot_be_driven_by_a_joystick():
    data = EMBODIMENT.to_dict()
    data["action"] = [{"name": f"joint{n + 1}_position", "unit": "rad", "frame": "", "scale": 1.0} for n in range(7)] + [data["action"][-1]]
    with pytest.raises(UserError, match="moves an action channel"):
        Takeover(GAMEPAD, Embodiment.from_dict(data))
