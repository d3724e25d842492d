"""view.png: one episode as RViz would show it, with what the camera saw on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mpl_toolkits.mplot3d import Axes3D
from mpl_toolkits.mplot3d.art3d import Line3DCollection, Poly3DCollection
from numpy.typing import NDArray

from mechanic_rl_ros.data import ActionChunk, Episode
from mechanic_rl_ros.report.figure_file import write_figure
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.view.arm import draw_arm
from mechanic_rl_ros.view.cameras import load_cameras
from mechanic_rl_ros.view.colours import GOAL, OBJECT, planned_colours, time_colours
from mechanic_rl_ros.view.executed import ExecutedPath
from mechanic_rl_ros.view.links import in_base, link_frames
from mechanic_rl_ros.view.overlay import Overlay
from mechanic_rl_ros.view.planned import PlannedPath
from mechanic_rl_ros.view.replayed import postures, scene_at_start, tool_path
from mechanic_rl_ros.view.scene import Now, Scene, strip
from mechanic_rl_ros.view.shapes import Kind, Shape
from mechanic_rl_ros.view.words import Words

MOMENTS = 3  # of which the camera image is shown
_INK = "#303030"
_LEGEND, _LEGEND_STEP = 0.56, 0.036
_POINTS = 480.0  # width of a line of 1 m
_FACES = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
# What lies on what: matplotlib sorts only within one thing.
_LAYERS = {"table": 1, "keep_out": 2, "workspace": 3, "goal": 4, "object": 5, "planned": 6, "executed": 8, "tool": 9, "limits": 10}
_ARM = 7


def draw_view(episode: Episode, plans: Mapping[int, Sequence[ActionChunk]], bounds: SafetyLimits, path: Path) -> None:
    """Draws an episode to ``path``.

    Args:
        episode: What happened.
        plans: Step -> chunks that were planned there.
        bounds: Table and keep-out boxes.
        path: Where the picture goes.

    Raises:
        UserError: The episode does not tell where the tool was.
        OSError: The picture cannot be written.
    """
    tool = tool_path(episode)
    joints = postures(episode.embodiment, tool)
    figure = Figure(figsize=(11.0, 6.6), dpi=100, facecolor="white")
    axes = figure.add_axes((-0.28, -0.20, 1.34, 1.36), projection="3d", computed_zorder=False)
    assert isinstance(axes, Axes3D)
    _look_at_workspace(axes)
    shapes = _shapes(episode, plans, bounds, tool, joints)
    for shape in shapes:
        _draw(axes, shape)
    for step, opacity in ((0, 0.16), (len(joints) - 1, 1.0)):
        draw_arm(axes, _poses(episode, joints, step), opacity, _ARM)
    _caption(figure, episode, with_task=any(shape.namespace == "object" for shape in shapes))
    _images(figure, episode, plans, joints)
    write_figure(figure, path)


def _shapes(
    episode: Episode, plans: Mapping[int, Sequence[ActionChunk]], bounds: SafetyLimits, tool: NDArray[np.float64], joints: NDArray[np.float64]
) -> list[Shape]:
    executed, planned, frame = ExecutedPath(), PlannedPath(episode.embodiment), episode.embodiment.base_frame
    for stamp_ns, position in zip(episode.stamps_ns.tolist(), tool, strict=True):
        executed.add(stamp_ns, position)
    start_ns, end_ns = int(episode.stamps_ns[0]), int(episode.stamps_ns[-1])
    task = scene_at_start(episode)
    place, goal = (task.object_position, task.goal) if task is not None else (None, None)
    now = Now(end_ns, joints[-1], None, executed, start_ns, max(1, end_ns - start_ns), place, goal)
    shapes = Scene(episode.embodiment, bounds).shapes(now)
    for step, chunks in plans.items():
        for chunk in chunks:
            points, closed = planned(chunk, chunk.stamp_ns, joints[step])
            shades = planned_colours(closed)
            shades[:, 3] *= len(chunks) ** -0.5  # many samples of one plan look like one
            shapes.append(strip("planned", frame, points, shades, 0.004))
    return shapes


def _poses(episode: Episode, joints: NDArray[np.float64], step: int) -> dict[str, NDArray[np.float64]]:
    names = [channel.name for channel in episode.embodiment.state]
    finger = float(episode.states[step, names.index("finger_position")]) if "finger_position" in names else 0.04
    return in_base(link_frames(episode.embodiment, joints[step], finger))


def _look_at_workspace(axes: Axes3D) -> None:
    axes.set_proj_type("persp", focal_length=0.6)
    axes.view_init(elev=22.0, azim=-48.0)
    axes.set(xlim=(-0.10, 0.80), ylim=(-0.45, 0.45), zlim=(-0.05, 0.75))
    axes.set_box_aspect((0.90, 0.90, 0.80), zoom=1.12)
    axes.set_axis_off()


def _draw(axes: Axes3D, shape: Shape) -> None:
    layer = _LAYERS.get(shape.namespace, 0)
    if shape.kind in (Kind.LINE_STRIP, Kind.LINE_LIST):
        step = 1 if shape.kind is Kind.LINE_STRIP else 2
        lines = np.stack([shape.points[:-1], shape.points[1:]], axis=1)[::step]
        colours = shape.colours[1:] if len(shape.colours) else [shape.colour]
        axes.add_collection3d(Line3DCollection(lines, colors=colours, linewidths=_POINTS * shape.size[0], capstyle="round", zorder=layer))
    elif shape.kind is Kind.BOX:
        corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)]) * shape.size + shape.position
        axes.add_collection3d(
            Poly3DCollection([corners[list(face)] for face in _FACES], facecolors=[shape.colour], edgecolors="none", clip_on=False, zorder=layer)
        )
    elif shape.kind is Kind.SPHERE:
        axes.scatter(*shape.position, s=(2200.0 * shape.size[0]) ** 2 / 30.0, color=[shape.colour], edgecolors=_INK, linewidths=0.6, zorder=layer)


def _caption(figure: Figure, episode: Episode, with_task: bool) -> None:
    versions = np.unique(episode.policy_versions)
    words = Words(state=f"{episode.task}, scene {episode.seed}: {episode.outcome.value} after {episode.steps * episode.embodiment.period:.1f} s")
    version = f"policy version {versions[0]}" if len(versions) == 1 else f"policy versions {versions[0]} to {versions[-1]}"
    figure.text(0.02, 0.955, words.headline(), fontsize=15, fontweight="bold", color=_INK, va="center")
    figure.text(0.02, 0.915, f"{version}{', best of N' if episode.best_of_n else ''}", fontsize=11, color=_INK, va="center")
    closed = np.repeat([False, True], 2)
    paths = {"executed, first to last": None, "planned, hand open": planned_colours(closed)[0], "planned, hand closed": planned_colours(closed)[2]}
    for number, (text, colour) in enumerate(paths.items()):
        height = 0.955 - _LEGEND_STEP * number
        shades = time_colours(np.linspace(0.0, 1.0, 24)) if colour is None else np.column_stack([np.tile(colour[:3], (24, 1)), np.linspace(1.0, 0.12, 24)])
        edges = np.linspace(_LEGEND, _LEGEND + 0.05, 25)
        for left, right, shade in zip(edges[:-1], edges[1:], shades.tolist(), strict=True):
            figure.add_artist(Line2D([left, right], [height, height], color=shade, linewidth=3.5, solid_capstyle="butt", antialiased=False))
        figure.text(_LEGEND + 0.06, height, text, fontsize=10, color=_INK, va="center")
    if with_task:
        for number, (text, dot) in enumerate((("object at the start", OBJECT), ("goal", GOAL)), start=len(paths)):
            height = 0.955 - _LEGEND_STEP * number
            figure.add_artist(Line2D([_LEGEND + 0.025], [height], marker="o", markersize=9, color=dot, markeredgecolor=_INK, markeredgewidth=0.6))
            figure.text(_LEGEND + 0.06, height, text, fontsize=10, color=_INK, va="center")


def _images(figure: Figure, episode: Episode, plans: Mapping[int, Sequence[ActionChunk]], joints: NDArray[np.float64]) -> None:
    """What the first camera saw, with the plan of that moment."""
    key, images = next(iter(episode.images.items()))
    view, planned, overlay = load_cameras(episode.embodiment.name).get(key), PlannedPath(episode.embodiment), Overlay()
    steps = np.linspace(0, episode.steps - 1, MOMENTS).round().astype(int).tolist()
    for number, step in enumerate(steps):
        begun = max((begin for begin in plans if begin <= step), default=None)
        path = shades = None
        if view is not None and begun is not None:
            points, closed = planned(plans[begun][0], int(episode.stamps_ns[step]), joints[step])
            path, seen = view.project(points, _poses(episode, joints, step)[view.parent], *images.shape[1:3])
            path, shades = path[seen], planned_colours(closed)[seen]
        axes = figure.add_axes((0.805, 0.685 - 0.315 * number, 0.18, 0.27))
        axes.imshow(overlay.with_path(images[step], path, shades))
        axes.set_title(f"{key} camera at {step * episode.embodiment.period:.1f} s", fontsize=9, color=_INK, pad=3)
        axes.set_axis_off()
