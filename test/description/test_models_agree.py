"""URDF, MJCF and the kinematics that the commands use describe one robot."""

import mujoco
import numpy as np
import pytest

from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.kinematics import Kinematics

BODIES = [*(f"fr3_link{number}" for number in range(1, 9)), "fr3_hand", "fr3_leftfinger", "fr3_rightfinger"]
MOVING = [name for name in BODIES if name != "fr3_link8"]
KINDS = mujoco.mjtGeom
BOX, CAPSULE, CYLINDER, SPHERE = (int(kind) for kind in (KINDS.mjGEOM_BOX, KINDS.mjGEOM_CAPSULE, KINDS.mjGEOM_CYLINDER, KINDS.mjGEOM_SPHERE))
NOT_ROBOT = {"table"}
CAMERAS = ("front", "wrist")


def posed(model, q, finger=0.0):
    data = mujoco.MjData(model)
    for number, value in enumerate(q, start=1):
        data.joint(f"fr3_joint{number}").qpos = value
    data.joint("fr3_finger_joint1").qpos = data.joint("fr3_finger_joint2").qpos = finger
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    return data


def inertia(model, name):
    """About the centre of mass, in the axes of the body."""
    body, frame = model.body(name), np.empty(9)
    mujoco.mju_quat2Mat(frame, body.iquat)
    rotation = frame.reshape(3, 3)
    return rotation @ np.diag(body.inertia) @ rotation.T


def shapes(model, data, chosen):
    """Boxes, cylinders and spheres of the robot: kind, size, position and axis in the world; a capsule is a cylinder and two spheres."""
    found = []
    for geom in range(model.ngeom):
        if not chosen(geom) or model.geom(geom).name in NOT_ROBOT:
            continue
        kind, size, position, rotation = int(model.geom_type[geom]), model.geom_size[geom], data.geom_xpos[geom], data.geom_xmat[geom].reshape(3, 3)
        axis = rotation[:, 2]
        if kind == CAPSULE:
            radius, half = size[:2]
            found.append((CYLINDER, [radius, half], position, axis))
            found += [(SPHERE, [radius], position + way * half * axis, None) for way in (-1.0, 1.0)]
        else:
            count = {BOX: 3, CYLINDER: 2, SPHERE: 1}[kind]
            found.append((kind, size[:count], position, rotation.ravel() if kind == BOX else axis if kind == CYLINDER else None))
    return found


def same(one, other):
    (kind, size, position, axis), (other_kind, other_size, other_position, other_axis) = one, other
    if kind != other_kind or not np.allclose(size, other_size, atol=1e-9) or not np.allclose(position, other_position, atol=1e-6):
        return False
    return axis is None or np.allclose(axis, other_axis, atol=1e-6) or (kind == CYLINDER and np.allclose(axis, -other_axis, atol=1e-6))


def unmatched(ones, others):
    """Shapes of either list without a partner in the other."""
    rest = list(others)
    alone = []
    for one in ones:
        partner = next((number for number, other in enumerate(rest) if same(one, other)), None)
        if partner is None:
            alone.append(one)
        else:
            del rest[partner]
    return alone + rest


@pytest.mark.parametrize("name", MOVING)
def test_mass_centre_of_mass_and_inertia_are_the_same(name, urdf_model, mjcf_model):
    assert urdf_model.body(name).mass == pytest.approx(mjcf_model.body(name).mass, rel=1e-9)
    assert urdf_model.body(name).ipos == pytest.approx(mjcf_model.body(name).ipos, abs=1e-9)
    assert inertia(urdf_model, name) == pytest.approx(inertia(mjcf_model, name), abs=1e-9)


def test_every_link_is_at_the_same_place_in_two_hundred_poses(urdf_model, mjcf_model, embodiment):
    kinematics, rng = Kinematics(embodiment), np.random.default_rng(0)
    for _ in range(200):
        q, finger = rng.uniform(limits.POSITION_LOWER, limits.POSITION_UPPER), rng.uniform(0.0, 0.04)
        here, there = posed(urdf_model, q, finger), posed(mjcf_model, q, finger)
        for name in BODIES:
            assert here.body(name).xpos == pytest.approx(there.body(name).xpos, abs=1e-6)
            assert here.body(name).xmat == pytest.approx(there.body(name).xmat, abs=1e-6)
        position, rotation = kinematics.tcp(q)
        assert here.body("fr3_hand_tcp").xpos == pytest.approx(position, abs=1e-6)
        assert here.body("fr3_hand_tcp").xmat.reshape(3, 3) == pytest.approx(rotation, abs=1e-6)


