"""The conditional 1-D U-Net over an action chunk (Chi et al., Diffusion Policy, 2023)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.denoiser import Denoiser, step_embedding
from mechanic_rl_ros.policy.linear import Linear, linear, pack, packed_linear
from mechanic_rl_ros.policy.part_config import LAST_GROUPS, UnetDenoiserConfig

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Packable(nn.Module, ABC):
    """A convolution over time as one matrix product, whose weights can also lie in the layout in which they are read fastest.

    A chunk has few steps and many channels. General convolution kernels are made for the opposite; here the weights are read once, in order, which is
    what bounds the time.
    """

    weight: Tensor
    _packed: tuple[Tensor, int] | None = None  # with the version of the weights that it was made of

    @abstractmethod
    def matrix(self) -> Tensor:
        """The weights (O, I) of the product: as many rows as what comes out has numbers, as many columns as what goes in."""

    def pack(self) -> None:
        """Lays the weights out for acting, unless that is done already; once they change it does not count any more."""
        if not self._is_packed():
            packed = pack(self.matrix().detach())
            self._packed = None if packed is None else (packed, self.weight._version)

    def multiply(self, rows: Tensor, bias: Tensor | None) -> Tensor:
        """(..., I) -> (..., O), both of the precision of ``rows``."""
        read = rows.to(self.weight.dtype)
        if self._packed is not None and self._is_packed() and not torch.is_grad_enabled():
            return packed_linear(read, self._packed[0], bias).to(rows.dtype)
        return linear(read, self.matrix(), bias).to(rows.dtype)

    def _is_packed(self) -> bool:
        return self._packed is not None and self._packed[1] == self.weight._version

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}  # cannot be copied; a copy is packed anew


class TimeConv(Packable, nn.Conv1d):
    """Convolution over time: (B, T, channels) -> (B, T / stride, out)."""

    def matrix(self) -> Tensor:
        """See ``Packable``."""
        return self.weight.flatten(1)

    def forward(self, hidden: Tensor) -> Tensor:
        """See the class."""
        padding, kernel = int(self.padding[0]), self.kernel_size[0]
        windows = nn.functional.pad(hidden, (0, 0, padding, padding)).unfold(1, kernel, self.stride[0])
        return self.multiply(windows.flatten(2), self.bias)


class TimeGrow(Packable, nn.ConvTranspose1d):
    """Transposed convolution of kernel 4 and stride 2 over time: (B, T, channels) -> (B, 2 T, out)."""

    def matrix(self) -> Tensor:
        """See ``Packable``."""
        return self.weight.flatten(1).mT

    def forward(self, hidden: Tensor, output_size: list[int] | None = None) -> Tensor:
        """See the class."""
        batch, steps, _ = hidden.shape
        parts = self.multiply(hidden, None).unflatten(2, (self.out_channels, 4))
        grown = hidden.new_zeros(batch, 2 * steps + 2, self.out_channels)
        for place in range(4):
            grown[:, place : place + 2 * steps : 2] += parts[..., place]
        return grown[:, 1:-1] if self.bias is None else grown[:, 1:-1] + self.bias


def keep_convolutions_in(head: nn.Module, precision: str) -> None:
    """Keeps the weights of convolutions over time in ``float32`` or ``bfloat16``; all between them stays float32. Half the bytes are read.

    Raises:
        UserError: Another precision, or there are no such convolutions.
    """
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r} is unknown: use one of {', '.join(PRECISIONS)}")
    convolutions = [module for module in head.modules() if isinstance(module, Packable)]
    if precision == "bfloat16" and not convolutions:
        raise UserError(f"a {type(head).__name__} has no convolutions over time to keep in bfloat16: use precision float32")
    for module in convolutions:
        module.to(PRECISIONS[precision])


def pack_convolutions(head: nn.Module) -> None:
    """Lays the large convolutions over time out as they are read fastest, for acting, where that is not done already. It costs their memory once more."""
    for module in head.modules():
        if isinstance(module, Packable):
            module.pack()


class ConvBlock(nn.Sequential):
    """Convolution over time, GroupNorm, Mish: (B, T, channels) -> (B, T, out)."""

    def __init__(self, channels: int, out: int, kernel: int, groups: int) -> None:
        super().__init__(TimeConv(channels, out, kernel, padding=kernel // 2), nn.GroupNorm(groups, out), nn.Mish())

    def forward(self, hidden: Tensor) -> Tensor:
        """See the class."""
        convolution, norm, activation = self
        return activation(norm(convolution(hidden).transpose(1, 2)).transpose(1, 2))


class ResidualBlock(nn.Module):
    """Two convolutions; what comes out of the first is scaled and shifted (FiLM, Perez et al. 2018).

    The modulation is linear in diffusion step and observation, each after Mish, so that the observation's part is computed once for all steps.
    """

    def __init__(self, channels: int, out: int, observation: int, own: UnetDenoiserConfig) -> None:
        super().__init__()
        self.scales = own.scales
        self.enter = ConvBlock(channels, out, own.kernel, own.groups)
        self.by_step = Linear(own.step_width, out * (1 + own.scales))
        self.by_observation = Linear(observation, out * (1 + own.scales), bias=False)
        self.leave = ConvBlock(out, out, own.kernel, own.groups)
        self.shortcut = TimeConv(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, hidden: Tensor, film: Tensor) -> Tensor:
        """(B, T, channels), (B or 1, 1, out or 2 out) -> (B, T, out)."""
        inner = self.enter(hidden)
        if self.scales:
            scale, shift = film.chunk(2, dim=2)
            inner = torch.addcmul(shift, scale, inner)
        else:
            inner = inner + film
        return self.leave(inner) + self.shortcut(hidden)


class UnetDenoiser(Denoiser):
    """Halves time between two levels on the way down and doubles it on the way up; levels of the same length are joined."""

    def __init__(self, config: PolicyConfig, own: UnetDenoiserConfig) -> None:
        super().__init__(config)
        self.step_width = own.step_width
        self.embed = nn.Sequential(Linear(own.step_width, 4 * own.step_width), nn.Mish(), Linear(4 * own.step_width, own.step_width))

        def block(channels: int, out: int) -> ResidualBlock:
            return ResidualBlock(channels, out, config.observation_dim, own)

        widths, levels = own.widths, len(own.widths)
        entering = (config.action_dim, *widths[:-1])
        self.down = nn.ModuleList(nn.ModuleList([block(a, b), block(b, b)]) for a, b in zip(entering, widths, strict=True))
        self.shrink = nn.ModuleList(TimeConv(width, width, 3, stride=2, padding=1) for width in widths[:-1])
        self.middle = nn.ModuleList([block(widths[-1], widths[-1]), block(widths[-1], widths[-1])])
        leaving = [(2 * widths[level], widths[level - 1]) for level in range(levels - 1, 0, -1)]
        self.up = nn.ModuleList(nn.ModuleList([block(a, b), block(b, b)]) for a, b in leaving)
        self.grow = nn.ModuleList(TimeGrow(width, width, 4, stride=2, padding=1) for _, width in leaving)
        self.final = nn.Sequential(ConvBlock(widths[0], widths[0], own.kernel, LAST_GROUPS), TimeConv(widths[0], config.action_dim, 1))

    def residual_blocks(self) -> list[ResidualBlock]:
        """All blocks in the order in which they are passed."""
        return [block for part in (*self.down, self.middle, *self.up) for block in part]  # type: ignore[union-attr]

    def condition(self, steps: Tensor, observation: Tensor) -> list[Tensor]:
        """See ``Denoiser``; one tensor (B or 1, 1, channels) for every residual block."""
        step = nn.functional.mish(self.embed(step_embedding(steps, self.step_width)))
        seen = nn.functional.mish(observation)
        return [(block.by_step(step) + block.by_observation(seen)).unsqueeze(1) for block in self.residual_blocks()]

    def denoise(self, noisy: Tensor, condition: list[Tensor]) -> Tensor:
        """See ``Denoiser``. T_p must be a multiple of 2 to the number of levels less one."""
        films, hidden, passed = iter(condition), noisy, []
        for level, blocks in enumerate(self.down):
            for block in blocks:  # type: ignore[attr-defined]
                hidden = block(hidden, next(films))
            passed.append(hidden)
            if level < len(self.shrink):
                hidden = self.shrink[level](hidden)
        for block in self.middle:
            hidden = block(hidden, next(films))
        for blocks, grow in zip(self.up, self.grow, strict=True):
            hidden = torch.cat([hidden, passed.pop()], dim=2)
            for block in blocks:  # type: ignore[attr-defined]
                hidden = block(hidden, next(films))
            hidden = grow(hidden)
        return self.final(hidden)
