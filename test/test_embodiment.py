"""The embodiment file: what no robot can mean is refused with one line."""

import copy
import math

import pytest
import yaml

from mechanic_rl_ros.embodiment import Embodiment, load_embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import checkpoint_directory, config_directory
from mechanic_rl_ros.policy.checkpoint import Checkpoint

SHIPPED = yaml.safe_load((config_directory() / "embodiment" / "fr3.yaml").read_text())


def changed(path, value):
    """The shipped description with one value replaced; ``path`` is dotted."""
    data = copy.deepcopy(SHIPPED)
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    section = data
    for parent in parents:
        section = section[parent]
    section[last] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("policy_rate", 0, "policy_rate is 0.0: choose a value between 0.1"),
        ("policy_rate", math.nan, "policy_rate is nan"),
        ("cameras", {}, "number of cameras is 0"),
        ("cameras.front.height", 0, "cameras.front.height is 0"),
        ("cameras.front.max_age", 0.0, "cameras.front.max_age is 0.0"),
        ("cameras.wrist.max_age", 1e9, "cameras.wrist.max_age is 1000000000.0"),
        ("cameras.wrist.max_age", math.inf, "cameras.wrist.max_age is inf"),
        ("cameras.wrist.max_age", "long", "malformed"),
        ("joints.max_age", math.nan, "joints.max_age is nan"),
        ("joints.max_age", -0.1, "joints.max_age is -0.1"),
        ("joints.home", [0.0, 0.0], "number of joints.home is 2: choose 7"),
        ("joints.home.3", math.inf, "joints.home.3 is inf"),
        ("state", [], "number of state channels is 0"),
        ("action.1.scale", 0.0, "scale of action tcp_velocity_y is 0.0"),
        ("action.3.scale", -0.04, "scale of action gripper is -0.04"),
        ("workspace.low.2", 0.6, "workspace.low z is 0.6: choose a value between -100.0 and 0.45"),
        ("workspace.high", [0.68, 0.30], "malformed"),
        ("workspace.high.0", math.nan, "workspace.low x"),
    ],
)
def test_a_value_that_no_robot_can_mean_is_refused_with_one_line_that_names_it(path, value, words):
    with pytest.raises(UserError) as caught:
        Embodiment.from_dict(changed(path, value))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["training", "keys", "cam.front", "Front"])
def test_a_key_that_no_camera_can_have_is_refused(key):
    data = load_embodiment().to_dict()
    data["cameras"][key] = data["cameras"].pop("front")
    with pytest.raises(UserError, match="cannot be the key of a camera"):
        Embodiment.from_dict(data)


def test_what_is_read_back_is_the_same():
    embodiment = load_embodiment()
    assert Embodiment.from_dict(embodiment.to_dict()) == embodiment


def test_the_shipped_base_checkpoint_is_one_for_the_shipped_embodiment():
    checkpoint = Checkpoint.load(checkpoint_directory("lift"), load_embodiment())
    assert (checkpoint.task, checkpoint.version) == ("lift", 0)
    assert checkpoint.demonstrations is not None
