"""Replay of encoded frames: rows (observation, chunk, n-step return, next observation) at stride 1."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.replay.episode_index import EpisodeIndex, Held
from mechanic_rl_ros.replay.frame_files import FrameFiles
from mechanic_rl_ros.replay.frame_memory import FrameMemory
from mechanic_rl_ros.replay.priorities import Priorities
from mechanic_rl_ros.replay.rows import Rows

UNSAVED = 20_000
"""Frames that may come in files between two saves: so many slots more than the capacity, so that nothing that the last save counts is overwritten."""


class ReplayBuffer:
    """A ring of frames; the oldest episodes make room for new ones.

    Position p holds frame p and the action taken at it; the last frame of an episode has no action and is no row. Positions grow for ever, and lie in
    slot p modulo the length of the ring; an episode never goes around its end. Visual features are kept in half precision.

    Frames lie in memory, on the learner's device; or in memory-mapped files in a folder, of which only what is drawn comes into memory.

    Attributes:
        lost: Episodes that a restored state counts and the files do not have any more: add them again.
    """

    def __init__(
        self,
        config: PolicyConfig,
        capacity: int,
        gamma: float,
        device: torch.device | str = "cpu",
        folder: Path | None = None,
        encoder: str = "",
        images: Mapping[str, tuple[int, int]] | None = None,
        alpha: float = 0.0,
    ) -> None:
        """Holds nothing yet, or what ``restore`` finds in ``folder``.

        Args:
            config: Sizes of frames, and which of them are a row.
            capacity: Frames that are kept.
            gamma: Discount of one step.
            device: Where rows are wanted.
            folder: For the frames; None keeps them in memory.
            encoder: Fingerprint of the encoders that make them.
            images: Camera -> height and width, to keep raw images too.
            alpha: Exponent of the priorities with which rows are drawn (Schaul et al. 2016, eq. 1); 0 is uniform.
        """
        self.config, self.capacity, self.gamma, self.device = config, capacity, gamma, torch.device(device)
        self.lost: set[str] = set()
        self._damage = ""
        self._folder, self._encoder = folder, encoder
        self._types = _record_types(config, images or {})
        self._slots = capacity + (UNSAVED if folder else 0)
        self._place = torch.device("cpu") if folder else self.device
        self._index = EpisodeIndex(self._place)
        self._priorities = Priorities(self._slots, alpha, self._place) if alpha else None
        self._back = torch.arange(1 - config.observation_horizon, 1, device=self._place)  # records of a row, counted from its own
        self._steps = torch.arange(config.action_horizon, device=self._place)
        self._chunk = torch.arange(config.prediction_horizon, device=self._place) - config.past_actions
        self._discounts = gamma**self._steps
        self._counted = 0  # first position that the last ``state`` counts

    def __len__(self) -> int:
        """Number of rows."""
        return self._index.rows

    @property
    def episodes(self) -> int:
        """Number of episodes that are still held."""
        return len(self._index)

    @property
    def end(self) -> int:
        """Position behind the newest frame. It only grows, also where older episodes make room."""
        return self._head

    @property
    def fault(self) -> str:
        """What was wrong with the files, in one line; empty if nothing."""
        return self._frames.fault or self._damage

    def add(
        self,
        frames: Tensor,
        actions: Tensor,
        rewards: Tensor,
        solved: bool,
        terminal: bool,
        id: str = "",
        images: Mapping[str, Tensor] | None = None,
        part: tuple[int, int] | None = None,
    ) -> None:
        """Adds one episode, or a part of it.

        Args:
            frames: (T + 1, frame_dim).
            actions: (T, A) as executed.
            rewards: (T,).
            solved: Whether it ended in success.
            terminal: Whether nothing follows its last frame: true for a success or a failure, false for a time-out.
            id: Its name, by which it is found in files again.
            images: Camera -> uint8 (T + 1, H, W, 3), where raw images are kept.
            part: First and one past the last step that are to be rows. The others are kept as far as those rows see them, and what came of them.

        Raises:
            UserError: The episode has no step, or is longer than the buffer.
            FullDiskError: There is no room for it now. Nothing was added.
        """
        before = after = 0
        if part is not None:
            first, last = max(part[0] - len(self._back) + 1, 0), min(part[1] + max(len(self._steps), int(self._chunk[-1])), len(actions))
            before, after, terminal = part[0] - first, last - part[1], terminal and last == len(actions)
            frames, actions, rewards = frames[first : last + 1], actions[first:last], rewards[first:last]
            images = {camera: seen[first : last + 1] for camera, seen in (images or {}).items()}
        values = {
            "features": frames[:, : self.config.feature_dim].half(),
            "states": frames[:, self.config.feature_dim :],
            "actions": torch.cat([actions, actions[-1:]]),
            "rewards": torch.cat([rewards, torch.zeros_like(rewards[:1])]),
            **(images or {}),
        }
        held = self._frames.write(self._next_place(len(frames))._replace(solved=solved, terminal=terminal, id=id, before=before, after=after), values)
        self._append(held)
        self.lost.discard(id)
        if self._priorities is not None:
            self._priorities[self._row_slots(held)] = self._priorities.highest

    def add_demonstrations(self, demonstrations: dict[str, Tensor]) -> None:
        """Adds what ``Checkpoint.demonstrations`` holds: solved episodes, a reward of 1 at their end."""
        lengths = demonstrations["lengths"].tolist()
        frames, actions = (demonstrations[name].float().to(self.device).split(lengths) for name in ("frames", "actions"))
        for seen, done in zip(frames, actions, strict=True):
            rewards = torch.zeros(len(seen) - 1, device=self.device)
            rewards[-1] = 1.0
            self.add(seen, done[:-1], rewards, solved=True, terminal=True)

    def reserve(self, frames: int) -> None:
        """Makes sure, before it is encoded, that an episode of ``frames`` frames can be added next.

        Raises:
            UserError: As ``add``.
        """
        self._frames.reserve(self._next_place(frames))

    def stored(self, id: str, frames: int) -> Tensor | None:
        """Frames (T + 1, frame_dim) of an episode that the files have already, from an earlier life of this process; else None."""
        held = self._frames.known(id)
        if held is None or held.frames != frames:
            return None
        where = torch.arange(held.frames) + held.start % self._slots
        return self._joined(where).to(self.device)

    def as_demonstrations(self) -> dict[str, Tensor]:
        """Solved episodes to their end, as ``Checkpoint.demonstrations`` holds them."""
        held = [item for item in self._index if item.solved and item.terminal and not item.after]
        none = torch.zeros(0, dtype=torch.int64, device=self._place)
        slots = torch.cat([none, *(torch.arange(item.before, item.frames, device=self._place) + item.start % self._slots for item in held)])
        frames, actions = self._joined(slots).half().cpu(), self._frames.columns["actions"][slots].half().cpu()
        return {"frames": frames, "actions": actions, "lengths": torch.tensor([item.rows + 1 for item in held], dtype=torch.int64)}

    def sample(self, count: int, generator: torch.Generator, beta: float = 1.0) -> Rows:
        """Draws ``count`` rows with replacement: uniformly, or by priority, with importance weights (N P(i))^-beta (Schaul et al. 2016, section 3.4)."""
        if not len(self):
            raise UserError("the replay is empty: add an episode first")
        if self._priorities is None:
            drawn = torch.randint(len(self), (count,), generator=generator, device=self.device)
            return self.rows(self._index.positions(drawn.to(self._place)))
        slots, probabilities = self._priorities.sample(count, generator)
        oldest = self._index.oldest.start
        rows = self.rows(oldest + (slots - oldest) % self._slots)
        weights = (len(self) * probabilities) ** -beta
        rows.weights = (weights / weights.max()).float().to(self.device)
        return rows

    def update_priorities(self, positions: Tensor, priorities: Tensor) -> None:
        """Gives rows at ``positions`` (B,) new priorities (B,), such as their errors. Rows that are gone by now, and values not finite, are left out."""
        if self._priorities is None:
            return
        positions, priorities = positions.to(self._place), priorities.detach().to(self._place)
        kept = (positions >= self._index.oldest.start) & torch.isfinite(priorities)
        self._priorities.update(positions[kept] % self._slots, priorities[kept])

    def positions(self) -> Tensor:
        """Positions of all rows, oldest first."""
        return self._index.positions(torch.arange(len(self), device=self._place))

    def rows(self, positions: Tensor) -> Rows:
        """The rows at ``positions`` (B,)."""
        positions = positions.to(self._place)
        start, count, solved, terminal = self._index.at(positions)
        first = start % self._slots
        last, now = first + count - 1, positions - start + first
        columns = self._frames.columns
        self._frames.prefetch("frames", now + self._back[0], len(self._back) + len(self._chunk))
        following = torch.minimum(now + self.config.action_horizon, last)
        rewards = columns["rewards"][torch.minimum(now[:, None] + self._steps, last[:, None])]  # that of the last frame is 0
        chunk = torch.minimum(torch.maximum(now[:, None] + self._chunk, first[:, None]), last[:, None] - 1)
        frames, next_frames = self._joined(self._windows(torch.stack([now, following]), first)).unbind()
        ended = (terminal > 0) & (following == last)
        return Rows(
            frames=frames,
            chunks=columns["actions"][chunk],
            returns=(rewards * self._discounts).sum(dim=1),
            discounts=torch.where(ended, 0.0, self.gamma ** (following - now).float()),
            next_frames=next_frames,
            solved=solved.float(),
            remaining=(last - now).float(),
            weights=torch.ones(len(now), device=self._place),
            positions=positions,
        ).to(self.device)

    def images(self, positions: Tensor) -> dict[str, Tensor]:
        """Camera -> uint8 (B, T_o, H, W, 3) that the rows at ``positions`` (B,) saw, where raw images are kept."""
        positions = positions.to(self._place)
        start, *_ = self._index.at(positions)
        first = start % self._slots
        window = self._windows(positions - start + first, first)
        self._frames.prefetch("images", window[:, 0], len(self._back))
        return {key: self._frames.columns[key][window].to(self.device) for key in self._types["images"].names or ()}

    def state(self) -> dict[str, Tensor]:
        """What ``restore`` needs, for a file: which frames count, and these themselves if they lie in memory."""
        self._counted = self._index.oldest.start if len(self._index) else self._head
        episodes = [(held.start, held.frames, held.solved, held.terminal, held.checksum, held.before, held.after) for held in self._index]
        ids = json.dumps([held.id for held in self._index]).encode()
        state = {
            "episodes": torch.tensor(episodes, dtype=torch.int64).reshape(-1, 7),
            "ids": torch.frombuffer(bytearray(ids), dtype=torch.uint8),
            "head": torch.tensor([self._head]),
        }
        if self._priorities is not None:
            state |= {"priorities": self._priorities[self.positions() % self._slots], "highest": torch.tensor([self._priorities.highest])}
        return state | self._frames.state(self._head)

    def saved(self) -> None:
        """To be called when the last ``state`` is safe: frames that it does not count may be overwritten."""
        self._frames.release(self._counted)

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes back what ``state`` gave. Episodes that the files do not have any more as they were become ``lost``.

        Raises:
            UserError: It was saved by a replay of other sizes, or the place of the files cannot be used.
        """
        self._frames.restore(state)
        self._index, row = EpisodeIndex(self._place), 0
        ids = json.loads(state["ids"].numpy().tobytes())
        priorities = state.get("priorities")  # none where it was saved without: then every row counts as new
        if self._priorities is not None and priorities is not None:
            self._priorities.highest = float(state["highest"][0])
        for (start, frames, solved, terminal, checksum, *context), id in zip(state["episodes"].tolist(), ids, strict=True):
            held = Held(start, frames, bool(solved), bool(terminal), checksum, id, *context)
            if self._frames.intact(held):
                self._index.append(held)
                if self._priorities is not None:
                    saved = self._priorities.highest if priorities is None else priorities[row : row + held.rows].to(self._place)
                    self._priorities[self._row_slots(held)] = saved
            else:
                self.lost.add(id)
            row += held.rows
        if self.lost:
            self._damage = f"{len(self.lost)} of {len(ids)} episodes in the replay {self._folder} are damaged: they are encoded anew where recorded"
        self._head = int(state["head"][0])
        if len(self._index):
            self._frames.release(self._index.oldest.start)

    @cached_property
    def _frames(self) -> FrameFiles | FrameMemory:
        # Files are opened when they are first needed: a saved state of another checkpoint is refused before that.
        if self._folder is None:
            return FrameMemory(self._types, self._slots, self._place)
        return FrameFiles(self._folder, self._types, self._slots, self._encoder)

    @cached_property
    def _head(self) -> int:
        """Position behind the newest episode."""
        return self._frames.end

    def _next_place(self, frames: int) -> Held:
        if not 2 <= frames <= self.capacity:
            raise UserError(
                f"an episode of {frames - 1} steps does not fit into a replay of {self.capacity} frames: record longer episodes, or set replay_frames higher"
            )
        before_the_end = self._slots - self._head % self._slots
        return Held(self._head if frames <= before_the_end else self._head + before_the_end, frames, solved=False, terminal=False)

    def _append(self, held: Held) -> None:
        while len(self._index) and self._index.oldest.start < held.end - self.capacity:
            gone = self._index.drop_oldest()
            if self._priorities is not None:
                self._priorities[self._row_slots(gone)] = 0.0
        self._index.append(held)
        self._head = held.end

    def _row_slots(self, held: Held) -> Tensor:
        return torch.arange(held.rows, device=self._place) + (held.start + held.before) % self._slots

    def _windows(self, slots: Tensor, first: Tensor) -> Tensor:
        return torch.maximum(slots[..., None] + self._back, first[:, None])

    def _joined(self, slots: Tensor) -> Tensor:
        columns = self._frames.columns
        return torch.cat([columns["features"][slots].float(), columns["states"][slots]], dim=-1)


def _record_types(config: PolicyConfig, images: Mapping[str, tuple[int, int]]) -> dict[str, np.dtype[np.void]]:
    frame = [("features", "<f2", (config.feature_dim,)), ("states", "<f4", (config.state_dim,)), ("actions", "<f4", (config.action_dim,)), ("rewards", "<f4")]
    types = {"frames": np.dtype(frame, align=True)}
    if images:
        types["images"] = np.dtype([(key, "u1", (height, width, 3)) for key, (height, width) in images.items()])
    return types
