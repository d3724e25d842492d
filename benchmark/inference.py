"""Time of one action chunk: this package against a plain loop of diffusers' scheduler over the same network, batch 1, in one run.

python benchmark/inference.py > benchmark/results/inference_cpu.md                     embedded default, and the default size of LeRobot
python benchmark/inference.py --device cuda --compile > benchmark/results/inference_cuda.md

Two cameras of 96 x 96 pixels, two frames, DDIM with 10 steps. The plain loop encodes both frames for every chunk, tells its network everything in
every step, and has torch's convolutions over time; ``Actor`` has encoded all but the newest frame before the chunk is due, as policy_node lets it,
computes what does not change once per chunk, and has convolutions as matrix products. The weights are the same. Rounds alternate between the two. With
``precision`` bfloat16 a U-Net keeps the weights of its convolutions in half the bytes; ratios to the plain loop in float32 are given for both.
"""

from __future__ import annotations

import argparse
import copy
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from diffusers import DDIMScheduler

from mechanic_rl_ros.data import Observation
from mechanic_rl_ros.embodiment import load_embodiment
from mechanic_rl_ros.policy.acting import Actor, encode_observations
from mechanic_rl_ros.policy.checkpoint import Checkpoint
from mechanic_rl_ros.policy.config import PolicyConfig
from mechanic_rl_ros.policy.critic import TwinQ, Value
from mechanic_rl_ros.policy.part_config import ResnetEncoderConfig, UnetDenoiserConfig
from mechanic_rl_ros.policy.policy import Policy
from mechanic_rl_ros.policy.schedule import NoiseSchedule
from mechanic_rl_ros.policy.unet import TimeConv, TimeGrow

PIXELS = 96
SCHEDULE = NoiseSchedule(steps=100, sampling_steps=10, spacing="leading", clipping="plain")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=15, help="at least 100 where the 99th percentile matters")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="compile this package's denoisers")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    machine = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} threads of {platform.machine()}"
    print(
        f"Measured {time.strftime('%Y-%m-%d')} on {machine}, torch {torch.__version__}, {options.rounds} rounds, batch 1, min / median / 99th percentile / max.\n"
    )
    print(
        "| network | parameters | plain loop, ms | this package, ms | times faster | best of 8, ms | bfloat16, ms | times faster |\n|---|---|---|---|---|---|---|---|"
    )
    embodiment = load_embodiment()
    embodiment = replace(embodiment, cameras={key: replace(spec, height=PIXELS, width=PIXELS) for key, spec in embodiment.cameras.items()})
    default = PolicyConfig.for_embodiment(embodiment, schedule=SCHEDULE)
    lerobot = replace(
        default, prediction_horizon=16, action_horizon=8, encoder=ResnetEncoderConfig(crop=(84, 84)), head=UnetDenoiserConfig(widths=(512, 1024, 2048))
    )
    for name, config in (("embedded default", default), ("ResNet-18 and U-Net of LeRobot's default size", lerobot)):
        torch.manual_seed(0)
        critics = torch.nn.ModuleDict({"q": TwinQ(config), "value": Value(config)}).state_dict()
        checkpoint = Checkpoint("lift", embodiment, config, Policy(config).state_dict(), critics)
        actor = Actor(checkpoint, options.device, compiled=options.compile)
        usual = conventional(Actor(checkpoint, options.device).policy)
        contenders = [(actor, lambda actor=actor, usual=usual: plain(usual, actor)), *((actor, partial(ours, actor, choose)) for choose in (False, True))]
        if isinstance(config.head, UnetDenoiserConfig):
            rounded = Actor(checkpoint, options.device, precision="bfloat16", compiled=options.compile)
            contenders.append((rounded, partial(ours, rounded, False)))
        times = 1e3 * np.array([[_seconds(*contender, options.device) for contender in contenders] for _ in range(options.rounds + 2)])[2:]
        count = sum(tensor.numel() for tensor in checkpoint.policy.values())
        cells = [_text(times[:, 0]), _text(times[:, 1]), _text(times[:, 0] / times[:, 1], 2), _text(times[:, 2])]
        cells += [_text(times[:, 3]), _text(times[:, 0] / times[:, 3], 2)] if times.shape[1] > 3 else ["", ""]
        print(f"| {name} | {count / 1e6:.1f} M | {' | '.join(cells)} |")


def frame(seed: int) -> Observation:
    """An observation of noise."""
    rng = np.random.default_rng(seed)
    images = {key: rng.integers(0, 256, (PIXELS, PIXELS, 3), dtype=np.uint8) for key in ("front", "wrist")}
    return Observation(seed, images, rng.normal(size=4).astype(np.float32))


FRAME = frame(0)
SCHEDULER = DDIMScheduler(num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", clip_sample=True)


def wait(actor: Actor) -> None:
    """What policy_node does while the chunk before plays: observations come, and all of a window but the last one are encoded."""
    for _ in range(actor.config.action_horizon - 1):
        actor.observe(FRAME)
    actor.encode()


def ours(actor: Actor, best_of_n: bool) -> None:
    """The observation that a chunk is due for has come."""
    actor.observe(FRAME)
    actor.act(best_of_n)


def conventional(policy: Policy) -> Policy:
    """The same network with torch's own convolutions over time."""
    policy = copy.deepcopy(policy)
    for module in policy.modules():
        for ours, theirs in ((TimeConv, torch.nn.Conv1d), (TimeGrow, torch.nn.ConvTranspose1d)):
            if isinstance(module, ours):
                module.forward = lambda hidden, module=module, theirs=theirs: theirs.forward(module, hidden.transpose(1, 2)).transpose(1, 2)
    return policy


@torch.inference_mode()
def plain(policy: Policy, actor: Actor) -> None:
    """As it stands in most code."""
    scheduler = SCHEDULER
    frames = encode_observations(policy, [FRAME, FRAME], actor.device)
    observation = policy.observe(frames[None])
    sample = torch.randn(1, actor.config.prediction_horizon, actor.config.action_dim, device=actor.device)
    scheduler.set_timesteps(10)
    for step in scheduler.timesteps:
        noise = policy.head(sample, step.expand(1).to(actor.device), observation)
        sample = scheduler.step(noise, step, sample).prev_sample
    sample.cpu().numpy()


def _seconds(actor: Actor, act: Callable[[], None], device: str) -> float:
    wait(actor)
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    act()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _text(values: np.ndarray, digits: int = 1) -> str:
    return " / ".join(f"{number:.{digits}f}" for number in (values.min(), np.median(values), np.quantile(values, 0.99), values.max()))


if __name__ == "__main__":
    main()
