"""A reset with a person's help, step by step."""

import numpy as np
import pytest

from mechanic_rl_ros.reset.scene_reset import SceneReset, SceneResetConfig, Verdict

HOME = (0.1, -0.2, 0.3)


class Cell:
    """An arm that is where the test says, and a clock that the test moves."""

    def __init__(self, **changes):
        self.reset = SceneReset(SceneResetConfig(HOME, **{"home_patience": 20.0, "settle": 1.0, "confirm_patience": 60.0, **changes}))
        self.at, self.off, self.speed, self.seen = 100.0, 0.0, 0.0, True

    def pass_time(self, seconds):
        """The verdict that came in this time, or None."""
        until = self.at + seconds
        while self.at < until:
            self.at += 0.1
            if self.seen:
                self.reset.joints(np.add(HOME, [0.0, self.off, 0.0]), [0.0, self.speed, 0.0], self.at)
            if verdict := self.reset.tick(self.at):
                return verdict
        return None

    def say(self):
        return self.reset.ready(self.at)


@pytest.fixture
def cell():
    cell = Cell()
    cell.reset.begin(cell.at)
    cell.reset.began(cell.at)
    return cell


def test_it_waits_for_the_arm_then_for_a_person_then_until_all_rests(cell):
    cell.off = 0.5
    assert cell.pass_time(5.0) is None
    assert cell.reset.text == "the arm drives home"
    assert "not at home yet" in cell.say()
    cell.off = 0.0
    assert cell.pass_time(50.0) is None
    assert cell.reset.waits_for_person
    assert cell.say() == ""
    assert cell.pass_time(0.8) is None
    assert cell.pass_time(0.5) == Verdict(True)
    assert cell.reset.text == ""
    assert cell.pass_time(5.0) is None


def test_without_a_person_settling_is_enough():
    cell = Cell(confirm=False)
    cell.reset.begin(cell.at)
    assert cell.pass_time(5.0) is None, "nobody drives home yet"
    cell.reset.began(cell.at)
    assert cell.pass_time(2.0) == Verdict(True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"off": 0.5}, "a joint is 0.50 rad away"),
        ({"off": float("nan")}, "a joint is nan rad away"),
        ({"speed": 0.3}, "it moves"),
        ({"seen": False}, "no joint states"),
    ],
    ids=["away", "nowhere", "moving", "unseen"],
)
def test_an_arm_that_does_not_come_to_rest_at_home_is_given_up_with_the_reason(cell, changes, words):
    vars(cell).update(changes)
    verdict = cell.pass_time(25.0)
    assert not verdict.success
    assert verdict.message.startswith("the arm is not at home after 20 s: ")
    assert words in verdict.message


def test_an_arm_that_leaves_home_while_a_person_works_is_told(cell):
    cell.pass_time(1.0)
    cell.off = 0.2
    assert cell.pass_time(1.0) == Verdict(False, "the arm has left home: a joint is 0.20 rad away")


def test_a_person_who_never_says_it_is_not_waited_for_for_ever(cell):
    assert "nobody has said within 60 s" in cell.pass_time(70.0).message


def test_who_is_never_told_to_drive_home_is_named():
    cell = Cell()
    cell.reset.begin(cell.at)
    assert cell.pass_time(25.0) == Verdict(False, "the service go_home does not answer: see that command_node runs")


def test_a_word_that_nobody_waits_for_is_answered():
    cell = Cell()
    assert cell.say() == "no reset waits for it"
    assert cell.pass_time(5.0) is None
