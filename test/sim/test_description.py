"""The MJCF of the robot says what franka_description says."""

import mujoco
import numpy as np
import pytest

from mechanic_rl_ros.paths import description_directory
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.sim.tasks import TASKS

JOINTS = [f"fr3_joint{number}" for number in range(1, 8)]


@pytest.fixture(scope="module")
def model():
    return mujoco.MjModel.from_xml_path(str(description_directory() / "fr3.xml"))


@pytest.mark.parametrize(
    ("q", "position"),
    [
        ((0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4), (0.306891, 0.0, 0.486882)),
        ((0.3, 0.4, -0.5, -1.9, 0.6, 1.2, -0.7), (0.435663, 0.043660, 0.249285)),
    ],
)
def test_the_tool_centre_point_lies_where_the_published_poses_say(model, q, position):
    data = mujoco.MjData(model)
    data.qpos[:7] = q
    mujoco.mj_kinematics(model, data)
    assert data.site("fr3_hand_tcp").xpos == pytest.approx(position, abs=1e-6)


def test_model_and_kinematics_agree_everywhere(model, embodiment):
    data, kinematics, rng = mujoco.MjData(model), Kinematics(embodiment), np.random.default_rng(0)
    for _ in range(50):
        data.qpos[:7] = rng.uniform(limits.POSITION_LOWER, limits.POSITION_UPPER)
        mujoco.mj_kinematics(model, data)
        position, rotation = kinematics.tcp(data.qpos[:7])
        assert data.site("fr3_hand_tcp").xpos == pytest.approx(position, abs=1e-9)
        assert data.site("fr3_hand_tcp").xmat.reshape(3, 3) == pytest.approx(rotation, abs=1e-9)


def test_joint_ranges_and_torques_are_the_published_ones(model):
    ranges = np.array([model.joint(name).range for name in JOINTS])
    assert ranges[:, 0] == pytest.approx(limits.POSITION_LOWER)
    assert ranges[:, 1] == pytest.approx(limits.POSITION_UPPER)
    torques = np.array([model.jnt_actfrcrange[model.joint(name).id] for name in JOINTS])
    assert torques == pytest.approx(np.stack([-limits.TORQUE, limits.TORQUE], axis=1))
    assert model.joint("fr3_finger_joint1").range == pytest.approx([0.0, 0.04])


def test_masses_and_centres_of_mass_are_the_published_ones(model):
    masses = [model.body(f"fr3_link{number}").mass[0] for number in range(1, 8)]
    assert masses == pytest.approx([2.9274653454, 2.9355370338, 2.2449013699, 2.6155955791, 2.3271207594, 1.8170376524, 0.6271432862])
    assert model.body("fr3_hand").mass[0] == pytest.approx(0.6544)
    assert model.body("fr3_leftfinger").mass[0] == pytest.approx(0.0291)
    assert model.body("fr3_link4").ipos == pytest.approx([-0.0459100965, 0.0630492960, -0.0085187868])


def test_the_inertia_of_a_link_is_the_published_one(model):
    body = model.body("fr3_link2")
    frame = np.empty(9)
    mujoco.mju_quat2Mat(frame, body.iquat)
    rotation = frame.reshape(3, 3)
    inertia = rotation @ np.diag(body.inertia) @ rotation.T
    assert inertia[0] == pytest.approx([0.0419389463, 0.0002025732, 0.0040777842])
    assert inertia[1, 2] == pytest.approx(-0.0042252158)


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_has_a_scene_with_both_cameras(task):
    model = mujoco.MjModel.from_xml_path(str(description_directory() / f"{task}.xml"))
    assert {model.camera(number).name for number in range(model.ncam)} == {"front", "wrist"}
