"""What the nodes under test expect from the others: observations, weights and episodes."""

import numpy as np
import pytest
import torch
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from mechanic_rl_ros import msg
from mechanic_rl_ros.data import ActionChunk, Episode, Outcome
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import stamp
from mechanic_rl_ros.nodes.convert import chunk_to_message, image_to_message, trajectory_from_message
from mechanic_rl_ros.nodes.payloads import PayloadReceiver, PayloadSender
from mechanic_rl_ros.policy.acting import Actor, acting_tensors
from mechanic_rl_ros.policy.checkpoint import Checkpoint, pack_weights
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.sim.trajectory import TrajectoryController
from mechanic_rl_ros.transfer import EPISODE, WEIGHTS, Inbox, Outbox

EMBODIMENT = load_embodiment()
HOME = np.array(EMBODIMENT.joints.home)
NAMES = EMBODIMENT.joints.names
TICK_NS = 20_000_000
LEARNER = "/learner_node"
State = msg.EpisodeState


def pictures(index):
    """Images of both cameras that differ from instant to instant, as the policy sees them."""
    rng = np.random.default_rng(index)
    return {key: rng.integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8) for key, spec in EMBODIMENT.cameras.items()}


class Feed:
    """Camera node, arm and episode node, played by the test: one instant after the other on the policy's grid."""

    def __init__(self, probe):
        self.probe, self.now_ns, self.number, self.index = probe, 50 * 10**9, 0, 0
        self.delay_ns = 0  # of everything that it sends
        self.finger = 0.03
        publish = probe.node.create_publisher
        self.images = {key: publish(Image, spec.topic, qos.COMMAND) for key, spec in EMBODIMENT.cameras.items()}
        self.joints = publish(JointState, EMBODIMENT.joints.topic, qos.COMMAND)
        self.episodes = publish(msg.EpisodeState, "episode", qos.STATE)
        self.clock = publish(Clock, "/clock", qos.SENSOR)
        self.diagnostics = probe.hear(DiagnosticArray, "/diagnostics", 10)
        probe.every(TICK_NS * 1e-9, self._tell_time)

    def _tell_time(self):
        self.clock.publish(Clock(clock=stamp(self.now_ns + self.delay_ns)))

    def join(self):
        """Waits until a node listens. That it is heard, too, tells that both sides know each other: before that, images could be lost."""
        publishers = [*self.images.values(), self.joints, self.episodes]
        self.probe.wait_for(lambda: all(publisher.get_subscription_count() for publisher in publishers), "the node's subscriptions")
        self.diagnostics.clear()
        self.probe.wait_for(lambda: any(status.message != "not active" for array in self.diagnostics for status in array.status), "an active node")

    def announce(self, state, **fields):
        message = msg.EpisodeState(**{"id": self.id, "number": self.number, "state": state, "task": "lift", "seed": 7, "step_limit": 600, **fields})
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
        self._tell_time()
        time = stamp(self.now_ns)
        state = JointState(name=[*EMBODIMENT.joints.names, EMBODIMENT.joints.finger], position=[*(HOME + 0.001 * self.index), self.finger])
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

    def prepare(self, version, tensors=None, signature=None, **metadata):
        """The manifest of weights that can be announced: to make them takes time, in which the test hears nothing."""
        signature = signature or self.checkpoint.signature
        payload = pack_weights(version, tensors or self.tensors(), {"signature": signature, "encoder": self.actor.fingerprint, **metadata})
        return self.outbox.put("weights", f"weights_{version}", version, payload, signature)

    def publish(self, *weights, **options):
        self.sender.announce(self.prepare(*weights, **options))


class Pupil:
    """Receives payloads as policy (weights) or learner (episodes) do."""

    def __init__(self, probe, prefix, profile, **options):
        self.completed = []
        self.inbox = Inbox({"episodes": EPISODE, "weights": WEIGHTS}[prefix])
        self.receiver = PayloadReceiver(probe.node, prefix, profile, self.inbox, lambda completed, announced: self.completed.append(completed), **options)


