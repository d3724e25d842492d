"""What the nodes under test expect from the others: observations, weights and episodes."""

import array

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image, JointState

from mechanic_rl_ros import msg
from mechanic_rl_ros.data import Episode, Outcome
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import stamp
from mechanic_rl_ros.nodes.convert import image_to_message
from mechanic_rl_ros.nodes.payloads import PayloadReceiver, PayloadSender
from mechanic_rl_ros.policy.acting import Actor, acting_tensors
from mechanic_rl_ros.policy.checkpoint import Checkpoint, pack_weights
from mechanic_rl_ros.transfer import Inbox, Outbox

EMBODIMENT = load_embodiment()
HOME = np.array(EMBODIMENT.joints.home)
LEARNER = "/learner_node"


def pictures(index):
    """Images of both cameras that differ from instant to instant, as the policy sees them."""
    rng = np.random.default_rng(index)
    return {key: rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8) for key, spec in EMBODIMENT.cameras.items()}


class Feed:
    """Camera node, arm and episode node, played by the test: one instant after the other on the policy's grid."""

    def __init__(self, probe):
        self.probe, self.now_ns, self.number, self.index = probe, 50 * 10**9, 0, 0
        publish = probe.node.create_publisher
        self.images = {key: publish(Image, spec.topic, qos.COMMAND) for key, spec in EMBODIMENT.cameras.items()}
        self.joints = publish(JointState, EMBODIMENT.joints.topic, qos.COMMAND)
        self.episodes = publish(msg.EpisodeState, "episode", qos.STATE)
        self.diagnostics = probe.hear(DiagnosticArray, "/diagnostics", 10)

    def join(self):
        """Waits until a node listens. That it is heard, too, tells that both sides know each other: before that, images could be lost."""
        publishers = [*self.images.values(), self.joints, self.episodes]
        self.probe.wait_for(lambda: all(publisher.get_subscription_count() for publisher in publishers), "the node's subscriptions")
        self.diagnostics.clear()
        self.probe.wait_for(lambda: any(status.message != "not active" for array in self.diagnostics for status in array.status), "an active node")

    def announce(self, state, **fields):
        message = msg.EpisodeState(id=self.id, number=self.number, state=state, task="lift", seed=7, **fields)
        message.header.stamp = stamp(self.now_ns)
        self.episodes.publish(message)

    def begin(self, id=""):
        """An episode whose first observation is the next one."""
        self.number += 1
        self.id = id or f"lift_{self.number}"
        self.now_ns += EMBODIMENT.period_ns
        self.start_ns = self.now_ns
        self.announce(msg.EpisodeState.RUNNING)
        self.now_ns -= EMBODIMENT.period_ns

    def end(self, outcome="timeout"):
        self.announce(msg.EpisodeState.ENDED, outcome=outcome)

    def instant(self):
        """Both images and the joint state of the next instant."""
        self.now_ns += EMBODIMENT.period_ns
        self.index += 1
        time = stamp(self.now_ns)
        state = JointState(name=[*EMBODIMENT.joints.names, EMBODIMENT.joints.finger], position=[*(HOME + 0.001 * self.index), 0.03])
        state.header.stamp = time
        self.joints.publish(state)
        for key, image in pictures(self.index).items():
            self.images[key].publish(image_to_message(image, EMBODIMENT.cameras[key].frame, time))
        return self.now_ns


class Teacher:
    """A learner, played by the test: it announces weights and sends them."""

    def __init__(self, probe, folder):
        self.checkpoint = Checkpoint.load(folder)
        self.actor = Actor(self.checkpoint)
        self.outbox = Outbox(LEARNER, chunk_size=256 * 1024)
        self.sender = PayloadSender(probe.node, "weights", qos.STATE, self.outbox.chunk)

    def tensors(self, value=None):
        tensors = {name: tensor.clone() for name, tensor in acting_tensors(self.actor.policy, self.actor.critic).items()}
        if value is not None:
            next(iter(tensors.values())).view(-1)[3] = value
        return tensors

    def publish(self, version, tensors=None, signature=None, **metadata):
        signature = signature or self.checkpoint.signature
        payload = pack_weights(version, tensors or self.tensors(), {"signature": signature, "encoder": self.actor.fingerprint, **metadata})
        self.sender.announce(self.outbox.put("weights", f"weights_{version}", version, payload, signature))


class Pupil:
    """Receives payloads as policy (weights) or learner (episodes) do."""

    def __init__(self, probe, prefix, profile):
        self.completed = []
        self.inbox = Inbox()
        self.receiver = PayloadReceiver(probe.node, prefix, profile, self.inbox, lambda completed, announced: self.completed.append(completed))


def make_episode(id, steps=20, success=True, best_of_n=False):
    rng = np.random.default_rng(sum(map(ord, id)))
    images = {key: np.stack([pictures(index)[key] // 16 * 16 for index in range(steps + 1)]) for key in EMBODIMENT.cameras}
    return Episode(
        id=id,
        task="lift",
        seed=3,
        outcome=Outcome.SUCCESS if success else Outcome.TIMEOUT,
        stamps_ns=np.arange(steps + 1, dtype=np.int64) * EMBODIMENT.period_ns + 10**9,
        images=images,
        states=rng.normal(size=(steps + 1, 4)).astype(np.float32),
        actions=rng.uniform(-1, 1, (steps, 4)).astype(np.float32),
        rewards=np.eye(1, steps, steps - 1, dtype=np.float32)[0] * success,
        policy_versions=np.zeros(steps, np.int64),
        sources=np.ones(steps, np.uint8),
        best_of_n=best_of_n,
        embodiment=EMBODIMENT,
    )


@pytest.fixture(scope="session")
def play():
    """The parts that a test can play, and what they show."""
    torch.set_num_threads(1)
    return {"feed": Feed, "teacher": Teacher, "pupil": Pupil, "pictures": pictures, "episode": make_episode, "bytes": lambda data: array.array("B", data)}
