"""What monitor_node shows: markers, overlays and frames."""

import importlib.util

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from visualization_msgs.msg import Marker, MarkerArray

from mechanic_rl_ros import msg
from mechanic_rl_ros.data import ActionChunk
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.nodes import qos
from mechanic_rl_ros.nodes.base import nanoseconds
from mechanic_rl_ros.nodes.convert import chunk_to_message
from mechanic_rl_ros.safety.kinematics import Kinematics

EMBODIMENT = load_embodiment()
HOME = np.array(EMBODIMENT.joints.home)
TOOL = Kinematics(EMBODIMENT).tcp(HOME)[0]
State = msg.EpisodeState


class Viewer:
    """RViz, played by the test: it keeps what it was told to show."""

    def __init__(self, ros, play, folder):
        nodes, self.probe = ros
        self.process = nodes.start("monitor_node", directory=folder, use_sim_time=True)
        self.feed = play["feed"](self.probe)
        self.shown, self.messages = {}, []
        self.probe.hear(MarkerArray, "markers", qos.COMMAND, self._show)
        self.chunks = self.probe.speaker(msg.ActionChunk, "action_chunk", qos.COMMAND)
        self.command = self.probe.speaker(msg.CommandStatus, "command_status", qos.STATE)
        self.probe.wait_for(lambda: self.feed.joints.get_subscription_count() and self.feed.episodes.get_subscription_count(), "its subscriptions")

    def _show(self, message):
        self.messages.append(message)
        for marker in message.markers:
            if marker.action == Marker.DELETEALL:
                self.shown.clear()
            elif marker.action == Marker.DELETE:
                del self.shown[marker.ns, marker.id]
            else:
                self.shown[marker.ns, marker.id] = marker

    def wait_for(self, condition, what):
        self.probe.wait_for(lambda: condition(self.shown), what)

    def plan(self, action):
        chunk = ActionChunk(self.feed.now_ns, EMBODIMENT.period_ns, np.tile(np.array(action, np.float32), (8, 1)), 5, False, self.feed.id)
        self.chunks.publish(chunk_to_message(chunk, EMBODIMENT.base_frame, 0.01))


@pytest.fixture
def viewer(ros, play, tmp_path):
    return Viewer(ros, play, tmp_path)


def test_the_planned_path_is_shown_while_the_episode_runs_and_deleted_when_it_is_over(viewer):
    viewer.feed.begin()
    viewer.feed.instant()
    viewer.wait_for(lambda shown: ("tool", 0) in shown and shown["episode", 100].text.startswith("episode 1: running"), "the arm")
    assert viewer.messages[0].markers[0].action == Marker.DELETEALL, "what an earlier monitor left must go"
    viewer.plan([1.0, 0.0, 0.0, -1.0])
    viewer.wait_for(lambda shown: ("planned", 0) in shown, "the planned path")
    path = viewer.shown["planned", 0]
    assert (path.type, path.header.frame_id, nanoseconds(path.header.stamp)) == (Marker.LINE_STRIP, "fr3_link0", 0)
    points = np.array([[point.x, point.y, point.z] for point in path.points])
    assert points[0] == pytest.approx(TOOL, abs=0.01)
    assert points[-1, 0] - points[0, 0] == pytest.approx(8 * 0.03, abs=0.031), "at most one period has passed"
    assert len(path.colors) == len(points)
    assert path.colors[0].a > path.colors[-1].a
    viewer.feed.end("success")
    viewer.wait_for(lambda shown: ("planned", 0) not in shown, "its deletion")
    assert viewer.shown["episode", 100].text.startswith("episode 1: success\n1 of the last 1 solved")
    assert {("workspace", 0), ("table", 0)} <= viewer.shown.keys()


def test_a_limit_that_acts_is_shown_in_red_and_goes_again(viewer):
    viewer.feed.begin()
    viewer.feed.instant()
    viewer.command.publish(msg.CommandStatus(limited=["workspace", "jerk"], limited_count=[3, 1]))
    viewer.wait_for(lambda shown: ("limits", 100) in shown, "the limit")
    label = viewer.shown["limits", 100]
    assert label.text == "limits: jerk, workspace"
    assert label.color.r > 0.8 > 0.2 > label.color.g
    viewer.wait_for(lambda shown: ("limits", 100) not in shown, "its end")


def test_the_executed_path_grows_with_the_episode_and_begins_anew_with_the_next(viewer):
    viewer.feed.begin()

    def grown(shown):
        viewer.feed.instant()
        return ("executed", 0) in shown and len(shown["executed", 0].points) >= 4

    viewer.wait_for(grown, "the executed path")
    viewer.feed.end()
    viewer.feed.begin()
    viewer.wait_for(lambda shown: ("executed", 0) not in shown, "a new path")


def test_of_the_task_only_what_is_known_is_shown(viewer):
    state = msg.TaskState(task="reach")
    state.goal.x = 0.5
    tasks = viewer.probe.node.create_publisher(msg.TaskState, "task_state", qos.STATE)
    tasks.publish(state)
    viewer.wait_for(lambda shown: ("goal", 0) in shown, "the goal")
    assert viewer.shown["goal", 0].pose.position.x == 0.5
    assert ("object", 0) not in viewer.shown


def test_the_overlay_is_sent_only_while_somebody_looks(viewer):
    viewer.feed.begin()
    viewer.feed.instant()
    spec = EMBODIMENT.cameras["front"]
    images = viewer.probe.hear(Image, "camera/front/overlay", qos.SENSOR)

    def drawn():
        viewer.feed.instant()
        return images

    viewer.probe.wait_for(drawn, "an overlay")
    assert (images[0].encoding, images[0].header.frame_id, images[0].width) == ("rgb8", spec.frame, 240)
    assert images[0].height > 240, "what is said stands below the image"
    assert viewer.probe.node.count_publishers("camera/wrist/overlay") == 1
    assert viewer.probe.node.count_subscribers("camera/wrist/overlay") == 0


def test_frames_are_published_where_asked_for_or_the_missing_package_is_named(ros, tmp_path):
    nodes, probe = ros
    nodes.start("sim_node")
    nodes.start("monitor_node", directory=tmp_path, use_sim_time=True)
    if importlib.util.find_spec("tf2_msgs") is None:
        diagnostics = probe.hear(DiagnosticArray, "/diagnostics", 10)

        def note():
            statuses = (status for array in diagnostics for status in array.status if status.name == "monitor_node")
            return any(value.key == "frames" and "tf2_msgs is not installed" in value.value for status in statuses for value in status.values)

        probe.wait_for(note, "a note about tf2_msgs")
        return
    from tf2_msgs.msg import TFMessage

    frames = probe.hear(TFMessage, "/tf", 10)
    probe.wait_for(lambda: frames, "frames")
    told = {transform.child_frame_id for transform in frames[0].transforms}
    assert {"fr3_link1", "fr3_link8", "fr3_hand_tcp", "fr3_leftfinger", "camera_wrist_optical_frame"} <= told


def test_an_unknown_way_to_publish_frames_is_refused(ros, tmp_path):
    assert "use one of auto, always, never" in ros[0].refusal("monitor_node", directory=tmp_path, publish_tf="perhaps")
