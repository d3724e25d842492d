"""What RViz shows: markers, camera images with the task drawn over them, and the arm's frames where nobody else tells them."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import numpy as np
from geometry_msgs.msg import Point
from numpy.typing import NDArray
from sensor_msgs.msg import Image, JointState
from visualization_msgs.msg import MarkerArray

from mechanic_rl_ros import msg
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds
from mechanic_rl_ros.nodes.convert import chunk_from_message, image_from_message, image_to_message, reading_from_message
from mechanic_rl_ros.nodes.latest import Latest
from mechanic_rl_ros.nodes.link_frames import LinkFrames
from mechanic_rl_ros.nodes.markers import markers_to_message
from mechanic_rl_ros.safety.limits import SafetyLimits
from mechanic_rl_ros.safety.reading import JointReading
from mechanic_rl_ros.view.cameras import load_cameras
from mechanic_rl_ros.view.colours import planned_colours
from mechanic_rl_ros.view.links import in_base, link_frames
from mechanic_rl_ros.view.overlay import Overlay
from mechanic_rl_ros.view.planned import PlannedPath
from mechanic_rl_ros.view.scene import Now, Scene
from mechanic_rl_ros.view.shapes import Board
from mechanic_rl_ros.view.words import Words

PERIOD_S, IDLE_S = 0.25, 1.0  # wall seconds between two pictures, and between two looks whether somebody wants one
REPEAT = 8  # pictures after which fixed things are told again
LIMIT_S = 2.5  # wall seconds that a limit is shown after command_status named it: that comes every 2 s
STATE = msg.EpisodeState
_STATES = {STATE.WAITING: "waiting", STATE.RESETTING: "resetting", STATE.READY: "ready", STATE.RUNNING: "running", STATE.FINISHED: "all done"}


class SceneView:
    """Looks at the graph from within ``monitor_node``, which hands on the messages that it hears anyway. Whoever looks at nothing costs nothing."""

    def __init__(self, node: Any, recent: deque[bool]) -> None:
        """``node``: a ``Node`` with an ``embodiment``; ``recent``: outcomes of the last episodes, kept by the caller."""
        self._node, self._recent = node, recent
        embodiment = node.embodiment
        bounds = SafetyLimits.load(node.parameter("limits", "fr3", "name of a file in config/limits/, or a YAML file: table and keep-out boxes"))
        self._scene, self._board = Scene(embodiment, bounds), Board(REPEAT)
        self._planned = PlannedPath(embodiment)
        self._cameras = load_cameras(
            node.parameter("cameras", "", "YAML file that says where the cameras are; config/cameras/EMBODIMENT.yaml when empty") or embodiment.name
        )
        self._frames = LinkFrames(node, self._cameras)
        self._overlay: Overlay | None = None
        self._now, self._words = Now(), Words(state="nothing heard yet")
        self._limited: dict[str, float] = {}  # name -> wall time until which it is shown
        self._clear = True
        self._joints = Latest(node, JointState, embodiment.joints.topic, qos.SENSOR)
        self._task = Latest(node, msg.TaskState, "task_state", qos.STATE)
        self._images = {key: Latest(node, Image, spec.topic, qos.SENSOR) for key, spec in embodiment.cameras.items()}
        self._markers = node.create_publisher(MarkerArray, "markers", qos.COMMAND)
        self._overlays = {key: node.create_publisher(Image, f"camera/{key}/overlay", qos.SENSOR) for key in embodiment.cameras}
        self._timer = node.create_timer(IDLE_S, self._look, clock=node.wall)

    @property
    def note(self) -> str:
        """What people should know about it; empty: nothing."""
        return self._frames.note

    def on_episode(self, episode: msg.EpisodeState) -> None:
        """A heartbeat, or news."""
        now = self._now
        if episode.state == STATE.RUNNING and nanoseconds(episode.header.stamp) != now.start_ns:
            now.executed.start()
            now.start_ns = nanoseconds(episode.header.stamp)
            now.length_ns = max(1, episode.step_limit * self._node.embodiment.period_ns)
        if episode.state != STATE.RUNNING:
            now.chunk = None
        state = episode.outcome if episode.state == STATE.ENDED else _STATES.get(episode.state, "")
        self._words = replace(self._words, number=int(episode.number), state=state, reason=episode.reason)

    def on_chunk(self, chunk: msg.ActionChunk) -> None:
        """One that fits nothing here is left to those who refuse it."""
        try:
            self._now.chunk = chunk_from_message(chunk, self._node.embodiment)
        except UserError:
            self._now.chunk = None

    def on_learner(self, status: msg.LearnerStatus) -> None:
        """Step scales of the tuner."""
        scales = {"actor": status.actor_scale, "critic": status.critic_scale, "value": status.value_scale}
        self._words = replace(self._words, scales={name: value for name, value in scales.items() if value > 0.0})

    def on_policy(self, status: msg.PolicyStatus) -> None:
        """Which version acts."""
        self._words = replace(self._words, version=int(status.version))

    def on_command(self, status: msg.CommandStatus) -> None:
        """Which limits act, and why the arm holds."""
        until = self._wall() + LIMIT_S
        self._limited.update(dict.fromkeys(status.limited, until))
        self._words = replace(self._words, holding=status.holding)

    def _wall(self) -> float:
        return float(self._node.wall.now().nanoseconds) * 1e-9

    def _look(self) -> None:
        markers = self._markers.get_subscription_count() > 0
        overlays = [key for key, publisher in self._overlays.items() if publisher.get_subscription_count()]
        frames = self._frames.wanted()
        wanted = self._node.active and (markers or overlays or frames)
        self._timer.timer_period_ns = round(1e9 * (PERIOD_S if wanted else IDLE_S))
        if not wanted:
            return
        reading = self._reading()
        self._watch(reading)
        links = link_frames(self._node.embodiment, reading.positions, reading.finger) if reading is not None else []
        if frames and reading is not None:
            self._frames.publish(links, reading.stamp_ns)
        if markers:
            shapes, gone = self._board.update(self._scene.shapes(self._now))
            self._markers.publish(markers_to_message(shapes, gone, clear=self._clear))
            self._clear = False
        for key in overlays:
            self._draw(key, in_base(links) if links else {})

    def _reading(self) -> JointReading | None:
        message = self._joints.take()
        try:
            return reading_from_message(message, self._node.embodiment) if message is not None else None
        except UserError:
            return None  # camera and command node complain about it

    def _watch(self, reading: JointReading | None) -> None:
        now, wall = self._now, self._wall()
        now.time_ns = self._node.now_ns()
        now.joints = reading.positions if reading is not None else None
        self._limited = {name: until for name, until in self._limited.items() if wall < until}
        now.words = replace(self._words, recent=tuple(self._recent), limited=tuple(sorted(self._limited)))
        if reading is not None and self._words.state == "running" and reading.stamp_ns >= now.start_ns:
            now.executed.add(reading.stamp_ns, self._scene.tool(reading.positions))
        task = self._task.take()
        if task is not None:
            now.object, now.goal = _known(task.object.position), _known(task.goal)

    def _draw(self, key: str, poses: dict[str, Any]) -> None:
        spec, message = self._node.embodiment.cameras[key], self._images[key].take()
        if message is None:
            return
        self._overlay = self._overlay or Overlay()
        try:
            image = image_from_message(message, spec.height, spec.width)
        except UserError:
            return  # policy and recorder complain about it
        words, camera = self._now.words, self._cameras.get(key)
        path = shades = None
        if camera is not None and camera.parent in poses and self._now.chunk is not None and self._now.joints is not None:
            points, closed = self._planned(self._now.chunk, self._now.time_ns, self._now.joints)
            path, seen = camera.project(points, poses[camera.parent], spec.height, spec.width)
            path, shades = path[seen], planned_colours(closed)[seen]
        lines = [words.headline(), f"version {words.version}"]
        drawn = self._overlay.draw(image, lines, words.warning(), path, shades)
        self._overlays[key].publish(image_to_message(drawn, spec.frame, message.header.stamp))


def _known(place: Point) -> NDArray[np.float64] | None:
    """(3,), m; None where all is zero: where nobody tracks the object, its message is left as it is."""
    point = np.array([place.x, place.y, place.z])
    return point if point.any() else None
