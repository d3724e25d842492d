"""How often a robot is brought out of a reflex without a person."""

from mechanic_rl_ros.safety.recovery import CALM_S, Recovery


def reflexes(recovery, at, until, resting=True):
    """Times at which it is tried while a reflex stays, looked at ten times a second."""
    tries = []
    while at < until:
        if recovery.begin(needed=True, resting=resting, at=at):
            tries.append(round(at, 1))
            recovery.ended("it would not", at)
        at += 0.1
    return tries


def test_it_is_tried_a_few_times_with_growing_pauses_and_then_a_person_is_asked():
    recovery = Recovery(tries=3, pause_s=1.0)
    first, second, third = reflexes(recovery, 0.0, 100.0)
    assert 1.0 <= first <= 1.2
    assert second - first >= 2.0
    assert third - second >= 4.0
    assert recovery.text(needed=True) == "tried 3 times (it would not): look at the arm, then call the service recover"


def test_an_arm_that_moves_is_left_alone():
    assert reflexes(Recovery(tries=3, pause_s=1.0), 0.0, 20.0, resting=False) == []


def test_without_tries_nothing_happens_until_a_person_asks():
    recovery = Recovery(tries=0, pause_s=1.0)
    assert reflexes(recovery, 0.0, 20.0) == []
    recovery.ask()
    assert not recovery.begin(needed=True, resting=False, at=20.5), "not while the arm moves"
    assert recovery.begin(needed=True, resting=True, at=21.0)
    assert not recovery.begin(needed=True, resting=True, at=22.0), "one at a time"
    assert recovery.text(needed=True) == "recovering"


def test_a_robot_that_is_held_is_recovered_only_on_a_person_s_word_and_the_pause_begins_afterwards():
    recovery = Recovery(tries=3, pause_s=1.0)
    assert not any(recovery.begin(needed=True, resting=True, at=at, held=True) for at in range(10))
    assert not recovery.begin(needed=True, resting=True, at=9.9)
    assert recovery.begin(needed=True, resting=True, at=10.1)
    recovery.ended("it would not", 10.2)
    recovery.ask()
    assert recovery.begin(needed=True, resting=True, at=10.3, held=True)


def test_a_reflex_that_comes_back_at_once_uses_the_tries_up_and_calm_gives_them_back():
    recovery = Recovery(tries=2, pause_s=1.0)
    at = 0.0
    for expected in (True, True, False):
        for _ in range(100):
            at += 0.1
            if began := recovery.begin(needed=True, resting=True, at=at):
                recovery.ended("", at)
                recovery.begin(needed=False, resting=True, at=at + 0.05)
                break
        assert began == expected
    recovery.begin(needed=False, resting=True, at=at + CALM_S)
    assert reflexes(recovery, at + CALM_S + 1.0, at + CALM_S + 5.0)
