"""Gazebo's worlds are valid SDF and hold what the scenes of the embedded simulation hold."""

from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
import yaml

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import config_directory, description_directory
from mechanic_rl_ros.sim.render import BACKGROUND
from mechanic_rl_ros.sim.tasks import TASKS
from mechanic_rl_ros.xacro_files import robot_description, world

OBJECTS = {"lift": {"cube"}, "push": {"puck", "goal"}, "reach": {"target"}}
BOX, CYLINDER, SPHERE = (int(kind) for kind in (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_SPHERE))


def numbers(element):
    return [float(word) for word in element.text.split()]


def size(geometry):
    """Kind and size as MuJoCo has them: half edges; radius and half length; radius."""
    if (box := geometry.find("box/size")) is not None:
        return BOX, [edge / 2 for edge in numbers(box)]
    if (cylinder := geometry.find("cylinder")) is not None:
        return CYLINDER, [float(cylinder.find("radius").text), float(cylinder.find("length").text) / 2]
    return SPHERE, numbers(geometry.find("sphere/radius"))


def without_errors(result):
    """The checker ends with status 0 although it complains, so that its words count."""
    said = result.stdout + result.stderr
    return result.returncode == 0 and not [line for line in said.splitlines() if "Error" in line], said


@pytest.fixture(scope="module", params=sorted(TASKS))
def task(request):
    return request.param


@pytest.fixture(scope="module")
def sdf(task):
    return ElementTree.fromstring(world(task))


@pytest.fixture(scope="module")
def scene(task):
    return mujoco.MjModel.from_xml_path(str(description_directory() / f"{task}.xml"))


def test_the_world_is_valid_sdf(task, sdf_tool, tmp_path):
    path = tmp_path / f"{task}.sdf"
    path.write_text(world(task))
    result = sdf_tool("-k", path)
    fine, said = without_errors(result)
    assert fine, said
    assert "Valid" in result.stdout


def test_the_robot_becomes_sdf_with_its_joints_sensors_and_friction(sdf_tool, tmp_path, embodiment):
    path = tmp_path / "fr3.urdf"
    path.write_text(robot_description("gazebo"))
    result = sdf_tool("-p", path)
    fine, said = without_errors(result)
    assert fine, said
    model = ElementTree.fromstring(result.stdout).find("model")
    moving = {joint.get("name") for joint in model.findall("joint") if joint.get("type") != "fixed"}
    assert moving == {*embodiment.joints.names, "fr3_finger_joint1", "fr3_finger_joint2"}
    assert {sensor.findtext("gz_frame_id") for sensor in model.findall("link/sensor")} == {camera.frame for camera in embodiment.cameras.values()}
    assert model.find("joint[@name='world_joint']/parent").text == "world"
    assert {float(mu.text) for mu in model.findall("link[@name='fr3_leftfinger']/collision/surface/friction/ode/mu")} == {1.1}
    assert model.find("plugin").get("name") == "gz_ros2_control::GazeboSimROS2ControlPlugin"


def test_every_task_has_its_world_and_no_other(task, sdf):
    assert sdf.get("version") == "1.9"  # the newest that Debian's checker knows
    assert sdf.find("world").get("name") == task
    assert {model.get("name") for model in sdf.findall("world/model")} == {"table"} | OBJECTS[task]


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="lift, push, reach"):
        world("scene")


def test_table_and_objects_look_and_lie_as_in_the_mjcf(sdf, scene):
    data = mujoco.MjData(scene)
    mujoco.mj_kinematics(scene, data)
    for model in sdf.findall("world/model"):
        geom = scene.geom(model.get("name"))
        kind, extent = size(model.find("link/visual/geometry"))
        assert numbers(model.find("pose")) == pytest.approx([*data.geom(geom.id).xpos, 0.0, 0.0, 0.0], abs=1e-9)
        assert kind == geom.type[0]
        assert extent == pytest.approx(geom.size[: len(extent)], abs=1e-9)
        assert numbers(model.find("link/visual/material/diffuse")) == pytest.approx(geom.rgba, abs=1e-6)


def test_only_what_touches_in_the_mjcf_collides_with_the_same_friction(sdf, scene):
    for model in sdf.findall("world/model"):
        geom = scene.geom(model.get("name"))
        collision = model.find("link/collision")
        assert (collision is not None) == bool(geom.contype[0])
        if collision is not None:
            assert size(collision.find("geometry")) == size(model.find("link/visual/geometry"))
            assert {float(collision.find(f"surface/friction/ode/{name}").text) for name in ("mu", "mu2")} == {geom.friction[0]}


def test_what_moves_has_the_same_mass_and_inertia_and_tells_where_it_is(sdf, scene):
    for model in sdf.findall("world/model"):
        body = scene.body(scene.geom_bodyid[scene.geom(model.get("name")).id])
        assert (model.findtext("static") == "true") == (body.dofnum[0] == 0)
        if body.dofnum[0]:
            inertial = model.find("link/inertial")
            assert float(inertial.findtext("mass")) == pytest.approx(body.mass[0])
            moments = [float(inertial.findtext(f"inertia/{name}")) for name in ("ixx", "iyy", "izz")]
            assert sorted(moments) == pytest.approx(sorted(body.inertia), rel=1e-6)
            assert model.find("plugin[@name='gz::sim::systems::PosePublisher']") is not None


def test_it_is_lit_as_the_embedded_simulation(sdf, scene):
    assert numbers(sdf.find("world/light/direction")) == pytest.approx(scene.light("lamp").dir * np.linalg.norm([-0.35, 0.25, -0.9]))
    assert numbers(sdf.find("world/light/diffuse"))[:3] == pytest.approx(scene.light("lamp").diffuse)
    assert numbers(sdf.find("world/scene/background"))[:3] == pytest.approx(BACKGROUND)


def test_every_update_of_the_controllers_is_one_physics_step(sdf):
    manager = yaml.safe_load((config_directory() / "controllers" / "fr3_gazebo.yaml").read_text())["/**/controller_manager"]
    assert float(sdf.findtext("world/physics/max_step_size")) * manager["ros__parameters"]["update_rate"] == pytest.approx(1.0)
