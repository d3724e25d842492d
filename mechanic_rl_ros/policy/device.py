"""Where tensors are computed."""

from __future__ import annotations

import torch

from mechanic_rl_ros.errors import UserError


def pick_device(name: str) -> str:
    """``name``, with ``auto`` resolved: cuda where there is one.

    Raises:
        UserError: There is no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name not in ("cpu", "cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))):
        raise UserError(f"device {name} is unknown: use auto, cpu, cuda or cuda:0")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device {name} is not available: use cpu, or install a CUDA build of torch")
    return name
