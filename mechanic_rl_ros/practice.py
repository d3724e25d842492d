"""The whole practice loop without ROS, faster than real time: practise, learn, act with what was learned."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mechanic_rl_ros.algorithms.gate import alternates
from mechanic_rl_ros.algorithms.learner import Learner
from mechanic_rl_ros.algorithms.learner_config import LearnerConfig
from mechanic_rl_ros.algorithms.registry import learner_of
from mechanic_rl_ros.algorithms.tuners import TunerFactory
from mechanic_rl_ros.data import Episode
from mechanic_rl_ros.policy.acting import Actor
from mechanic_rl_ros.policy.checkpoint import Checkpoint, unpack_weights
from mechanic_rl_ros.rollout import run_episode
from mechanic_rl_ros.sim.environment import Environment

SEEDS_PER_RUN = 1000
"""Scene seeds of one practice."""


TAKEOVER = 30
"""Steps after which the scripted expert takes over from a policy whose learner lives from that: about as long as most solved episodes take."""


@dataclass(frozen=True)
class Practised:
    """An episode of practice, and how the learner stands after it.

    Attributes:
        number: From 1.
        episode: What was recorded.
        learner: After learning from it.
        seconds: Processor seconds that learning has taken so far.
    """

    number: int
    episode: Episode
    learner: Learner
    seconds: float


def practise(
    checkpoint: Checkpoint,
    config: LearnerConfig,
    seed: int,
    episodes: int,
    latency: float,
    watch: Callable[[Practised], None],
    tuner: TunerFactory | None = None,
    begun: Sequence[Episode] = (),
) -> Learner:
    """Practises as the live graph does: every second episode best-of-N, new weights between two episodes.

    Args:
        checkpoint: The policy to improve.
        config: Settings of the learner, which say what learner it is.
        seed: Seed of scenes and learner.
        episodes: How many.
        latency: Seconds until a chunk takes effect, see ``run_episode``.
        watch: Called after every episode.
        tuner: Makes the optimizers; the learner's default when left out.
        begun: The first episodes, where they are known already: of ``warm_up`` with the same policy, seed and latency, for a learner that needs no takeovers.

    Returns:
        The learner at the end.
    """
    kind = learner_of(config.SECTION)
    checkpoint = kind.prepare(config, checkpoint, seed)
    env, actor = Environment(checkpoint.task, checkpoint.embodiment), Actor(checkpoint, explore=True)
    learner, seconds = kind.create(config, checkpoint, seed, tuner=tuner), 0.0
    _catch_up(learner, actor)  # what critics learn from demonstrations comes before the first episode
    for number in range(episodes):
        takeover = TAKEOVER if kind.needs_takeovers else None
        best_of_n = alternates(number)
        episode = begun[number] if number < len(begun) else run_episode(env, actor, _scene(seed, number), best_of_n, latency=latency, takeover=takeover)
        started = time.process_time()
        learner.add_episode(episode)
        _catch_up(learner, actor)
        seconds += time.process_time() - started
        watch(Practised(number + 1, episode, learner, seconds))
    env.close()
    return learner


def warm_up(checkpoint: Checkpoint, seed: int, episodes: int, latency: float) -> list[Episode]:
    """The first episodes of ``practise``, in which nothing was learned yet: the same for everything that learns from them."""
    env, actor = Environment(checkpoint.task, checkpoint.embodiment), Actor(checkpoint, explore=True)
    done = [run_episode(env, actor, _scene(seed, number), alternates(number), latency=latency) for number in range(episodes)]
    env.close()
    return done


def _scene(seed: int, number: int) -> int:
    return SEEDS_PER_RUN * seed + number


def _catch_up(learner: Learner, actor: Actor) -> None:
    """All updates that are due; then what should act, acts."""
    before = learner.version
    while learner.updates_due():
        learner.update()
    if learner.version != before or learner.guard.acting_version != actor.version:
        version, tensors, metadata = unpack_weights(learner.weights(), actor.signature)
        actor.load(tensors, version, metadata)
