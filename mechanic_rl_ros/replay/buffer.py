"""Replay of encoded frames: rows (observation, chunk, n-step return, next observation) at stride 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.config import PolicyConfig


@dataclass
class Rows:
    """A batch of B rows.

    Attributes:
        frames: (B, T_o, frame_dim), oldest first; what is not yet seen at an episode's start is its first frame.
        chunks: (B, T_p, A), the first past_actions of them before the newest frame; beyond an episode's ends its first and last action go on.
        returns: (B,), sum of gamma^k r over n <= T_a steps.
        discounts: (B,), gamma^n, or 0 where a terminal state (success or failure) is reached within n steps. Time-outs are bootstrapped through.
        next_frames: (B, T_o, frame_dim), n steps later.
        solved: (B,), 1 in episodes that ended in success.
    """

    frames: Tensor
    chunks: Tensor
    returns: Tensor
    discounts: Tensor
    next_frames: Tensor
    solved: Tensor

    @staticmethod
    def join(first: Rows, second: Rows) -> Rows:
        """Rows of both."""
        return Rows(**{name: torch.cat([getattr(first, name), getattr(second, name)]) for name in Rows.__dataclass_fields__})


class ReplayBuffer:
    """A ring of frames; the oldest episodes make room for new ones.

    Position p of the ring holds frame p and the action taken at it; the last frame of an episode has no action and is no row. Visual features are
    kept in half precision.
    """

    def __init__(self, config: PolicyConfig, capacity: int, gamma: float, device: torch.device | str = "cpu") -> None:
        """Allocates room for ``capacity`` frames; ``gamma`` discounts one step."""
        self.config, self.capacity, self.gamma, self.device = config, capacity, gamma, torch.device(device)
        self._features = torch.zeros(capacity, config.feature_dim, dtype=torch.float16, device=self.device)
        self._states = torch.zeros(capacity, config.state_dim, device=self.device)
        self._actions = torch.zeros(capacity, config.action_dim, device=self.device)
        self._rewards = torch.zeros(capacity, device=self.device)
        self._episodes: list[tuple[int, int, bool, bool]] = []  # first position, frames, solved, terminal; oldest first
        self._head = 0
        self._rebuild()

    def __len__(self) -> int:
        """Number of rows."""
        return len(self._rows)

    @property
    def episodes(self) -> int:
        """Number of episodes that are still held."""
        return len(self._episodes)

    def add(self, frames: Tensor, actions: Tensor, rewards: Tensor, solved: bool, terminal: bool) -> None:
        """Adds one episode.

        Args:
            frames: (T + 1, frame_dim).
            actions: (T, A) as executed.
            rewards: (T,).
            solved: Whether it ended in success.
            terminal: Whether nothing follows its last frame: true for a success or a failure, false for a time-out.

        Raises:
            UserError: The episode has no step, or is longer than the buffer.
        """
        count = len(frames)
        if not 2 <= count <= self.capacity:
            raise UserError(
                f"an episode of {count - 1} steps does not fit into a replay of {self.capacity} frames: record longer episodes, or set replay_frames higher"
            )
        start = self._head if self._head + count <= self.capacity else 0
        self._episodes = [item for item in self._episodes if item[0] + item[1] <= start or item[0] >= start + count]
        where = slice(start, start + count)
        self._features[where] = frames[:, : self.config.feature_dim].half()
        self._states[where] = frames[:, self.config.feature_dim :]
        self._actions[where] = torch.cat([actions, actions[-1:]])
        self._rewards[where] = torch.cat([rewards, torch.zeros_like(rewards[:1])])
        self._episodes.append((start, count, solved, terminal))
        self._head = start + count
        self._rebuild()

    def add_demonstrations(self, demonstrations: dict[str, Tensor]) -> None:
        """Adds what ``Checkpoint.demonstrations`` holds: solved episodes, a reward of 1 at their end."""
        lengths = demonstrations["lengths"].tolist()
        frames, actions = (demonstrations[name].float().to(self.device).split(lengths) for name in ("frames", "actions"))
        for seen, done in zip(frames, actions, strict=True):
            rewards = torch.zeros(len(seen) - 1, device=self.device)
            rewards[-1] = 1.0
            self.add(seen, done[:-1], rewards, solved=True, terminal=True)

    def sample(self, count: int, generator: torch.Generator) -> Rows:
        """Draws ``count`` rows uniformly, with replacement."""
        return self.rows(self._rows[torch.randint(len(self._rows), (count,), generator=generator, device=self.device)])

    def rows(self, positions: Tensor) -> Rows:
        """The rows at ring positions (B,)."""
        first, last, solved = self._first[positions], self._last[positions], self._solved[positions]
        following = torch.minimum(positions + self.config.action_horizon, last)
        steps = torch.arange(self.config.action_horizon, device=self.device)
        visited = positions[:, None] + steps
        rewards = torch.where(visited < last[:, None], self._rewards[visited.clamp(max=self.capacity - 1)], 0.0)
        chunk = positions[:, None] - self.config.past_actions + torch.arange(self.config.prediction_horizon, device=self.device)
        chunk = torch.minimum(torch.maximum(chunk, first[:, None]), last[:, None] - 1)
        ended = self._terminal[positions] & (following == last)
        return Rows(
            frames=self._window(positions, first),
            chunks=self._actions[chunk],
            returns=(rewards * self.gamma**steps).sum(dim=1),
            discounts=torch.where(ended, 0.0, self.gamma ** (following - positions).float()),
            next_frames=self._window(following, first),
            solved=solved.float(),
        )

    def state(self) -> dict[str, Tensor]:
        """Everything as tensors, for a file; ``restore`` takes it back."""
        used = max((start + count for start, count, *_ in self._episodes), default=0)
        episodes = torch.tensor(self._episodes, dtype=torch.int64).reshape(-1, 4)
        names = ("features", "states", "actions", "rewards")
        return {**{name: getattr(self, f"_{name}")[:used].cpu() for name in names}, "episodes": episodes, "head": torch.tensor([self._head])}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes back what ``state`` gave.

        Raises:
            UserError: It was saved by a replay of other sizes.
        """
        episodes = [(start, count, bool(solved), bool(terminal)) for start, count, solved, terminal in state["episodes"].tolist()]
        used = max((start + count for start, count, *_ in episodes), default=0)
        for name in ("features", "states", "actions", "rewards"):
            target = getattr(self, f"_{name}")
            if used > self.capacity or state[name].shape != target[:used].shape:
                raise UserError("the saved replay has another size: use the checkpoint and the replay_frames that it was saved with")
            target[:used] = state[name].to(self.device)
        self._episodes, self._head = episodes, int(state["head"][0])
        self._rebuild()

    def _window(self, positions: Tensor, first: Tensor) -> Tensor:
        back = torch.arange(self.config.observation_horizon - 1, -1, -1, device=self.device)
        wanted = torch.maximum(positions[:, None] - back, first[:, None])
        return torch.cat([self._features[wanted].float(), self._states[wanted]], dim=-1)

    def _rebuild(self) -> None:
        self._first = torch.zeros(self.capacity, dtype=torch.int64, device=self.device)
        self._last = torch.zeros_like(self._first)
        self._solved = torch.zeros(self.capacity, dtype=torch.bool, device=self.device)
        self._terminal = torch.zeros_like(self._solved)
        rows = []
        for start, count, solved, terminal in self._episodes:
            where = slice(start, start + count)
            self._first[where], self._last[where], self._solved[where], self._terminal[where] = start, start + count - 1, solved, terminal
            rows.append(torch.arange(start, start + count - 1))
        self._rows = (torch.cat(rows) if rows else torch.zeros(0, dtype=torch.int64)).to(self.device)
