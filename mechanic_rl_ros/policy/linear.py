"""Linear layers by oneDNN, which multiplies 1.4 to 3 times as fast as torch's own BLAS on processors that are not Intel's.

The gain is largest where few rows meet many weights, as in a U-Net that denoises one chunk: there it is up to 1.4 times as fast on Intel's, too. Small
layers and gradients torch's BLAS does 1.1 to 1.5 times as fast on those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

WORTH = 1 << 21
"""Multiplications from which on oneDNN is the faster one; it needs some 10 microseconds before it begins."""

FEW = 16  # rows that packed weights are laid out for
MANY = 1 << 20
"""Weights from which on oneDNN is the faster one on a processor of Intel's, as long as there are no gradients."""


def _is_of_intel(description: Path = Path("/proc/cpuinfo")) -> bool:
    return description.exists() and "GenuineIntel" in description.read_text()


INTEL = torch.backends.mkl.is_available() and _is_of_intel()
_linear = torch.ops.mkldnn._linear_pointwise if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise") else None


class Linear(nn.Linear):
    """As torch's, in all but speed."""

    def forward(self, inputs: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return linear(inputs, self.weight, self.bias)


class TwinLinear(nn.Module):
    """Two independent linear layers, of rows of their own or of the same ones: (2, B, inputs) or (B, inputs) -> (2, B, outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(2, inputs, outputs).uniform_(-bound, bound).mT.contiguous())
        self.bias = nn.Parameter(torch.zeros(2, 1, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """(2, B, inputs) or, the same for both, (B, inputs) -> (2, B, outputs)."""
        if inputs.dim() == 2:  # one product instead of two
            return linear(inputs, self.weight.flatten(0, 1), self.bias.flatten()).unflatten(1, (2, -1)).transpose(0, 1)
        if not _serves(inputs[0], self.weight[0]):
            return torch.baddbmm(self.bias, inputs, self.weight.mT)
        return product(inputs, self.weight, self.bias)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As torch's: (..., I), (O, I) and (O,) -> (..., O)."""
    rows = inputs if inputs.dim() == 2 else inputs.reshape(-1, inputs.shape[-1])
    if not _serves(rows, weight):
        return nn.functional.linear(inputs, weight, bias)
    outputs = product(rows, weight, bias)
    return outputs if inputs.dim() == 2 else outputs.reshape(*inputs.shape[:-1], len(weight))


def pack(weight: Tensor) -> Tensor | None:
    """A copy of a weight (O, I) in the layout that oneDNN reads, for ``packed_linear``; None where oneDNN does not serve, or the weight is small.

    Reading it is what bounds the time where few rows meet many weights.
    """
    if _linear is None or weight.device.type != "cpu" or weight.numel() < MANY:
        return None
    if weight.dtype != torch.float32 and not (weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return None
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), FEW)  # type: ignore[no-any-return]


def packed_linear(inputs: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """(..., I) and a packed weight -> (..., O), without gradients."""
    return _linear(inputs, packed, bias, "none", [], "")  # type: ignore[no-any-return, misc]


def product(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """inputs weight^T + bias, of matrices or of a batch of them, which can be differentiated once.

    Args:
        inputs: (B, I) or (N, B, I).
        weight: (O, I) or (N, O, I).
        bias: (O,) or (N, 1, O), or none.

    Returns:
        (B, O) or (N, B, O).
    """
    if not torch.is_grad_enabled():
        return _multiply(inputs, weight, bias)
    return _Product.apply(inputs, weight, bias)  # type: ignore[no-any-return]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.bias_shape = None if bias is None else bias.shape
        return _multiply(inputs, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        inputs, weight = ctx.saved_tensors
        for_inputs, for_weight, for_bias = ctx.needs_input_grad
        return (
            _multiply(gradient, weight.mT) if for_inputs else None,
            _multiply(gradient.mT, inputs.mT) if for_weight else None,
            gradient.sum(dim=-2).reshape(ctx.bias_shape) if for_bias else None,
        )


def _serves(inputs: Tensor, weight: Tensor) -> bool:
    return (
        _linear is not None
        and inputs.dtype == weight.dtype == torch.float32
        and inputs.device.type == "cpu"
        and inputs.shape[0] * weight.numel() >= WORTH
        and (not INTEL or (weight.numel() >= MANY and not torch.is_grad_enabled()))
        and not torch.compiler.is_compiling()
    )


def _multiply(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if inputs.dim() == 2:
        return _linear(inputs, weight, bias, "none", [], "")  # type: ignore[no-any-return, misc]
    biases = [None] * len(inputs) if bias is None else bias.squeeze(1)
    return torch.stack([_linear(one, by, plus, "none", [], "") for one, by, plus in zip(inputs, weight, biases, strict=True)])  # type: ignore[misc]