@pytest.mark.parametrize(
    ("q", "position"),
    [
        ((0.0, -np.pi / 4, 0.0, -3 * np.pi / 4, 0.0, np.pi / 2, np.pi / 4), (0.306891, 0.0, 0.486882)),
        ((0.3, 0.4, -0.5, -1.9, 0.6, 1.2, -0.7), (0.435663, 0.043660, 0.249285)),
    ],
)
def test_the_tool_centre_point_lies_where_the_published_poses_say(q, position, urdf_model):
    assert posed(urdf_model, q).body("fr3_hand_tcp").xpos == pytest.approx(position, abs=1e-6)


@pytest.mark.parametrize("camera", CAMERAS)
def test_cameras_look_from_the_same_place_in_the_same_direction(camera, urdf_model, mjcf_model, embodiment):
    here, there = (posed(model, embodiment.joints.home) for model in (urdf_model, mjcf_model))
    right, up, back = there.camera(camera).xmat.reshape(3, 3).T
    as_body, as_image = np.stack([-back, -right, up], axis=1), np.stack([right, -up, -back], axis=1)
    link, optical = here.body(f"camera_{camera}_link"), here.body(embodiment.cameras[camera].frame)
    assert link.xpos == pytest.approx(there.camera(camera).xpos, abs=1e-6)
    assert link.xmat == pytest.approx(as_body.ravel(), abs=1e-6)
    assert optical.xpos == pytest.approx(there.camera(camera).xpos, abs=1e-6)
    assert optical.xmat == pytest.approx(as_image.ravel(), abs=1e-6)


@pytest.mark.parametrize("camera", CAMERAS)
def test_cameras_of_gazebo_see_as_much_and_speak_on_the_topics_of_the_embodiment(camera, gazebo_urdf, mjcf_model, embodiment):
    sensor = gazebo_urdf.find(f"gazebo[@reference='camera_{camera}_link']/sensor")
    spec = embodiment.cameras[camera]
    assert float(sensor.find("camera/horizontal_fov").text) == pytest.approx(np.radians(mjcf_model.camera(camera).fovy[0]), abs=1e-6)
    assert sensor.find("camera/image/width").text == sensor.find("camera/image/height").text  # so that it is the field of view up and down, too
    assert sensor.find("topic").text == spec.raw_topic
    assert sensor.find("gz_frame_id").text == spec.frame
    assert float(sensor.find("update_rate").text) >= embodiment.policy_rate


def test_what_touches_has_the_same_shapes(urdf_model, mjcf_model, embodiment):
    here, there = (posed(model, embodiment.joints.home, 0.03) for model in (urdf_model, mjcf_model))
    touching = shapes(mjcf_model, there, lambda geom: mjcf_model.geom_contype[geom])
    assert len(touching) > 30
    assert unmatched(shapes(urdf_model, here, lambda geom: urdf_model.geom_contype[geom]), touching) == []


def test_what_is_seen_has_the_same_shapes(urdf_model, mjcf_model, embodiment):
    here, there = (posed(model, embodiment.joints.home, 0.03) for model in (urdf_model, mjcf_model))
    seen = shapes(mjcf_model, there, lambda geom: mjcf_model.geom_rgba[geom, 3] > 0.0)
    assert unmatched(shapes(urdf_model, here, lambda geom: not urdf_model.geom_contype[geom]), seen) == []


def test_the_rubber_of_the_fingers_grips_as_much(gazebo_urdf, mjcf_model):
    for side in ("left", "right"):
        grip = gazebo_urdf.find(f"gazebo[@reference='fr3_{side}finger']")
        assert float(grip.find("mu1").text) == float(grip.find("mu2").text) == mjcf_model.geom(f"{side}_rubber").friction[0]