class Arm:
    """Clock, joint states and trajectory controller of an arm, in lockstep with the probe's timer; and the policy that moves it."""

    def __init__(self, ros, **parameters):
        self.nodes, self.probe = ros
        self.parameters = parameters  # of command_node
        self.controller = TrajectoryController(EMBODIMENT.joints.home)
        self.kinematics = Kinematics(EMBODIMENT)
        self.now_ns, self.number, self.drive = 100 * 10**9, 0, None
        self.clock_runs = self.joints_flow = self.episode_node_lives = True
        self.finger = 0.04
        self.step_limit = 600
        self.speeds = []  # of the fastest joint, (arm's time in ns, rad/s)
        hear, publish = self.probe.hear, self.probe.node.create_publisher
        self.trajectories = hear(JointTrajectory, "fr3_arm_controller/joint_trajectory", qos.TRAJECTORY, self._follow)
        self.fingers = hear(Float64MultiArray, "fr3_gripper_controller/commands", qos.TRAJECTORY)
        self.executed = hear(msg.ExecutedAction, "executed_action", qos.COMMAND)
        self.status = hear(msg.CommandStatus, "command_status", qos.STATE)
        self.diagnostics = hear(DiagnosticArray, "/diagnostics", 10)
        self.clock = publish(Clock, "/clock", qos.SENSOR)
        self.joints = publish(JointState, EMBODIMENT.joints.topic, qos.SENSOR)
        self.episodes = publish(State, "episode", qos.STATE)
        self.chunks = publish(msg.ActionChunk, "action_chunk", qos.COMMAND)
        self.operator = publish(msg.Intervention, "intervention", qos.COMMAND)
        self.emergency = publish(Bool, "emergency_stop", qos.COMMAND)
        self.probe.witness = lambda: f"{len(self.trajectories)} trajectories came, command_node says {self.says()}, its status {self.status[-1:]}"
        self.process = self.join()
        self.probe.every(TICK_NS * 1e-9, self._tick)
        self.probe.every(0.3, self._repeat)

    def join(self):
        process = self.nodes.start("command_node", use_sim_time=True, **self.parameters)
        listeners = (self.clock, self.joints, self.episodes, self.chunks, self.operator, self.emergency)
        self.probe.wait_for(lambda: all(publisher.get_subscription_count() for publisher in listeners), "command_node")
        return process

    def change_state(self, transition):
        """Whether the node made this lifecycle transition."""
        return self.probe.call(ChangeState, "command_node/change_state", ChangeState.Request(transition=Transition(id=transition))).success

    def _follow(self, message):
        self.controller.set_trajectory(trajectory_from_message(message, NAMES), self.now_ns)

    def _tick(self):
        if not self.clock_runs:
            return
        self.now_ns += TICK_NS
        self.clock.publish(Clock(clock=stamp(self.now_ns)))
        positions, velocities = self.controller.sample(self.now_ns)
        self.speeds.append((self.now_ns, float(np.abs(velocities).max())))
        if self.joints_flow:
            message = JointState(name=[*NAMES, EMBODIMENT.joints.finger], position=[*positions, self.finger], velocity=[*velocities, 0.0])
            message.header.stamp = stamp(self.now_ns)
            self.joints.publish(message)
        if self.drive is not None and self.now_ns % 200_000_000 == 0:
            self.send(self.drive)

    def send(self, action, *, episode=None, at_ns=None, **changes):
        chunk = ActionChunk(at_ns or self.now_ns, EMBODIMENT.period_ns, np.tile(np.array(action, np.float32), (8, 1)), 5, False, episode or self.id)
        message = chunk_to_message(chunk, EMBODIMENT.base_frame, 0.01)
        for name, value in changes.items():
            setattr(message, name, value)
        self.chunks.publish(message)

    def operate(self, action):
        message = msg.Intervention(active=True, action=action)
        message.header.stamp = stamp(self.now_ns)
        self.operator.publish(message)

    def announce(self, state):
        self.state = State(step_limit=self.step_limit, id=self.id, number=self.number, state=state)
        self.state.header.stamp = stamp(self.start_ns)
        self.episodes.publish(self.state)

    def _repeat(self):
        if self.number and self.episode_node_lives:
            self.episodes.publish(self.state)

    def begin(self):
        """A new episode from home, as after a reset, in which nobody acts yet."""
        self.controller.hold(EMBODIMENT.joints.home)
        self.number += 1
        self.id, self.start_ns = f"lift_{self.number}", self.now_ns
        self.announce(State.READY)
        self.pass_time(0.5)
        self.start_ns = self.now_ns // EMBODIMENT.period_ns * EMBODIMENT.period_ns + EMBODIMENT.period_ns
        self.announce(State.RUNNING)
        self.executed.clear()

    def end(self):
        self.drive = None
        self.announce(State.ENDED)
        self.probe.wait_for(lambda: self.speed() == 0.0 and self.holding() == "no episode is running", "rest")

    def pass_time(self, seconds):
        until = self.now_ns + round(seconds * 1e9)
        self.probe.wait_for(lambda: self.now_ns >= until, "the arm's time")

    def speed(self):
        return self.speeds[-1][1] if self.speeds else 0.0

    def rests_from(self, since_ns):
        """Whether it moved at no time since then."""
        return not any(speed for at_ns, speed in self.speeds if at_ns >= since_ns)

    def hand(self):
        return self.kinematics.tcp(self.controller.sample(self.now_ns)[0])[0]

    def says(self):
        """Level and message of the node's last diagnostics."""
        return next(((s.level, s.message) for array in reversed(self.diagnostics) for s in array.status if s.name == "command_node"), (b"", ""))

    def value(self, key):
        """A value of the node's last diagnostics."""
        statuses = (s for array in reversed(self.diagnostics) for s in array.status if s.name == "command_node")
        return next(value.value for status in statuses for value in status.values if value.key == key)

    def holding(self):
        return self.says()[1].removeprefix("holding: ")

    def await_holding(self, reason):
        self.diagnostics.clear()
        self.probe.wait_for(lambda: self.holding() == reason, f"holding because {reason}")

    def await_fresh_status(self):
        """Waits until what was measured before is told; what ``status`` holds from now on was measured from now on."""
        self.status.clear()
        self.probe.wait_for(lambda: self.status, "a status")
        self.status.clear()

    def await_motion(self):
        before = self.hand()
        self.probe.wait_for(lambda: np.linalg.norm(self.hand() - before) > 0.005, "motion")


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
    return {"arm": Arm, "feed": Feed, "teacher": Teacher, "pupil": Pupil, "pictures": pictures, "episode": make_episode}
