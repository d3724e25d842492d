"""The MuJoCo FR3 with table, objects and cameras: physics, trajectory controller, gripper and task in one object."""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.embodiment import Embodiment
from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import description_directory
from mechanic_rl_ros.safety import limits
from mechanic_rl_ros.safety.reading import JointReading
from mechanic_rl_ros.sim.render import make_renderer
from mechanic_rl_ros.sim.tasks import TaskReading, load_task
from mechanic_rl_ros.sim.trajectory import Trajectory, TrajectoryController

__all__ = ["JointReading", "Simulation"]

CONTROL_STEPS = 2  # physics steps between two samples of the trajectory controller
FINGER_SPEED = 0.2  # m/s, velocity limit of fr3_finger_joint1 in franka_description
FINGER_OPEN = limits.FINGER_OPEN


class Simulation:
    """One simulated robot cell. Time only goes forward, also across ``reset``."""

    def __init__(self, task: str, embodiment: Embodiment, *, renderer: str = "rays", camera_size: int = 64) -> None:
        """Builds the scene of ``task``, with the arm at home.

        Args:
            task: Name of a task.
            embodiment: The robot; its ``home`` is where the arm starts.
            renderer: ``rays`` or ``mujoco``.
            camera_size: Rows and columns of the camera images, pixels.

        Raises:
            UserError: Unknown task or renderer, or the scene cannot be read.
        """
        task_class = load_task(task)
        path = description_directory() / f"{task}.xml"
        try:
            self.model = mujoco.MjModel.from_xml_path(str(path))
        except ValueError as error:
            raise UserError(f"cannot read the scene {path} ({str(error).splitlines()[0]}): reinstall the package") from error
        self.data = mujoco.MjData(self.model)
        self.task = task_class(self.model)
        self.embodiment = embodiment
        self._renderer = make_renderer(renderer, self.model, camera_size)
        self._arm = self._joint_addresses(embodiment.joints.names)
        self._finger = int(self.model.joint(embodiment.joints.finger).qposadr[0])
        self._finger_speed = int(self.model.joint(embodiment.joints.finger).dofadr[0])
        self._fingers = [int(self.model.joint(name).qposadr[0]) for name in ("fr3_finger_joint1", "fr3_finger_joint2")]
        self._tcp = int(self.model.site(embodiment.tcp_frame).id)
        self._step_ns = round(self.model.opt.timestep * 1e9)
        self._time_ns = 0
        self._owed_ns = 0
        self._controller = TrajectoryController(embodiment.joints.home)
        self.reset(seed=0)

    @property
    def time_ns(self) -> int:
        """Simulated time. It never goes back."""
        return self._time_ns

    def reset(self, seed: int, region: str = "all") -> None:
        """Puts the arm at home with an open hand and lets ``seed`` arrange the scene.

        Args:
            seed: Scene seed; the same seed gives the same scene.
            region: ``all``, or ``narrow`` for the part of the scene that demonstrations cover.

        Raises:
            UserError: There is no such region.
        """
        home = np.array(self.embodiment.joints.home)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._arm] = home
        self.data.qpos[self._fingers] = FINGER_OPEN
        self.task.place(self.data, np.random.default_rng(seed), region)
        self._controller.hold(home)
        self._finger_goal = self._finger_target = FINGER_OPEN
        self._apply(home, np.zeros(7))
        mujoco.mj_forward(self.model, self.data)

    def advance(self, seconds: float) -> None:
        """Runs the physics. What does not fill a physics step is carried over to the next call.

        Raises:
            UserError: ``seconds`` is negative or not finite.
        """
        if not (np.isfinite(seconds) and seconds >= 0.0):
            raise UserError(f"cannot advance the simulation by {seconds} s: give a finite time that is not negative")
        self._owed_ns += round(seconds * 1e9)
        steps = self._owed_ns // self._step_ns
        self._owed_ns -= steps * self._step_ns
        for start in range(0, steps, CONTROL_STEPS):
            count = min(CONTROL_STEPS, steps - start)
            self._move_fingers(count * self._step_ns * 1e-9)
            self._apply(*self._controller.sample(self._time_ns))
            mujoco.mj_step(self.model, self.data, count)
            self._time_ns += count * self._step_ns
        self._update_frames()

    def set_trajectory(self, trajectory: Trajectory) -> None:
        """Follows ``trajectory`` from now on, starting at the current desired state.

        Raises:
            UserError: The trajectory is malformed; the old one goes on.
        """
        self._controller.set_trajectory(trajectory, self._time_ns)

    def set_finger(self, position_m: float) -> None:
        """Moves both fingers towards ``position_m`` (0 closed to 0.04 open).

        Raises:
            UserError: It is not finite.
        """
        if not np.isfinite(position_m):
            raise UserError(f"finger position {position_m} is not finite: give 0 (closed) to {FINGER_OPEN} (open)")
        self._finger_target = float(np.clip(position_m, 0.0, FINGER_OPEN))

    def joint_state(self) -> JointReading:
        """Joint state now."""
        data = self.data
        return JointReading(
            stamp_ns=self._time_ns,
            positions=data.qpos[self._arm].copy(),
            velocities=data.qvel[:7].copy(),
            efforts=data.qfrc_actuator[:7].copy(),
            finger=float(data.qpos[self._finger]),
            finger_velocity=float(data.qvel[self._finger_speed]),
        )

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Image of ``camera`` now: RGB (camera_size, camera_size, 3).

        Raises:
            UserError: There is no such camera, or no graphics library.
        """
        return self._renderer.render(self.data, camera)

    def task_state(self) -> TaskReading:
        """Privileged state of the task now."""
        return self.task.reading(self.data, self.data.site_xpos[self._tcp])

    def expert(self) -> NDArray[np.float64]:
        """Action (4,) of the scripted expert for now, normalised, without noise."""
        tcp = self.data.site_xpos[self._tcp]
        return self.task.expert(self.task.reading(self.data, tcp), tcp, float(self.data.qpos[self._finger]))

    def close(self) -> None:
        """Gives back what the renderer holds; to be called by the thread that rendered."""
        self._renderer.close()

    def _joint_addresses(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        try:
            return np.array([int(self.model.joint(name).qposadr[0]) for name in names])
        except KeyError as error:
            raise UserError(f"the simulated robot lacks a joint of embodiment {self.embodiment.name} ({error}): simulate config/embodiment/fr3.yaml") from error

    def _move_fingers(self, seconds: float) -> None:
        reach = FINGER_SPEED * seconds
        self._finger_goal += min(reach, max(-reach, self._finger_target - self._finger_goal))

    def _apply(self, positions: NDArray[np.float64], velocities: NDArray[np.float64]) -> None:
        control = self.data.ctrl
        control[:7], control[7:14], control[14:16] = positions, velocities, self._finger_goal

    def _update_frames(self) -> None:
        """Brings body, geom, site and camera frames up to the positions that the last step integrated to."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
