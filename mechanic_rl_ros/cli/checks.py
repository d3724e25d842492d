"""What ``doctor`` looks at."""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.paths import checkpoint_directory, config_directory
from mechanic_rl_ros.ros_domain import LARGEST_DOMAIN, LAST_DOMAIN, REACH_VARIABLES, free_domain, is_busy, local_discovery


class State(str, Enum):
    """How bad it is."""

    OK = "ok"
    OPTIONAL = "optional"
    MISSING = "missing"


@dataclass
class Check:
    """One line: what was looked for, what was found, and what to do when it is not good."""

    name: str
    state: State
    found: str
    remedy: str = ""

    def to_dict(self) -> dict[str, str]:
        """Plain data for JSON."""
        return {**asdict(self), "state": self.state.value}


_SET_UP = "`make` in the checkout sets everything up"

# distribution on PyPI -> module
_REQUIRED = {
    "numpy": "numpy",
    "torch": "torch",
    "mujoco": "mujoco",
    "safetensors": "safetensors",
    "PyYAML": "yaml",
    "mcap": "mcap",
    "mcap-ros2-support": "mcap_ros2",
    "zstandard": "zstandard",
    "typer": "typer",
    "rich": "rich",
    "matplotlib": "matplotlib",
    "tensorboard": "tensorboard",
}

# Run in a process of its own: the core never imports rclpy, and a broken installation may take the process with it.
_ROS_PROBE = """
import json
found = {}
import rclpy
found["rclpy"] = getattr(rclpy, "__file__", "")
from rclpy.utilities import get_rmw_implementation_identifier
found["rmw"] = get_rmw_implementation_identifier()
print(json.dumps(found), flush=True)
import mechanic_rl_ros.msg
found["interfaces"] = len([name for name in dir(mechanic_rl_ros.msg) if name[0].isupper()])
print(json.dumps(found), flush=True)
"""


def run_checks(run_directory: Path) -> list[Check]:
    """All checks, in the order in which things build on one another."""
    return [*_python(), *_packages(), *_ros(), *_optional(), *_machine(), *_domain(), *_files(run_directory)]


def _python() -> Iterator[Check]:
    found = f"{sys.version.split()[0]} in {sys.prefix}"
    yield Check("Python", State.OK if sys.version_info >= (3, 10) else State.MISSING, found, "install Python 3.10 to 3.13")


def _packages() -> Iterator[Check]:
    for distribution, module in _REQUIRED.items():
        try:
            present = importlib.util.find_spec(module) is not None
            yield Check(distribution, State.OK if present else State.MISSING, version(distribution), f"pip install {distribution}, or {_SET_UP}")
        except PackageNotFoundError:
            yield Check(distribution, State.MISSING, "not installed", f"pip install {distribution}, or {_SET_UP}")


def _ros() -> Iterator[Check]:
    distribution, prefix = os.environ.get("ROS_DISTRO"), os.environ.get("AMENT_PREFIX_PATH", "")
    sourced = (
        f"{distribution}, sourced"
        if distribution and shutil.which("ros2")
        else "no installation sourced, Python wheels"
        if distribution is None
        else distribution
    )
    found, error = _probe_ros()
    yield Check("ROS 2", State.OK if "rclpy" in found else State.MISSING, sourced, f"source /opt/ros/<distribution>/setup.bash, or {_SET_UP}")
    yield Check(
        "rclpy",
        State.OK if "rclpy" in found else State.MISSING,
        _version("ros-rclpy", found.get("rclpy", error)),
        f"pip install 'ros-rclpy[fastrtps]', or {_SET_UP}",
    )
    yield Check(
        "middleware",
        State.OK if "rmw" in found else State.MISSING,
        found.get("rmw", error),
        "set RMW_IMPLEMENTATION to an installed one, e.g. rmw_fastrtps_cpp",
    )
    interfaces = found.get("interfaces", 0)
    remedy = f"colcon build and source install/setup.bash, or {_SET_UP}"
    yield Check(
        "interfaces",
        State.OK if interfaces else State.MISSING,
        f"{interfaces} messages" if interfaces else f"not built ({error or prefix or 'no prefix'})",
        remedy,
    )


