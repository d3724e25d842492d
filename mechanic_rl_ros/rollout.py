"""One episode in the environment, chosen by a policy or by anything else, recorded as the live graph records it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import NO_TRACE, Episode, Observation, Outcome, Source, stack_traces
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.latency import LatencyMode
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
    latency_mode: LatencyMode = LatencyMode.OVERLAPPING,
) -> Episode:
    """Runs one episode with a receding horizon: T_p actions predicted, the first T_a executed.

    Args:
        env: Where to act.
        actor: The policy. Its sampling noise is seeded by the scene, so that the episode can be repeated.
        seed: Scene seed.
        best_of_n: Let the critics choose among several chunks.
        region: Part of the scene in which objects are placed.
        latency: Seconds from an observation until its chunk is ready. The action recorded for an interval is the average of what was commanded.
        actor_seed: Seed of the sampling noise; the scene's unless given.
        takeover: Steps after which the task's scripted expert takes over, as a person would who has seen enough; never when left out.
        latency_mode: What the arm does until then.

    Returns:
        The episode.

    Raises:
        UserError: The latency is longer than what is played of a chunk, or the policy cannot inpaint.
    """
    player = _begin(actor, seed if actor_seed is None else actor_seed, best_of_n, latency, latency_mode)
    name = f"{env.simulation.task.name}-{seed:07d}-v{actor.version:06d}"
    chosen = best_of_n and actor.has_critic
    watched = _Watched(env, player, takeover)
    return record_episode(
        env, watched, seed, name, region=region, source=lambda: watched.source, trace=lambda: watched.trace, version=actor.version, best_of_n=chosen
    )


def solves(
    env: Environment,
    actor: Actor,
    seed: int,
    best_of_n: bool = False,
    region: str = "all",
    latency: float = 0.0,
    latency_mode: LatencyMode = LatencyMode.OVERLAPPING,
) -> bool:
    """Whether the policy solves a scene: as ``run_episode`` would, which records all, in less time, since images that the policy does not look at are not made.

    Arguments are those of ``run_episode``; ``latency`` is in seconds.

    Raises:
        UserError: As ``run_episode``.
    """
    player = _begin(actor, seed, best_of_n, latency, latency_mode)
    observation: Observation | None = env.reset(seed, region)
    while True:
        success, over = env.move(player(observation))
        if over:
            return success
        observation = env.observe() if player.looks else None


def _begin(actor: Actor, seed: int, best_of_n: bool, latency: float, mode: LatencyMode) -> _ChunkPlayer:
    """The policy at the start of an episode.

    Raises:
        UserError: As ``run_episode``.
    """
    delay, horizon = latency * actor.embodiment.policy_rate, actor.config.action_horizon
    if delay > horizon:
        raise UserError(f"a latency of {latency:g} s is longer than the {horizon} actions that are played of a chunk take: give a shorter one")
    if actor.explore and actor.config.schedule.exploration and mode is not LatencyMode.OVERLAPPING:
        raise UserError(f"a policy whose chains are recorded cannot practise in latency mode {mode.value}: use overlapping")
    actor.reset(seed)
    return _ChunkPlayer(actor, best_of_n, delay, mode)


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
    """Plays T_a actions of every chunk. Chunks are ready ``delay`` periods after their observation."""

    def __init__(self, actor: Actor, best_of_n: bool, delay: float, mode: LatencyMode) -> None:
        self.actor, self.best_of_n, self.delay, self.mode = actor, best_of_n, delay, mode
        self.horizon, self.whole = actor.config.action_horizon, math.ceil(delay - 1e-9)
        self.cycle = self.horizon + (self.whole if mode is LatencyMode.WAITING else 0)  # periods from one chunk's observation to the next one's
        self.step = self.cycle  # periods since the observation of the chunk
        self.action = np.zeros(len(actor.embodiment.action), np.float32)
        self.chunk = self.previous = np.empty((0, len(self.action)), np.float32)
        self.trace = NO_TRACE

    @property
    def looks(self) -> bool:
        """Whether a chunk will be drawn from the next observation."""
        return self.step > self.cycle - self.actor.config.observation_horizon

    def __call__(self, observation: Observation | None) -> NDArray[np.float32]:
        """The action for now; an observation may be left out where nothing is drawn from it."""
        if observation is not None:
            self.actor.observe(observation)
        self.trace = NO_TRACE
        if self.step == self.cycle:
            fresh = self.actor.act(self.best_of_n, self.whole if self.mode is LatencyMode.INPAINTING else None)
            self.previous, self.chunk, self.step, self.trace = self.chunk, fresh, 0, self.actor.trace
        late, before, after = self._waiting() if self.mode is LatencyMode.WAITING else self._overlapping()
        self.action = (late * before + (1.0 - late) * after).astype(np.float32)
        self.step += 1
        return self.action

    def _overlapping(self) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
        """Part of this period in which the previous chunk plays, its action, and that of the new chunk."""
        late = min(max(self.delay - self.step, 0.0), 1.0)
        return late, self._of(self.previous, self.horizon + self.step), self._of(self.chunk, self.step)

    def _waiting(self) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:
        """Part of this period that belongs to the earlier of two actions, and both. They follow one another in the middle of periods."""
        played, place = self.chunk[: self.horizon], self.step - self.whole
        return 1.0 - (self.whole - self.delay), self._of(played, place), self._of(played, place + 1)

    def _of(self, actions: NDArray[np.float32], place: int) -> NDArray[np.float32]:
        """An action; where there is none the arm holds, and the hand stays as it is."""
        if 0 <= place < len(actions):
            return actions[place]
        hold = np.zeros_like(self.action)
        hold[-1] = self.action[-1]
        return hold
