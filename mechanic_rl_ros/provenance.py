"""What a figure was measured with: the state of the code, the machine and the day."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

RUNS = (":/*.py", ":/src", ":/CMakeLists.txt", ":/config", ":/description", ":/checkpoints")
"""What results depend on, in a repository."""


@cache
def provenance() -> dict[str, str]:
    """``commit``, ``machine`` and ``date`` of this process, in words, when it was first asked for: ask before code may change."""
    return {"commit": commit(Path(__file__).parent), "machine": machine(), "date": time.strftime("%Y-%m-%d")}


def commit(folder: Path) -> str:
    """Commit of the repository that ``folder`` lies in, ``+`` behind it where what runs was changed since; where there is no git, the package's version."""
    try:
        known = _git(folder, "rev-parse", "--short=10", "HEAD")
        return known + "+" * bool(_git(folder, "status", "--porcelain", "--", *RUNS))
    except (OSError, subprocess.SubprocessError):
        pass
    try:
        return f"version {version('mechanic_rl_ros')}"
    except PackageNotFoundError:
        return "unknown"


def machine() -> str:
    """Processor, its cores that may be used, GPU, and the versions of Python and torch."""
    names = [line.partition(":")[2].strip() for line in _read(Path("/proc/cpuinfo")).splitlines() if line.startswith("model name")]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores ({names[0] if names else platform.machine()}, {platform.system()}), {gpu}, Python {platform.python_version()}, torch {torch.__version__}"


def _git(folder: Path, *command: str) -> str:
    return subprocess.run(["git", "-C", folder, *command], capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
