"""By simulation: how often the gate of best-of-N ends switched on, by what best-of-N is worth, with and without what critics expect of a scene.

python benchmark/gate.py

Scenes differ: most are nearly always solved or hardly ever, as the base policies' are. The policy gets better all the time by 0.15. A promise that tells all
about a scene correlates with success by 0.67 then; in practice runs V of the first observation correlated with it by 0.3 to 0.4 (push) and 0.5 to 0.7 (reach).
"""

from __future__ import annotations

import argparse

import numpy as np

from mechanic_rl_ros.algorithms.gate import Gate, alternates

GAINS = (-0.1, -0.05, 0.0, 0.05, 0.1, 0.15)
WARM_UP = 60  # episodes before critics choose in any


def main() -> None:
    """Simulates and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    options = parser.parse_args()
    print("| episodes | promise | " + " | ".join(f"{gain:+.2f}" for gain in GAINS) + " |\n|---|---|" + "---|" * len(GAINS))
    for episodes in (240, 600):
        for told in (False, True):
            shares = [np.mean([ends_on(gain, episodes - WARM_UP, told, seed) for seed in range(options.runs)]) for gain in GAINS]
            print(f"| {episodes} | {'told' if told else 'not'} | " + " | ".join(f"{share:.2f}" for share in shares) + " |", flush=True)


def ends_on(gain: float, episodes: int, told: bool, seed: int) -> bool:
    """Whether best-of-N, which solves so much more, is on after so many episodes."""
    rng, gate = np.random.default_rng(seed), Gate()
    for number in range(episodes):
        ease, chosen = rng.beta(0.7, 0.5), alternates(number)
        chance = np.clip(ease - 0.1 + 0.15 * number / episodes + gain * chosen, 0.0, 1.0)
        gate.add(bool(rng.random() < chance), chosen, float(ease) if told else 0.0)
    return gate.prefers_best_of_n


if __name__ == "__main__":
    main()
