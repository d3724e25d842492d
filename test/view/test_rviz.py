"""The RViz configuration shows what the graph publishes. RViz itself is not installed here."""

import pytest
import yaml

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.paths import config_directory
from mechanic_rl_ros.view.cameras import load_cameras
from mechanic_rl_ros.view.scene import NAMESPACES

FILE = config_directory() / "rviz" / "finetune.rviz"
EMBODIMENT = load_embodiment()
# Class names as in the plugin descriptions of rviz_default_plugins and in rviz_common (Humble to Kilted).
CLASSES = {
    "Displays": {f"rviz_default_plugins/{name}" for name in ("Grid", "RobotModel", "MarkerArray", "TF", "Image", "Camera")},
    "Tools": {f"rviz_default_plugins/{name}" for name in ("MoveCamera", "Select", "FocusCamera", "Measure", "Interact")},
    "Views": {f"rviz_default_plugins/{name}" for name in ("Orbit", "TopDownOrtho", "XYOrbit", "FPS", "ThirdPersonFollower")},
    "Panels": {f"rviz_common/{name}" for name in ("Displays", "Views", "Time", "Selection", "Tool Properties")},
}


@pytest.fixture(scope="module")
def shown():
    return yaml.safe_load(FILE.read_text())


def test_every_class_is_one_of_rviz_2(shown):
    manager = shown["Visualization Manager"]
    views = [manager["Views"]["Current"], *manager["Views"]["Saved"]]
    used = {"Displays": manager["Displays"], "Tools": manager["Tools"], "Views": views, "Panels": shown["Panels"]}
    assert {kind: {item["Class"] for item in items} - CLASSES[kind] for kind, items in used.items()} == {kind: set() for kind in used}
    assert all(display["Name"] and display["Enabled"] == display["Value"] for display in manager["Displays"])


def test_every_topic_is_published_by_the_graph_with_a_quality_of_service_that_fits(shown):
    best_effort = {f"camera/{key}/overlay" for key in EMBODIMENT.cameras}
    reliable = {"markers", "robot_description"}
    topics = {}
    for display in shown["Visualization Manager"]["Displays"]:
        for name in ("Topic", "Description Topic"):
            if name in display:
                topics[display[name]["Value"]] = display[name]
    assert topics.keys() == best_effort | reliable
    assert all(topics[name]["Reliability Policy"] == "Best Effort" for name in best_effort)
    assert all(topics[name]["Reliability Policy"] == "Reliable" for name in reliable)
    durable = {name for name, topic in topics.items() if topic["Durability Policy"] == "Transient Local"}
    assert durable == {"robot_description"}, "robot_state_publisher latches it"


def test_the_markers_are_shown_by_namespace_in_the_frame_of_the_arm(shown):
    manager = shown["Visualization Manager"]
    (markers,) = [display for display in manager["Displays"] if display["Class"].endswith("MarkerArray")]
    assert markers["Namespaces"] == dict.fromkeys(NAMESPACES, True)
    assert manager["Global Options"]["Fixed Frame"] == EMBODIMENT.base_frame


def test_every_camera_of_the_embodiment_has_a_place():
    assert load_cameras(EMBODIMENT.name).keys() == EMBODIMENT.cameras.keys()
