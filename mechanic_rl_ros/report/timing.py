"""How regular and how quick control was while the learner trained: figures pooled over a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.report.run_data import RunData


@dataclass(frozen=True)
class Timing:
    """Figures of all the windows of the command node in which the learner made updates, as if they were one.

    Attributes:
        windows: How many there are.
        period_ms: Nominal command period.
        mean_error: Mean period / nominal - 1.
        deviation: Standard deviation of the period / nominal.
        p99: 99th percentile of the period / nominal: the mean of those of the windows, weighted as they are long.
        worst_p99: That of the worst window.
        latencies_ms: Camera stamp to command, simulated, of every chunk.
        reactions_ms: Chunk received to command, wall time, of every chunk.
        swaps_ms: Weights published to acting, wall time, of every version.
    """

    windows: int
    period_ms: float
    mean_error: float
    deviation: float
    p99: float
    worst_p99: float
    latencies_ms: NDArray[np.float64]
    reactions_ms: NDArray[np.float64]
    swaps_ms: NDArray[np.float64]


def control_timing(data: RunData) -> Timing | None:
    """The figures of a run; ``None`` when nothing was learned in it."""
    busy = _learning(data)
    if not busy.any():
        return None
    count, mean, deviation, p99_ms, nominal_ms = (
        data.column("command", name)[busy] for name in ("period_count", "period_mean_error", "period_deviation", "period_p99_ms", "period_ms")
    )
    overall = np.average(mean, weights=count)
    kept = [record for record, chosen in zip(data.records["command"], busy, strict=True) if chosen]
    swaps = data.column("policy", "swap_ms")
    return Timing(
        windows=int(busy.sum()),
        period_ms=float(nominal_ms[0]),
        mean_error=float(overall),
        deviation=float(np.sqrt(np.average(deviation**2 + (mean - overall) ** 2, weights=count))),
        p99=float(np.average(p99_ms / nominal_ms, weights=count)),
        worst_p99=float((p99_ms / nominal_ms).max()),
        latencies_ms=np.concatenate([record["latencies_ms"] for record in kept]),
        reactions_ms=np.concatenate([record["reactions_ms"] for record in kept]),
        swaps_ms=np.unique(swaps[swaps >= 0]),  # the policy repeats its newest swap in every record
    )


def timing_rows(data: RunData) -> dict[str, str]:
    """The figures of a run as text, by name; none when nothing was learned in it."""
    timing = control_timing(data)
    if timing is None:
        return {}
    rows = {"timing": f"while the learner trained: {timing.windows} of {len(data.records['command'])} windows"}
    rows["command period"] = f"mean error {timing.mean_error:+.2%}, deviation {timing.deviation:.1%} of {timing.period_ms:.0f} ms"
    rows["99th percentile of it"] = f"{timing.p99:.2f} periods, {timing.worst_p99:.2f} in the worst window"
    if len(timing.latencies_ms):
        rows["camera to command"] = f"{_quantiles(timing.latencies_ms)} simulated ({len(timing.latencies_ms)} chunks)"
    if len(timing.reactions_ms):
        rows["chunk to command"] = f"{_quantiles(timing.reactions_ms)} ({len(timing.reactions_ms)} chunks)"
    if len(timing.swaps_ms):
        rows["weights to acting"] = f"{_quantiles(timing.swaps_ms)} ({len(timing.swaps_ms)} versions)"
    return rows


def _learning(data: RunData) -> NDArray[np.bool_]:
    """For each window of the command node, which ends when its record is written: whether updates were made in it."""
    written = data.column("command", "wall")
    if not len(written) or not data.records.get("learner"):
        return np.zeros(len(written), bool)
    updates = np.interp(written, data.column("learner", "wall"), data.column("learner", "updates"))
    return np.diff(updates, prepend=updates[0]) != 0


def _quantiles(values: NDArray[np.float64]) -> str:
    return f"median {np.quantile(values, 0.5):.0f} ms, 99th percentile {np.quantile(values, 0.99):.0f} ms"
