"""The scene as a person should see it: what is known now, as shapes in the base frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.data import ActionChunk
from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.view import colours
from mechanic_rl_ros.view.executed import ExecutedPath
from mechanic_rl_ros.view.planned import PlannedPath
from mechanic_rl_ros.view.shapes import FOREVER, LIVE_S, Colour, Kind, Shape
from mechanic_rl_ros.view.words import Words

TABLE_CENTRE, TABLE_SIZE = (0.35, 0.0), (1.1, 1.1, 0.02)  # m, as drawn: how far a real one reaches is not known
NAMESPACES = ("workspace", "table", "keep_out", "planned", "executed", "tool", "object", "goal", "episode", "limits")
WALL = 0.004  # m, thickness of a wall that acts
NEAR = 0.02  # m from a wall that counts as at it
_Point = NDArray[np.float64]


@dataclass
class Now:
    """What is known now; None: nothing.

    Attributes:
        time_ns: ROS time.
        joints: Positions (7,), rad.
        chunk: The newest action chunk of the running episode.
        executed: Where the tool has been in this episode.
        start_ns: When the episode began.
        length_ns: How long it may be.
        object: Position of the task's object (3,), m.
        goal: Position of the task's goal (3,), m.
        words: What is said.
    """

    time_ns: int = 0
    joints: _Point | None = None
    chunk: ActionChunk | None = None
    executed: ExecutedPath = field(default_factory=ExecutedPath)
    start_ns: int = 0
    length_ns: int = 1
    object: _Point | None = None
    goal: _Point | None = None
    words: Words = field(default_factory=Words)


class Scene:
    """Turns what is known into shapes."""

    def __init__(self, embodiment: Embodiment, bounds: SafetyLimits) -> None:
        """Takes workspace and kinematics of ``embodiment``, table and keep-out boxes of ``bounds``."""
        self._frame = embodiment.base_frame
        self._low, self._high = np.array(embodiment.workspace.low), np.array(embodiment.workspace.high)
        self._bounds = bounds
        self._kinematics = Kinematics(embodiment)
        self._planned = PlannedPath(embodiment)

    def tool(self, joints: _Point) -> _Point:
        """Position of the tool centre point (3,), m, at joint positions (7,), rad."""
        return self._kinematics.tcp(joints)[0]

    def shapes(self, now: Now) -> list[Shape]:
        """Everything that is to be seen."""
        tool = self.tool(now.joints) if now.joints is not None else None
        limited = set(now.words.limited)
        return [*self._fixed(limited, tool), *self._walls(limited, tool), *self._paths(now, tool), *self._task(now), *self._words(now.words)]

    def _fixed(self, limited: set[str], tool: _Point | None) -> Iterator[Shape]:
        edges = box_edges(self._low, self._high)
        yield Shape(Kind.LINE_LIST, "workspace", 0, self._frame, colours.WORKSPACE, size=(0.003, 0.0, 0.0), points=edges, lifetime_s=FOREVER)
        height, boxes = self._bounds.table_height, self._bounds.keep_out
        if height is not None:
            centre = (*TABLE_CENTRE, height - 0.5 * TABLE_SIZE[2])
            yield Shape(Kind.BOX, "table", 0, self._frame, colours.TABLE, centre, TABLE_SIZE, lifetime_s=FOREVER)
            if "table" in limited:
                yield Shape(Kind.BOX, "limits", 10, self._frame, colours.LIMIT_WALL, centre, _grown(TABLE_SIZE))
        for number, box in enumerate(boxes):
            yield self._box("keep_out", number, np.array(box.low), np.array(box.high), colours.KEEP_OUT, FOREVER)
        if boxes and "keep_out" in limited and tool is not None:
            nearest = min(boxes, key=lambda box: float(np.linalg.norm(np.maximum(np.array(box.low) - tool, tool - np.array(box.high)).clip(0.0))))
            yield self._box("limits", 11, np.array(nearest.low) - WALL, np.array(nearest.high) + WALL, colours.LIMIT_WALL)

    def _walls(self, limited: set[str], tool: _Point | None) -> Iterator[Shape]:
        """Walls of the workspace that act: those that the tool is at."""
        if "workspace" not in limited or tool is None:
            return
        for axis in range(3):
            for side, (corner, distance) in enumerate(((self._low, tool - self._low), (self._high, self._high - tool))):
                if distance[axis] < NEAR:
                    low, high = self._low.copy(), self._high.copy()
                    low[axis], high[axis] = corner[axis] - 0.5 * WALL, corner[axis] + 0.5 * WALL
                    yield self._box("limits", 2 * axis + side, low, high, colours.LIMIT_WALL)

    def _paths(self, now: Now, tool: _Point | None) -> Iterator[Shape]:
        points = now.executed.points
        if len(points) > 1:
            progress = (now.executed.stamps_ns - now.start_ns) / now.length_ns
            yield strip("executed", self._frame, points, colours.time_colours(progress), 0.005)
        if tool is None or now.joints is None:
            return
        yield Shape(Kind.SPHERE, "tool", 0, self._frame, colours.LIMIT if now.words.limited else colours.TEXT, _triple(tool), (0.015,) * 3)
        if now.chunk is not None:
            ahead, closed = self._planned(now.chunk, now.time_ns, now.joints)
            if len(ahead) > 1:
                yield strip("planned", self._frame, ahead, colours.planned_colours(closed), 0.008)

    def _task(self, now: Now) -> Iterator[Shape]:
        if now.object is not None:
            yield Shape(Kind.SPHERE, "object", 0, self._frame, colours.OBJECT, _triple(now.object), (0.03,) * 3)
        if now.goal is not None:
            yield Shape(Kind.SPHERE, "goal", 0, self._frame, colours.GOAL, _triple(now.goal), (0.03,) * 3)

    def _words(self, words: Words) -> Iterator[Shape]:
        x, y = (0.5 * (self._low + self._high))[:2].tolist()
        top = float(self._high[2])
        yield self._text("episode", (x, y, top + 0.35), "\n".join(words.lines()), colours.TEXT, 0.04)
        if words.warning():
            yield self._text("limits", (x, y, top + 0.12), words.warning(), colours.LIMIT, 0.05)

    def _box(self, namespace: str, number: int, low: _Point, high: _Point, colour: Colour, lifetime_s: float = LIVE_S) -> Shape:
        return Shape(Kind.BOX, namespace, number, self._frame, colour, _triple(0.5 * (low + high)), _triple(high - low), lifetime_s=lifetime_s)

    def _text(self, namespace: str, position: tuple[float, float, float], text: str, colour: Colour, height: float) -> Shape:
        return Shape(Kind.TEXT, namespace, 100, self._frame, colour, position, (0.0, 0.0, height), text=text)


def strip(namespace: str, frame: str, points: _Point, shades: _Point, width: float) -> Shape:
    """A path through ``points`` (N, 3), m, in colours (N, 4)."""
    return Shape(Kind.LINE_STRIP, namespace, 0, frame, (1.0, 1.0, 1.0, 1.0), size=(width, 0.0, 0.0), points=points, colours=shades)


def box_edges(low: _Point, high: _Point) -> NDArray[np.float64]:
    """The twelve edges of a box as pairs of points, (24, 3)."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    pairs = [(a, b) for a in range(8) for b in range(a + 1, 8) if np.abs(corners[a] - corners[b]).sum() == 1]
    return (low + corners * (high - low))[np.array(pairs).reshape(-1)]


def _triple(values: _Point) -> tuple[float, float, float]:
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return x, y, z


def _grown(size: tuple[float, float, float]) -> tuple[float, float, float]:
    return size[0] + WALL, size[1] + WALL, size[2] + WALL
