"""Mechanic in relative units: an optimizer whose step size nobody chooses.

How to use it::

    tuner = RelativeMechanic(network.parameters())
    loss.backward(); tuner.step(); tuner.zero_grad()
    for target, tensor in zip(published, tuner.averages()): target.copy_(tensor)   # what acts

Gradients are taken at the parameters as they stand (y); what acts, is evaluated and is published are the ``averages`` (x).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mechanic_rl_ros.tuner import relative_passes
from mechanic_rl_ros.tuner.kernels import library_for, numbers, pointers, sizes
from mechanic_rl_ros.tuner.relative_passes import Columns, Numbers
from mechanic_rl_ros.tuner.saved_state import by_position, fitting_state, require_dense, require_shape

BETAS = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
S_DECAY = 0.01
UNIT = 0.05  # of the network's size: what one step changes at scale 1, before averaging
GROWTH = 500.0  # steps in which that unit is reached where a network acts already: half of what the second moment looks back on
STAKE = 6.0  # of all bettors together without any reward (s_init); what is beyond 1 is not played
NUMBERS = Numbers(momentum=0.9, decay=0.999, epsilon=1e-16, weight_decay=0.01)
TINY = 1e-100  # in denominators that are zero only where nothing was ever seen; bettors count in double precision


class RelativeMechanic(torch.optim.Optimizer):
    """Mechanic per tensor over Adam's direction in units of the network's size, as the learner inside Schedule-Free averaging.

    Three published ideas, joined so that no number depends on the problem:

    * A relative unit: a step is five percent of the root mean square of all parameters before training, so that the scale starts at 1 instead of 1e-8.
      The network's size and not the tensor's: gains of norms, which are far larger than the weights beside them, must not move faster than those.
    * Mechanic (Cutkosky, Defazio, Mehta: Mechanic, a learning rate tuner, NeurIPS 2023): the sum of all steps D is multiplied by a scale S, learned
      online from h = <D, g>, the slope of the loss along D. S is never played above 1, so that the first steps cannot ruin what was pretrained, and
      falls only where the slope is steadily unfavourable: noise around a minimum, in which pretrained networks start, must not stall them.
    * Schedule-Free averaging (Defazio et al., The road less scheduled, NeurIPS 2024), which makes of any online learner z one whose average x is as
      good as z is on average. Here z = x_ref + S D is Mechanic; gradients, and with them h, are taken at y = 0.1 z + 0.9 x; x acts.

    Averaged are the iterates z, not D: S moves a little in each step and multiplies all that was learned so far, and only an average over time
    takes that noise away.

    A loss in another unit gives the same steps, as long as its gradients stay between about 1e-12 and 1e18, where single precision can square them.

    The state is kept in fp32 for parameters of lower precision: four buffers of the size of the parameters (x_ref, D, x, second moment).
    Float32 parameters on the processor are moved by compiled code, in two passes over memory. On a CUDA device a step waits for the host once, to see
    whether its sums are finite; it cannot be captured in a graph.

    A gradient that is not finite (or beyond 1e18) leaves the step of its group out as a whole, counted in ``skipped``. Tensors without gradient stay as they are.
    ``state_dict`` is keyed by position and continues bit-equally. There is no learning rate that a scheduler of torch could change.
    """

    def __init__(self, params: Iterable[Any], *, pretrained: bool = False) -> None:
        """Takes the parameters. Where all of a network is zero, its size counts as 1.

        Who knows from elsewhere how far a network may move, such as from a trust region, makes ``unit`` of a group smaller: nobody else needs to.

        Args:
            params: Tensors, or groups of them, each a network of its own.
            pretrained: Whether they do already what they are for, as a cloned policy does; a group may say it for itself. Their unit grows from nothing
                over 500 steps, in which the second moment comes to know the gradients. New networks have nothing to lose and start with all of it.
        """
        super().__init__(params, {"unit": UNIT, "pretrained": pretrained, "size": None, "skipped": 0})

    @property
    def skipped(self) -> int:
        """Steps that were left out because a gradient was not finite."""
        return sum(group["skipped"] for group in self.param_groups)

    @property
    def scale(self) -> float:
        """Learned scale in relative units, in [0, 1], mean over all tensors, weighted by their size; 1 before the first step."""
        known = [tensor for group in self.param_groups for tensor in group["params"] if tensor in self.state and self.state[tensor]["step"].item() > 0.0]
        if not known:
            return 1.0
        sizes = [float(tensor.numel()) for tensor in known]
        scales = torch.stack([self.state[tensor]["bettors"] for tensor in known])[:, 3].sum(dim=1)
        return float(scales @ scales.new_tensor(sizes)) / sum(sizes) if any(sizes) else 1.0

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As of every optimizer; forgetting gradients takes a third of the time of torch's."""
        if not set_to_none:
            return super().zero_grad(set_to_none)
        for group in self.param_groups:
            for tensor in group["params"]:
                tensor.grad = None

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Moves every tensor that has a gradient. Returns the closure's loss, if there is one.

        Raises:
            TypeError: A parameter is complex, or a gradient sparse.
            ValueError: A parameter has another shape than when it was first moved.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            _step_group(group, self.state)
        return loss

    @torch.no_grad()
    def averages(self) -> list[Tensor]:
        """What acts, in the order of the parameters: new tensors, detached."""
        return [
            self.state[tensor]["average"].to(tensor.dtype, copy=True) if self.state.get(tensor) else tensor.detach().clone()
            for group in self.param_groups
            for tensor in group["params"]
        ]

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on where another tuner of the same parameters stopped, in a new process too. The parameters themselves are loaded by their model.

        Raises:
            ValueError: It was saved from other parameter groups, or parameters of other shapes. Nothing was loaded.
        """
        buffers = dict.fromkeys(("reference", "average", "direction", "second"))
        state = fitting_state(self.param_groups, state_dict, {**buffers, "bettors": (4, len(BETAS)), "step": ()})
        super().load_state_dict({**state_dict, "state": by_position(state_dict["state"])})
        for group in self.param_groups:
            group.setdefault("unit", UNIT)  # of a state from before there was a choice
            group.setdefault("pretrained", False)
        tensors = [tensor for group in self.param_groups for tensor in group["params"]]
        for index, saved in state.items():  # once more: torch rounds all of it to the precision of the parameter
            self.state[tensors[index]] = saved


def _step_group(group: dict[str, Any], states: dict[Tensor, dict[str, Tensor]]) -> None:
    tensors = [tensor for tensor in group["params"] if tensor.grad is not None]
    if not tensors:
        return
    require_dense(tensors, "RelativeMechanic")
    if group["size"] is None:
        group["size"] = _root_mean_square(group["params"]) or 1.0
    for tensor in tensors:
        if not states[tensor]:
            states[tensor].update(_initial_state(tensor))
        require_shape(tensor, states[tensor]["reference"])
    active = [states[tensor] for tensor in tensors]
    # The buffers of a parameter were made together: one speaks for all.
    library, longest = library_for(tensors, [state["reference"] for state in active]), group["unit"] * group["size"]
    step = _step_by_torch if library is None else partial(_step_compiled, library)
    group["skipped"] += not step(tensors, active, longest, GROWTH if group["pretrained"] else 1.0)


def _step_compiled(library: Any, tensors: list[Tensor], active: list[dict[str, Tensor]], longest: float, growth: float) -> bool:
    columns = [[state[name] for state in active] for name in ("direction", "second", "average", "reference", "bettors", "step")]
    gradients = [tensor.grad.to(tensor.dtype).contiguous() for tensor in tensors]  # type: ignore[union-attr]
    constants = numbers((*NUMBERS, S_DECAY, STAKE, longest, growth))
    lists = [pointers(column) for column in (gradients, tensors, *columns)]
    return bool(library.mechanic_relative_step(len(tensors), *lists, sizes(tensors), constants, numbers(BETAS), len(BETAS), torch.get_num_threads()))


def _step_by_torch(tensors: list[Tensor], active: list[dict[str, Tensor]], longest: float, growth: float) -> bool:
    columns = _columns(tensors, active)
    times = torch.stack([state["step"] for state in active]) + 1.0
    corrections = 1.0 / (1.0 - NUMBERS.decay**times)
    sums = relative_passes.sums(columns, corrections, NUMBERS)
    if not bool(torch.isfinite(sums).all()):
        return False
    bettors = torch.stack([state["bettors"] for state in active], dim=1)
    bettors = _bet(bettors, _slopes(sums, bettors[3].sum(dim=1)), times == 1.0)
    lengths = _lengths(sums, tensors, longest * (times / growth).clamp_max(1.0))
    relative_passes.move(columns, corrections, lengths, 1.0 / times, bettors[3].sum(dim=1), NUMBERS)
    for tensor, value, state, own in zip(tensors, columns.values, active, bettors.unbind(dim=1), strict=True):
        state["bettors"].copy_(own)
        state["step"] += 1.0
        if value.dtype != tensor.dtype:
            tensor.copy_(value)
    return True


def _root_mean_square(tensors: list[Tensor]) -> float:
    return float(torch.stack([tensor.double().square().sum() for tensor in tensors]).sum() / max(1, sum(tensor.numel() for tensor in tensors))) ** 0.5


def _initial_state(tensor: Tensor) -> dict[str, Tensor]:
    # All of one layout, as the compiled passes need it.
    reference = tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32)).clone(memory_format=torch.contiguous_format)
    buffers = {"average": reference.clone(), "direction": torch.zeros_like(reference), "second": torch.zeros_like(reference)}
    bettors = torch.zeros(4, len(BETAS), dtype=torch.float64, device=tensor.device)  # m, V, r, s of every beta
    return {"reference": reference, **buffers, "bettors": bettors, "step": torch.zeros((), dtype=torch.float64)}


def _columns(tensors: list[Tensor], active: list[dict[str, Tensor]]) -> Columns:
    own = [[state[name] for state in active] for name in ("direction", "second", "average", "reference")]
    gradients = [tensor.grad.to(state.dtype).contiguous() for tensor, state in zip(tensors, own[0], strict=True)]  # type: ignore[union-attr]
    return Columns(gradients, [tensor.detach().to(state.dtype) for tensor, state in zip(tensors, own[0], strict=True)], *own)


def _slopes(sums: Tensor, scales: Tensor) -> Tensor:
    # h = <D, g> + lambda S |g| / |y| <D, y>, one number per tensor, before the move.
    gradient_square, value_square, along_gradient, along_value, _ = sums.unbind(dim=1)
    return along_gradient + S_DECAY * scales * (gradient_square / value_square.clamp_min(TINY)).sqrt() * along_value


def _lengths(sums: Tensor, tensors: list[Tensor], longest: Tensor) -> Tensor:
    # An update of more than one per element is cut to that (Shazeer and Stern 2018), so that no gradient makes an outsized step.
    counts = torch.tensor([tensor.numel() for tensor in tensors], dtype=sums.dtype, device=sums.device)
    return -longest.to(sums.device) / (sums[:, 4] / counts).sqrt().clamp_min(1.0)


def _bet(bettors: Tensor, slopes: Tensor, first: Tensor) -> Tensor:
    # m, V, r, s (4, tensors, betas) after a slope: one bettor per beta and tensor; S is the sum of what they stake.
    betas = torch.tensor(BETAS, dtype=slopes.dtype, device=slopes.device)
    m, v, r, s = bettors
    h = slopes[:, None]
    m = torch.maximum(betas * m, h.abs())
    v = betas.square() * v + h.square()
    deviation = v.sqrt().clamp_min(TINY)
    r = (betas * r - s * h).clamp_min(0.0)
    s = torch.where(first.to(slopes.device)[:, None], STAKE / len(BETAS), (STAKE * m / len(BETAS) + r) / deviation)
    return torch.stack([m, v, r, s / s.sum(dim=1, keepdim=True).clamp_min(1.0)])
