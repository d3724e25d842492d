"""One episode in the environment, chosen by a policy or by anything else, recorded as the live graph records it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import NO_TRACE, Episode, Observation, Outcome, Source, stack_traces
from mechanic_rl_ros.policy.acting import Actor

if TYPE_CHECKING:
    from mechanic_rl_ros.sim.environment import Environment


Choose = Callable[[Observation], NDArray[np.float32]]


def run_episode(
    env: Environment,
    actor: Actor,
    seed: int,
    best_of_n: bool = False,
    region: str = "all",
    latency: float = 0.0,
    actor_seed: int | None = None,
    takeover: int | None = None,
) -> Episode:
    """Runs one episode with a receding horizon: T_p actions predicted, the first T_a executed.

    Args:
        env: Where to act.
        actor: The policy. Its sampling noise is seeded by the scene, so that the episode can be repeated.
        seed: Scene seed.
        best_of_n: Let the critics choose among several chunks.
        region: Part of the scene in which objects are placed.
        latency: Seconds until a chunk takes effect, less than a period. Until then the previous chunk plays on, and the action recorded for the
            interval is the average of what was commanded.
        actor_seed: Seed of the sampling noise; the scene's unless given.
        takeover: Steps after which the task's scripted expert takes over, as a person would who has seen enough; never when left out.

    Returns:
        The episode.
    """
    player = _ChunkPlayer(actor, best_of_n, latency * actor.embodiment.policy_rate)
    actor.reset(seed if actor_seed is None else actor_seed)
    name = f"{env.simulation.task.name}-{seed:07d}-v{actor.version:06d}"
    chosen = best_of_n and actor.has_critic
    watched = _Watched(env, player, takeover)
    return record_episode(
        env, watched, seed, name, region=region, source=lambda: watched.source, trace=lambda: watched.trace, version=actor.version, best_of_n=chosen
    )


def record_episode(
    env: Environment,
    choose: Choose,
    seed: int,
    name: str,
    *,
    region: str = "all",
    source: Source | Callable[[], Source] = Source.POLICY,
    trace: Callable[[], NDArray[np.float32]] = lambda: NO_TRACE,
    version: int = 0,
    best_of_n: bool = False,
) -> Episode:
    """Runs one episode, asking ``choose`` for every action, and records it.

    Args:
        env: Where to act.
        choose: Maps an observation to a normalised action (A,).
        seed: Scene seed.
        name: Id of the episode.
        region: Part of the scene in which objects are placed.
        source: Recorded with every step; asked for after ``choose`` where it changes.
        trace: Recorded with every step, asked for after ``choose``.
        version: Policy version, recorded with every step.
        best_of_n: Recorded.

    Returns:
        The episode.
    """
    observations, actions, rewards = [env.reset(seed, region)], [], []
    sources, traces = [], []
    while True:
        actions.append(choose(observations[-1]))
        sources.append(int(source() if callable(source) else source))
        traces.append(trace())
        result = env.step(actions[-1])
        observations.append(result.observation)
        rewards.append(result.reward)
        if result.terminated or result.truncated:
            break
    outcome = Outcome.SUCCESS if result.success else Outcome.FAILURE if result.terminated else Outcome.TIMEOUT
    steps = len(actions)
    return Episode(
        id=name,
        task=env.simulation.task.name,
        seed=seed,
        outcome=outcome,
        stamps_ns=np.array([item.stamp_ns for item in observations], np.int64),
        images={key: np.stack([item.images[key] for item in observations]) for key in env.simulation.embodiment.cameras},
        states=np.stack([item.state for item in observations]).astype(np.float32),
        actions=np.stack(actions).astype(np.float32),
        rewards=np.array(rewards, np.float32),
        policy_versions=np.full(steps, version, np.int64),
        sources=np.array(sources, np.uint8),
        best_of_n=best_of_n,
        embodiment=env.simulation.embodiment,
        traces=stack_traces(traces),
    )


class _Watched:
    """The policy, and after some steps the expert in its place."""

    def __init__(self, env: Environment, player: _ChunkPlayer, takeover: int | None) -> None:
        self.env, self.player, self.left = env, player, takeover
        self.source = Source.POLICY

    @property
    def trace(self) -> NDArray[np.float32]:
        return self.player.trace if self.source is Source.POLICY else NO_TRACE

    def __call__(self, observation: Observation) -> NDArray[np.float32]:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                self.source = Source.HUMAN
                return np.asarray(self.env.expert(), np.float32)
        return self.player(observation)


class _ChunkPlayer:
    """Plays the first T_a actions of every chunk; the first of them late by ``delay`` periods."""

    def __init__(self, actor: Actor, best_of_n: bool, delay: float) -> None:
        self.actor, self.best_of_n, self.delay = actor, best_of_n, delay
        self.chunk: NDArray[np.float32] | None = None
        self.played = 0
        self.trace = NO_TRACE

    def __call__(self, observation: Observation) -> NDArray[np.float32]:
        self.actor.observe(observation)
        if self.chunk is not None and self.played < self.actor.config.action_horizon:
            self.played, self.trace = self.played + 1, NO_TRACE
            return self.chunk[self.played - 1]
        fresh = self.actor.act(self.best_of_n)
        before = np.zeros_like(fresh[0]) if self.chunk is None else self.chunk[min(self.played, len(fresh) - 1)]
        self.chunk, self.played, self.trace = fresh, 1, self.actor.trace
        return (self.delay * before + (1.0 - self.delay) * fresh[0]).astype(np.float32)
