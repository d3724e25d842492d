"""The whole graph on a robot that is played by the mocks: a reflex in the middle of an episode."""

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from mechanic_rl_ros import msg
from mechanic_rl_ros.data import Source
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds
from mechanic_rl_ros.replay.store import EpisodeStore

EMBODIMENT = load_embodiment()
BOUND_S = 120.0
State = msg.EpisodeState


class RobotCell:
    """Robot, cameras and every node but the learner's, as processes."""

    def __init__(self, ros, folder, checkpoint):
        self.nodes, self.probe = ros
        self.store = EpisodeStore(folder / "episodes", EMBODIMENT)
        hear = self.probe.hear
        self.states, self.joints = hear(State, "episode", qos.EPISODE), hear(JointState, EMBODIMENT.joints.topic, qos.SENSOR)
        self.executed = hear(msg.ExecutedAction, "executed_action", qos.COMMAND)
        self.label = self.probe.node.create_publisher(msg.Label, "label", qos.COMMAND)
        self.nodes.start("mock_franka")
        for spec in EMBODIMENT.cameras.values():
            self.nodes.start("mock_camera", topic=spec.raw_topic, frame=spec.frame)
        self.nodes.start("command_node", backend="franka")
        self.nodes.start("camera_node")
        self.nodes.start("scene_node", confirm=False, settle_time=0.2)
        self.nodes.start("policy_node", checkpoint=checkpoint, device="cpu")
        self.nodes.start("recorder_node", directory=folder / "episodes")
        self.nodes.start("episode_node", learn=False, step_limit=600, reset_patience=60.0)

    def await_acting(self, number):
        """Waits until the policy has moved the arm in an episode from ``number`` on; its state."""

        def acting():
            state = self.states[-1] if self.states else State()
            acted = [e for e in self.executed if e.episode_id == state.id and e.source == Source.POLICY]
            return state.state == State.RUNNING and state.number >= number and len(acted) > 5 and state

        return self.probe.wait_for(acting, f"motion in episode {number} or a later one", BOUND_S)

    def await_end(self, number):
        return self.probe.wait_for(lambda: next((s for s in self.states if s.number == number and s.state == State.ENDED), None), "the end", BOUND_S)

    def speed(self):
        return float(np.abs(self.joints[-1].velocity[:7]).max())


@pytest.mark.timeout(400)
def test_a_reflex_aborts_the_episode_which_is_not_stored_and_after_the_recovery_the_next_one_begins(ros, tmp_path, checkpoint_folder):
    cell = RobotCell(ros, tmp_path, checkpoint_folder)
    running = cell.await_acting(1)
    since_ns = nanoseconds(cell.joints[-1].header.stamp)
    cell.probe.call(Trigger, "mock_franka/reflex", Trigger.Request())
    ended = cell.await_end(running.number)
    assert ended.outcome == "aborted"
    assert "the robot is in mode REFLEX" in ended.reason
    assert cell.speed() == 0.0
    print(f"measured: reflex, to the end of the episode: {(nanoseconds(ended.header.stamp) - since_ns) * 1e-9:.3f} s")
    following = cell.await_acting(running.number + 1)
    cell.label.publish(msg.Label(success=True))
    assert cell.await_end(following.number).outcome == "success"
    cell.probe.wait_for(lambda: len(cell.store), "the file of the episode after the reflex")
    assert [episode.id for episode in cell.store.load()] == [following.id], "the aborted one is not stored"
