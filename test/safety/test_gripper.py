"""Wishes of a finger position become goals, one at a time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mechanic_rl_ros.safety.gripper import RETRY_S, STROKE, WORST, GripperGoal, GripperGoals


def goals():
    return GripperGoals("hand", patience_s=5.0)


def test_the_newest_wish_is_what_comes_next_and_those_between_are_forgotten():
    hand = goals()
    hand.wish(0.0)
    assert hand.next(0.0) == GripperGoal(0.0, grasp=True)
    for finger in (0.03, 0.01, STROKE):
        hand.wish(finger)
    assert hand.next(1.0) is None, "one is in flight"
    hand.succeeded()
    assert hand.next(1.1) == GripperGoal(2 * STROKE, grasp=False)
    hand.succeeded()
    assert hand.next(1.2) is None


def test_a_wish_that_is_fulfilled_is_not_sent_again():
    hand = goals()
    for at in range(5):
        hand.wish(0.02)
        assert (hand.next(at) is None) == (at > 0)
        hand.succeeded()


def test_what_cannot_be_reached_is_clipped():
    hand = goals()
    hand.wish(1.0)
    assert hand.next(0.0).width == 2 * STROKE
    hand.succeeded()
    hand.wish(-1.0)
    assert hand.next(1.0).width == 0.0


def test_a_goal_that_is_never_answered_becomes_an_obstacle_and_an_answer_takes_it_away():
    hand = goals()
    hand.wish(0.0)
    hand.next(0.0)
    assert hand.obstacle(4.9) == ""
    assert "gripper hand has not answered for 5 s" in hand.obstacle(5.1)
    hand.succeeded()
    assert hand.obstacle(5.2) == ""


def test_a_goal_that_fails_is_tried_again_with_pauses_and_told_after_a_few_times():
    hand = goals()
    hand.wish(0.0)
    at = 0.0
    for _ in range(WORST):
        assert hand.obstacle(at) == ""
        assert hand.next(at) is not None
        hand.failed("jammed", at)
        assert hand.next(at + 0.9 * RETRY_S) is None
        at += 1.1 * RETRY_S
    assert f"has failed {WORST} times (jammed)" in hand.obstacle(at)
    hand.next(at)
    hand.succeeded()
    assert hand.obstacle(at) == ""


def test_after_the_driver_went_away_the_new_one_gets_nothing_until_there_is_a_new_wish():
    hand = goals()
    hand.wish(0.0)
    hand.next(0.0)
    hand.forget()
    assert hand.obstacle(99.0) == ""
    assert hand.next(99.0) is None
    hand.wish(0.0)
    assert hand.next(99.0) == GripperGoal(0.0, grasp=True), "also where it is the old one: nobody knows where the fingers are"


def test_a_hand_that_is_held_ends_what_it_does_and_begins_nothing_else():
    hand = goals()
    hand.wish(0.0)
    hand.next(0.0)
    hand.wish(STROKE)
    hand.hold()
    assert "has not answered" in hand.obstacle(99.0), "the goal is still in flight"
    hand.succeeded()
    assert hand.next(99.0) is None
    hand.wish(STROKE)
    assert hand.next(99.0) == GripperGoal(2 * STROKE, grasp=False)


def test_what_failed_is_neither_tried_again_nor_an_obstacle_once_the_hand_is_held():
    hand = goals()
    hand.wish(0.0)
    for at in range(0, 2 * WORST, 2):
        hand.next(at)
        hand.failed("jammed", at)
    assert hand.obstacle(99.0)
    hand.hold()
    assert hand.next(99.0) is None
    assert hand.obstacle(99.0) == "", "nobody would send the goal that could take it away"


@given(st.lists(st.one_of(st.floats(allow_nan=False), st.sampled_from(["next", "succeeded", "failed", "forget", "hold"])), max_size=60))
def test_there_is_never_more_than_one_goal_in_flight_and_none_is_out_of_range(events):
    hand, in_flight = goals(), 0
    for at, event in enumerate(events):
        if event == "next":
            goal = hand.next(at)
            in_flight += goal is not None
            assert goal is None or 0.0 <= goal.width <= 2 * STROKE
            assert in_flight <= 1
        elif event == "failed":
            hand.failed("", at)
            in_flight = 0
        elif event == "hold":
            hand.hold()
        elif event in ("succeeded", "forget"):
            getattr(hand, event)()
            in_flight = 0
        else:
            hand.wish(event)


def test_a_wish_that_is_not_a_number_is_no_wish():
    hand = goals()
    hand.wish(float(np.nan))
    assert hand.next(0.0) is None
