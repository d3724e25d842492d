"""A denoiser compiled by torch: fewer, larger kernels, and on a CUDA device one graph per step of the sampler instead of a launch per kernel."""

from __future__ import annotations

from typing import Any

import torch

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.denoiser import Denoiser
from mechanic_rl_ros.policy.head import Head
from mechanic_rl_ros.policy.steered import SteeredDenoiser


@torch.inference_mode()
def compile_denoiser(head: Head, config: PolicyConfig, samples: int) -> None:
    """Compiles what a sampler calls in every step, for one chunk and for ``samples`` at once. Takes half a minute; weights may be swapped in place later.

    Raises:
        UserError: The head is no denoiser, or torch cannot compile here.
    """
    head = head.denoiser if isinstance(head, SteeredDenoiser) else head
    if not isinstance(head, Denoiser):
        raise UserError(f"a {type(head).__name__} has no sampler to compile: leave compile out")
    device = next(head.parameters()).device
    options: dict[str, Any] = {"triton.cudagraphs": device.type == "cuda", "compile_threads": 1}  # more threads would be processes that stay
    denoise = torch.compile(head.denoise, dynamic=False, options=options)
    told = head.condition(torch.zeros(1, dtype=torch.int64, device=device), torch.zeros(1, config.observation_dim, device=device))
    try:
        for count in (1, samples):
            denoise(torch.zeros(count, *head.chunk, device=device), told)
    except Exception as error:  # what is raised depends on what is missing: a C++ compiler, Triton, a header
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise UserError(f"torch cannot compile the denoiser here ({reason}): install a C++ compiler, or leave compile out") from error
    head.denoise = denoise  # type: ignore[method-assign]
