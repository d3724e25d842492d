import mujoco
import numpy as np
import pytest

from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.paths import description_directory
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.clearance import Clearance
from mechanic_rl_ros.safety.kinematics import Kinematics
from mechanic_rl_ros.safety.limits import SafetyLimits

FR3 = load_embodiment()
POSES = np.random.default_rng(0).uniform(limits.POSITION_LOWER, limits.POSITION_UPPER, (300, 7))


def test_poses_of_many_configurations_are_those_of_one():
    kinematics = Kinematics(FR3)
    for q, frames in zip(POSES[:50], kinematics.frames(POSES[:50]), strict=True):
        position, rotation = kinematics.tcp(q)
        assert frames[7, :3, 3] == pytest.approx(position, abs=1e-12)
        assert frames[7, :3, :3] == pytest.approx(rotation, abs=1e-12)


def test_whatever_of_arm_and_hand_mujoco_says_is_below_the_table_the_spheres_say_so_too():
    model = mujoco.MjModel.from_xml_path(str(description_directory() / "fr3.xml"))
    data = mujoco.MjData(model)
    clearance = Clearance(FR3, SafetyLimits(table_height=0.0, clearance=0.0))
    moving = [i for i in range(model.ngeom) if model.geom(i).name not in ("link0", "link1", "link2", "link3", "hand_guard")]
    seen = 0
    for q in POSES:
        data.qpos[:7], data.qpos[7:9] = q, 0.04
        mujoco.mj_forward(model, data)
        lowest = min(_lowest(model, data, geom) for geom in moving)
        margin = float(clearance.margins(q[None])["table"][0])
        assert margin <= lowest + 0.012, "the spheres leave out the corners of the fingers, by a centimetre at most"
        seen += lowest < 0.0
    assert 20 < seen < 280


def _lowest(model, data, index):
    geom, height = model.geom(index), data.geom_xpos[index][2]
    axes = np.abs(data.geom_xmat[index].reshape(3, 3)[2])
    if geom.type[0] == mujoco.mjtGeom.mjGEOM_BOX:
        return height - float(axes @ geom.size)
    return height - geom.size[0] - axes[2] * geom.size[1]  # a capsule


def test_distances_from_a_box_are_measured_outside_and_inside():
    box = {"name": "bin", "low": [0.2, -0.4, -0.1], "high": [0.8, 0.4, 0.1]}
    clearance = Clearance(FR3, SafetyLimits.from_dict({"table_height": None, "keep_out": [box], "clearance": 0.0}))
    home = np.array(FR3.joints.home)  # the tool at 0.25 m, its lowest sphere 1.15 cm below
    assert clearance.margins(home[None])["keep_out"][0] == pytest.approx(0.25 + 0.001 - 0.0105 - 0.1, abs=2e-3)
    taller = Clearance(FR3, SafetyLimits.from_dict({"table_height": None, "keep_out": [{**box, "high": [0.8, 0.4, 0.3]}], "clearance": 0.0}))
    assert taller.margins(home[None])["keep_out"][0] == pytest.approx(-0.3 + 0.25 + 0.001 - 0.0105, abs=2e-3)
