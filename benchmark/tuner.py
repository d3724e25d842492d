"""Time and memory of one optimizer step, as a ratio to fused AdamW in the same process.

python benchmark/tuner.py > benchmark/results/tuner_cpu.md           one thread of the processor
python benchmark/tuner.py --device cuda > benchmark/results/tuner_cuda.md

Rounds go through all optimizers in turn, so that a busy machine hits all of them alike; the table shows the minimum, median and maximum of the ratios of
all rounds. "kept" is the tensors that an optimizer keeps, "in passing" the most memory that one step of the largest size needs beside them, both in units of
the parameters.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mechanic_rl_ros.tuner import Mechanic, RelativeMechanic

SIZES = {"cpu": ((1_000_000, 60), (20_000_000, 200), (65_000_000, 300)), "cuda": ((20_000_000, 200), (65_000_000, 300), (260_000_000, 400))}
BASELINE = "AdamW, fused"
Parameters = list[torch.nn.Parameter]


def optimizers() -> dict[str, Callable[[Parameters], Any]]:
    """What is compared, each with its defaults."""
    import dadaptation
    import dog
    import prodigyopt
    import schedulefree
    from mechanic_pytorch import mechanize
    from trac_optimizer import start_trac

    return {
        BASELINE: lambda p: torch.optim.AdamW(p, fused=True),
        "AdamW, foreach": lambda p: torch.optim.AdamW(p, foreach=True),
        "Mechanic over AdamW, fused (ours, as published)": lambda p: Mechanic(torch.optim.AdamW(p, lr=1.0, fused=True)),
        "RelativeMechanic (ours, the learner's)": RelativeMechanic,
        "mechanic-pytorch over AdamW, fused": lambda p: mechanize(torch.optim.AdamW)(p, lr=1.0, fused=True),
        "Schedule-Free AdamW": lambda p: _training(schedulefree.AdamWScheduleFree(p)),
        "Prodigy": prodigyopt.Prodigy,
        "D-Adaptation (DAdaptAdam)": dadaptation.DAdaptAdam,
        "DoG (LDoG)": dog.LDoG,
        "TRAC over AdamW, fused": lambda p: start_trac(os.devnull, torch.optim.AdamW)(p, fused=True),
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sizes", type=int, default=3, help="how many of the sizes, the smallest first")
    options = parser.parse_args()
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"one thread of {platform.processor() or platform.machine()}"
    print(
        f"Measured {time.strftime('%Y-%m-%d')} on {name}, torch {torch.__version__}, {options.rounds} rounds. Ratio of step times to fused AdamW: min / median / max.\n"
    )
    sizes = SIZES[options.device][: options.sizes]
    print("| optimizer | kept | in passing | " + " | ".join(f"{count / 1e6:.0f} M in {tensors}" for count, tensors in sizes) + " |")
    print("|---|---|---|" + "---|" * len(sizes))
    rows: dict[str, list[str]] = {}
    for count, tensors in sizes:
        for name, (kept, passing, ratios) in measure(count, tensors, options.device, options.rounds).items():
            rows[name] = [kept, passing, *rows.get(name, [])[2:], ratios]
    for name, cells in rows.items():
        print(f"| {name} | " + " | ".join(cells) + " |")


def measure(count: int, tensors: int, device: str, rounds: int) -> dict[str, tuple[str, str, str]]:
    """Memory and ratios of every optimizer, as text. One at a time against the baseline, so that memory for two is enough."""
    result = {}
    for name, make in optimizers().items():
        pairs = [(optimizers()[BASELINE], "baseline"), (make, name)]
        contenders = [_prepare(make_one, count, tensors, device) for make_one, _ in pairs]
        times = np.array([[_seconds(step, device) for step, _ in contenders] for _ in range(rounds)])
        ratios = times[:, 1] / times[:, 0]
        kept, passing = (f"{number / (4 * count):.1f}" for number in (_bytes(contenders[1][1]), _passing_bytes(contenders[1][0], device)))
        text = f"{ratios.min():.2f} / {np.median(ratios):.2f} / {ratios.max():.2f}"
        result[name] = (kept, passing, f"{1e3 * np.median(times[:, 0]):.1f} ms" if name == BASELINE else text)
        del contenders
        gc.collect()
    return result


def _prepare(make: Callable[[Parameters], Any], count: int, tensors: int, device: str) -> tuple[Callable[[], Any], Any]:
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter((0.02 * torch.randn(count // tensors, generator=generator)).to(device)) for _ in range(tensors)]
    for parameter in parameters:
        parameter.grad = 0.01 * torch.randn_like(parameter)
    optimizer = make(parameters)
    for _ in range(3):
        optimizer.step()
    return optimizer.step, optimizer


def _seconds(step: Callable[[], Any], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _bytes(optimizer: Any) -> int:
    """Bytes of all tensors that an optimizer keeps, each memory once."""
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    parts = [optimizer.state, getattr(optimizer, "base", None) and optimizer.base.state, groups]
    own = {tensor.untyped_storage().data_ptr(): tensor.numel() * tensor.element_size() for part in parts if part for tensor in _tensors(part)}
    return sum(own.values())


def _passing_bytes(step: Callable[[], Any], device: str) -> int:
    """Most bytes that a step holds beyond what there was before it."""
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is given back, so that it counts when it is taken again
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _training(optimizer: Any) -> Any:
    optimizer.train()
    return optimizer


if __name__ == "__main__":
    main()
