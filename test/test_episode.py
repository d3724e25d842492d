"""The episode state machine."""

import pytest

from mechanic_rl_ros.data import Outcome
from mechanic_rl_ros.episode import EpisodeConfig, EpisodeMachine, Frame, Phase

S = 10**9
STEP = S // 10


class Course:
    """A machine and its clock."""

    def __init__(self, episodes=0, step_limit=5):
        self.machine = EpisodeMachine(EpisodeConfig(episodes=episodes, seed_first=40, step_limit=step_limit, period_ns=STEP))
        self.now_ns, self.resets, self.idle = 100 * S, 0, False

    def tick(self, seconds=0.02, missing=""):
        self.now_ns += round(seconds * S)
        if not self.idle:
            self.machine.acted(self.now_ns)
        return self.machine.tick(self.now_ns, missing)

    def see(self, success=False, reset_count=None):
        """The next camera frame."""
        self.now_ns = (self.now_ns // STEP + 1) * STEP
        if not self.idle:
            self.machine.acted(self.now_ns)
        return self.machine.frame(Frame(self.now_ns, success, self.resets if reset_count is None else reset_count))

    def reset(self, success=True, message=""):
        self.resets += success
        return self.machine.reset_done(success, self.resets, self.now_ns, message)

    def until(self, phase):
        """Lets time pass, with frames and a scene that resets as it should."""
        for _ in range(2000):
            if self.machine.phase == phase:
                return self
            if self.machine.phase == Phase.RESETTING:
                self.reset()
            self.tick()
            if self.now_ns % STEP == 0:
                self.machine.frame(Frame(self.now_ns, False, self.resets))
        raise AssertionError(f"{phase.name} was not reached from {self.machine.phase.name}")


@pytest.fixture
def course():
    return Course()


def test_it_waits_and_names_what_is_missing(course):
    assert course.tick(missing="camera_node (nothing heard from it)")
    assert course.machine.phase == Phase.WAITING
    assert course.machine.reason == "waiting for camera_node (nothing heard from it)"
    assert not course.tick(missing="camera_node (nothing heard from it)"), "the same reason is told once"
    assert course.tick(missing="policy_node (nothing heard from it)")
    assert course.tick()
    assert (course.machine.phase, course.machine.number, course.machine.seed) == (Phase.RESETTING, 1, 40)


def test_after_a_reset_the_arm_gets_time_and_the_episode_begins_on_the_grid_of_the_cameras(course):
    course.until(Phase.RESETTING)
    course.see()
    course.reset()
    since_ns = course.now_ns
    course.until(Phase.RUNNING)
    assert course.now_ns - since_ns >= course.machine.config.ready_ns
    assert course.machine.since_ns % STEP == 0


@pytest.mark.parametrize(("after_ms", "steps"), [(10, 1), (40, 1), (60, 2), (90, 2)])
def test_an_episode_is_announced_early_enough_before_its_first_frame(course, after_ms, steps):
    course.until(Phase.RESETTING)
    course.reset()
    while course.now_ns - course.machine.since_ns < course.machine.config.ready_ns:
        course.see()
    frame_ns = course.now_ns
    course.tick(after_ms * 1e-3)
    assert course.machine.phase == Phase.RUNNING
    assert course.machine.since_ns == frame_ns + steps * STEP


def test_a_reset_that_fails_is_tried_again_and_its_number_is_not_lost(course):
    course.until(Phase.RESETTING)
    assert course.reset(success=False, message="the object fell off the table")
    assert course.machine.phase == Phase.WAITING
    assert "the object fell off the table" in course.machine.reason
    assert not course.tick(), "not at once"
    for _ in range(60):
        course.tick()
    assert (course.machine.phase, course.machine.number, course.machine.seed) == (Phase.RESETTING, 1, 40)


def test_resets_that_fail_again_are_tried_ever_more_slowly(course):
    waits = []
    for _ in range(3):
        course.until(Phase.RESETTING)
        course.reset(success=False)
        began = course.now_ns
        course.until(Phase.RESETTING)
        waits.append(course.now_ns - began)
    assert waits == sorted(waits)
    assert waits[2] > 2 * waits[0]
    course.reset()
    assert course.machine.number == 1


def test_success_ends_the_episode_with_a_reward_at_the_stamp_of_its_frame(course):
    course.until(Phase.RUNNING)
    start_ns = course.now_ns = course.machine.since_ns
    assert course.see() == (0.0, False)
    assert course.see(success=True) == (1.0, True)
    machine = course.machine
    assert (machine.phase, machine.outcome, machine.return_value, machine.since_ns) == (Phase.ENDED, Outcome.SUCCESS, 1.0, start_ns + 2 * STEP)
    assert course.see(success=True) is None, "what comes later earns nothing"


def test_the_step_limit_ends_the_episode_as_a_timeout_that_is_not_terminal(course):
    course.until(Phase.RUNNING)
    start_ns = course.now_ns = course.machine.since_ns
    judged = [course.see() for _ in range(5)]
    assert judged == [(0.0, False)] * 5
    assert (course.machine.phase, course.machine.outcome) == (Phase.ENDED, Outcome.TIMEOUT)
    assert course.machine.since_ns == start_ns + 5 * STEP


def test_a_success_on_the_last_step_is_a_success(course):
    course.until(Phase.RUNNING)
    course.now_ns = course.machine.since_ns
    for _ in range(4):
        course.see()
    course.see(success=True)
    assert course.machine.outcome is Outcome.SUCCESS


@pytest.mark.parametrize(("judgement", "outcome", "reward"), [(True, Outcome.SUCCESS, 1.0), (False, Outcome.FAILURE, 0.0)])
def test_an_operator_judges_the_running_episode(course, judgement, outcome, reward):
    assert not course.machine.label(judgement, course.now_ns), "there is nothing to judge yet"
    course.until(Phase.RUNNING)
    course.see()
    assert course.machine.label(judgement, course.now_ns + 7)
    assert (course.machine.phase, course.machine.outcome, course.machine.return_value) == (Phase.ENDED, outcome, reward)


def test_a_node_that_is_lost_aborts_the_episode_and_is_named(course):
    course.until(Phase.RUNNING)
    course.see()
    assert course.tick(missing="policy_node (nothing heard from it)")
    assert (course.machine.phase, course.machine.outcome) == (Phase.ENDED, Outcome.ABORTED)
    assert course.machine.reason == "lost policy_node (nothing heard from it)"


def test_an_episode_whose_task_is_not_seen_any_more_is_aborted(course):
    course.until(Phase.RUNNING)
    course.see()
    assert not course.tick(0.9)
    assert course.tick(0.2)
    assert (course.machine.outcome, course.machine.reason) == (Outcome.ABORTED, "lost sight of the task")


def test_an_episode_in_which_nobody_moves_the_arm_is_aborted_and_not_counted_as_a_failure():
    course = Course(step_limit=100).until(Phase.RUNNING)
    course.idle, course.now_ns = True, course.machine.since_ns
    course.machine.acted(course.now_ns + S)
    for _ in range(24):
        course.see()
        assert not course.tick(0.0)
    course.see()
    course.see()
    assert course.tick(0.0), "1.5 s after the last action"
    assert (course.machine.outcome, course.machine.completed) == (Outcome.ABORTED, 0)
    assert course.machine.reason == "neither policy nor operator moves the arm"


def test_a_short_episode_in_which_nobody_ever_moved_the_arm_is_no_timeout():
    course = Course(step_limit=3)
    course.until(Phase.RUNNING)
    course.idle, course.now_ns, course.machine._acted_ns = True, course.machine.since_ns, 0
    for _ in range(3):
        course.see()
    assert (course.machine.outcome, course.machine.completed) == (Outcome.ABORTED, 0)
    assert course.machine.reason == "neither policy nor operator moves the arm"


@pytest.mark.parametrize(("held", "outcome"), [(9, Outcome.ABORTED), (8, Outcome.TIMEOUT)])
def test_an_arm_that_was_held_when_the_step_limit_came_is_no_timeout_and_one_that_paused_for_a_chunk_is(held, outcome):
    course = Course(step_limit=60).until(Phase.RUNNING)
    course.now_ns = course.machine.since_ns
    for _ in range(60 - held):
        course.see()
    course.idle = True
    for _ in range(held):
        assert course.machine.phase == Phase.RUNNING
        course.see()
    assert (course.machine.outcome, course.machine.completed) == (outcome, int(outcome is Outcome.TIMEOUT))
    assert course.machine.reason == ("neither policy nor operator moves the arm" if outcome is Outcome.ABORTED else "")


def test_an_episode_that_was_aborted_is_made_up_for_with_a_new_scene():
    course = Course(episodes=2, step_limit=1)
    course.until(Phase.RUNNING).machine.abort("somebody came near", course.now_ns)
    seeds = []
    while len(seeds) < 2:
        course.until(Phase.WAITING).until(Phase.RUNNING)
        seeds.append(course.machine.seed)
        course.until(Phase.ENDED)
    assert seeds == [41, 42]
    course.until(Phase.FINISHED)
    assert (course.machine.number, course.machine.completed) == (3, 2)


def test_an_episode_that_was_discarded_is_made_up_for_with_a_new_scene_even_if_it_was_the_last():
    course = Course(episodes=2, step_limit=1)
    course.until(Phase.ENDED)
    assert not course.machine.discarded(1, course.now_ns), "the next one comes anyway"
    course.until(Phase.WAITING).until(Phase.ENDED).until(Phase.WAITING).until(Phase.FINISHED)
    assert (course.machine.number, course.machine.completed) == (3, 2)
    assert not course.machine.discarded(1, course.now_ns), "it did not count any more"
    assert course.machine.discarded(3, course.now_ns)
    course.until(Phase.RUNNING)
    assert course.machine.seed == 43
    course.until(Phase.FINISHED)
    assert (course.machine.number, course.machine.completed) == (4, 2)


def test_discarding_an_aborted_episode_changes_nothing():
    course = Course(episodes=1, step_limit=1)
    course.until(Phase.RUNNING).machine.abort("somebody came near", course.now_ns)
    course.until(Phase.WAITING).until(Phase.FINISHED)
    assert not course.machine.discarded(1, course.now_ns)
    assert (course.machine.phase, course.machine.completed) == (Phase.FINISHED, 1)


def test_an_abort_is_only_of_a_running_episode(course):
    assert not course.machine.abort("stop", course.now_ns)
    course.until(Phase.RUNNING)
    assert course.machine.abort("somebody came near", course.now_ns)
    assert (course.machine.outcome, course.machine.reason) == (Outcome.ABORTED, "somebody came near")


def test_frames_of_an_older_scene_do_not_count(course):
    course.until(Phase.RUNNING)
    course.now_ns = course.machine.since_ns
    assert course.see(success=True, reset_count=course.resets - 1) is None
    assert course.machine.phase == Phase.RUNNING


def test_frames_of_before_the_start_do_not_count(course):
    course.until(Phase.RUNNING)
    assert course.machine.frame(Frame(course.machine.since_ns, True, course.resets)) is None
    assert course.machine.phase == Phase.RUNNING


def test_a_late_answer_of_an_old_reset_changes_nothing(course):
    course.until(Phase.RUNNING)
    course.now_ns = course.machine.since_ns
    assert not course.machine.reset_done(True, 99, course.now_ns)
    assert course.see() == (0.0, False)


def test_a_clock_that_is_set_back_aborts_the_episode_and_practice_goes_on(course):
    course.until(Phase.RUNNING)
    course.now_ns = course.machine.since_ns
    course.see()
    course.now_ns = 5 * S
    assert course.tick()
    assert (course.machine.outcome, course.machine.reason) == (Outcome.ABORTED, "the clock was set back")
    course.until(Phase.RUNNING)
    assert course.machine.number == 2
    assert course.machine.since_ns < 10 * S


@pytest.mark.parametrize("phase", [Phase.READY, Phase.ENDED])
def test_a_clock_that_is_set_back_between_episodes_is_waited_for_anew(course, phase):
    course.until(Phase.RUNNING)
    course.machine.abort("", course.now_ns)
    course.until(phase)
    course.now_ns = 5 * S
    course.until(Phase.RUNNING)
    assert course.now_ns < 10 * S


def test_the_requested_number_of_episodes_is_done_and_then_it_is_over():
    course = Course(episodes=2, step_limit=1)
    seeds = []
    for _ in range(2):
        course.until(Phase.RUNNING)
        seeds.append(course.machine.seed)
        course.until(Phase.ENDED)
        assert course.machine.outcome is Outcome.TIMEOUT
        course.until(Phase.FINISHED if len(seeds) == 2 else Phase.WAITING)
    assert seeds == [40, 41]
    assert not course.tick(10.0)
    assert course.machine.phase == Phase.FINISHED


def test_a_restarted_machine_goes_on_with_the_next_number():
    machine = EpisodeMachine(EpisodeConfig(episodes=3, seed_first=10, step_limit=5, period_ns=STEP), number=3, completed=2)
    machine.tick(S, "")
    assert (machine.number, machine.seed) == (4, 13)


def test_a_restarted_machine_whose_episodes_are_all_done_has_nothing_to_do():
    machine = EpisodeMachine(EpisodeConfig(episodes=3, seed_first=10, step_limit=5, period_ns=STEP), number=4, completed=3)
    assert machine.tick(S, "sim_node")
    assert (machine.phase, machine.number) == (Phase.FINISHED, 4)