def _version(distribution: str, otherwise: str) -> str:
    """Version of a wheel; ``otherwise`` where it is no wheel but part of a ROS 2 installation, or is missing."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return otherwise


def _probe_ros() -> tuple[dict[str, Any], str]:
    """What the probe found before it ended, and the last line that it complained with."""
    try:
        probe = subprocess.run([sys.executable, "-c", _ROS_PROBE], capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return {}, "importing rclpy does not return"
    lines = [line for line in probe.stdout.splitlines() if line.startswith("{")]
    complaint = (probe.stderr.strip().splitlines() or [f"it ended with status {probe.returncode}"])[-1] if probe.returncode else ""
    return (json.loads(lines[-1]) if lines else {}), complaint


def _optional() -> Iterator[Check]:
    for module, purpose, remedy in (
        ("launch_ros", "ros2 launch", "comes with a ROS 2 installation; without it `mechanic-rl finetune` uses supervisor"),
        ("supervisor", "starts the nodes without launch", "pip install supervisor"),
        ("cv_bridge", "converts camera images", "comes with a ROS 2 installation; without it rosbags-image is used"),
        ("rosbags.image", "converts camera images", "pip install rosbags-image"),
    ):
        present = _importable(module)
        yield Check(module, State.OK if present else State.OPTIONAL, purpose if present else f"not installed ({purpose})", remedy)
    library = next((name for name in ("OSMesa", "EGL", "GL") if ctypes.util.find_library(name)), "")
    found = f"lib{library}" if library else "no GL library: the built-in renderer needs none"
    yield Check("OpenGL", State.OK if library else State.OPTIONAL, found, "apt-get install libegl1 libgl1, for MuJoCo's own renderer")
    yield _cuda()


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _cuda() -> Check:
    remedy = "an NVIDIA GPU with a driver and the CUDA build of torch; without it everything runs on the CPU"
    try:
        import torch
    except Exception as error:
        return Check("CUDA", State.OPTIONAL, f"torch cannot be imported ({type(error).__name__})", remedy)
    if torch.cuda.is_available():
        return Check("CUDA", State.OK, f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    return Check("CUDA", State.OPTIONAL, "none, using the CPU", remedy)


def _machine() -> Iterator[Check]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check("cores", State.OK if cores >= 2 else State.OPTIONAL, str(cores), "2 or more keep learner and controller apart")


def _domain() -> Iterator[Check]:
    text = os.environ.get("ROS_DOMAIN_ID", "")
    if text and not (text.isdigit() and int(text) <= LARGEST_DOMAIN):
        yield Check("ROS_DOMAIN_ID", State.MISSING, f"{text!r} is not a domain", f"set it to a number from 0 to {LAST_DOMAIN}, or unset it")
        return
    domain = int(text or 0)
    busy, high = is_busy(domain), domain > LAST_DOMAIN
    use = "in use on this machine" if busy else "its ports may be taken by other programs" if high else "free"
    remedy = _domain_remedy() if busy else f"use one from 0 to {LAST_DOMAIN}" if high else ""
    yield Check("ROS_DOMAIN_ID", State.OPTIONAL if remedy else State.OK, f"{domain}{'' if text else ' (not set)'}, {use}", remedy)
    yield _reach()


def _reach() -> Check:
    found = [f"{name}={os.environ[name]}" for name in REACH_VARIABLES if name in os.environ]
    needed = [f"{name}={value}" for name, value in local_discovery({"ROS_DISTRO": os.environ.get("ROS_DISTRO", "")}).items()]
    quiet = os.environ.get("ROS_LOCALHOST_ONLY") == "1" or os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") == "OFF" or set(needed) <= set(found)
    remedy = "" if quiet else f"`export {' '.join(needed)}` keeps everything on this machine"
    return Check("discovery range", State.OK if quiet else State.OPTIONAL, ", ".join(found) or "the whole subnet (nothing set)", remedy)


def _domain_remedy() -> str:
    try:
        return f"stop the other run, or use --domain {free_domain()}"
    except UserError as error:
        return str(error)


def _files(run_directory: Path) -> Iterator[Check]:
    folder = run_directory.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    writable = folder.is_dir() and _writable(folder)
    yield Check(
        "run folder", State.OK if writable else State.MISSING, f"{folder} {'can' if writable else 'cannot'} be written", "choose another with --run-directory"
    )
    yield Check("disk space", State.OK if free > 1 else State.OPTIONAL, f"{free:.1f} GiB free", "a run takes about 0.3 GiB")
    for name, path in (("configuration", config_directory() / "embodiment"), ("base checkpoint", checkpoint_directory("lift"))):
        yield Check(
            name,
            State.OK if path.exists() else State.OPTIONAL,
            str(path) if path.exists() else f"{path} is not there",
            "`mechanic-rl collect` and `pretrain` make one",
        )


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
