"""Figures on timing are those of all the measurements that were made while the learner trained."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mechanic_rl_ros.metrics import KINDS, MetricsWriter
from mechanic_rl_ros.report.run_data import RunData
from mechanic_rl_ros.report.timing import control_timing, timing_rows

SUMMARISE = Path(__file__).parents[2] / "benchmark" / "summarise.py"
NOMINAL_MS = 20.0
LEARNING = range(5, 9)  # windows in which updates are made


@pytest.fixture
def measured(tmp_path):
    """A run of ten windows of unequal length, and what was measured in those in which the learner trained: periods, latencies."""
    generator = np.random.default_rng(0)
    periods = [generator.normal(20.0 + 0.5 * window, 1.0 + window, 50 + 30 * window) for window in range(10)]
    latencies = [generator.uniform(20.0, 100.0 + 50 * (window not in LEARNING), 5 + window) for window in range(10)]
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("run", task="lift", seed=4, checkpoint="c", started=1000.0)
        for window in range(10):
            at = 1002.0 + 2 * window  # the window began two seconds earlier
            writer.write("command", **_command(periods[window], latencies[window]), wall=at)
            writer.write("learner", **_learner(10 * sum(before < window for before in LEARNING)), wall=at - 2.0)
            writer.write("policy", version=window // 5, inference_ms=9.0, swap_ms=(-1.0, 250.0)[window // 5], refused=0, wall=at)
        writer.write("learner", **_learner(10 * len(LEARNING)), wall=1022.0)
    return tmp_path, np.concatenate([periods[window] for window in LEARNING]), np.concatenate([latencies[window] for window in LEARNING])


def _command(periods, latencies):
    quantiles = {"period_p99_ms": np.quantile(periods, 0.99), "latency_p50_ms": 0.0, "latency_p99_ms": 0.0}
    state = {"late_actions": 0, "holding": "", "limited": {}, "latencies_ms": latencies, "reactions_ms": latencies / 10, "period_count": len(periods)}
    return {"period_ms": NOMINAL_MS, "period_mean_error": periods.mean() / NOMINAL_MS - 1, "period_deviation": periods.std() / NOMINAL_MS, **quantiles, **state}


def _learner(updates):
    names = KINDS["learner"].__required_keys__ - {"kind", "wall"}
    return {**dict.fromkeys(names, 1), "updates": updates, "prefers_best_of_n": False}


def test_figures_of_windows_of_any_length_are_those_of_all_measurements_together(measured):
    folder, periods, latencies = measured
    timing = control_timing(RunData.load(folder))
    assert timing.windows == len(LEARNING)
    assert timing.mean_error == pytest.approx(periods.mean() / NOMINAL_MS - 1)
    assert timing.deviation == pytest.approx(periods.std() / NOMINAL_MS)
    assert sorted(timing.latencies_ms) == pytest.approx(sorted(latencies))
    assert timing.swaps_ms.tolist() == [250.0]
    lengths = [50 + 30 * window for window in LEARNING]
    quantiles = [np.quantile(window, 0.99) / NOMINAL_MS for window in np.split(periods, np.cumsum(lengths)[:-1])]
    assert (timing.p99, timing.worst_p99) == pytest.approx((np.average(quantiles, weights=lengths), max(quantiles)))


def test_a_run_in_which_nothing_was_learned_has_no_figures(tmp_path):
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("command", **_command(np.full(100, 20.0), np.array([40.0])))
    assert timing_rows(RunData.load(tmp_path)) == {}
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("learner", **_learner(0))
    assert timing_rows(RunData.load(tmp_path)) == {}


def test_the_table_of_the_benchmark_says_the_same_as_the_summary_of_the_run(measured):
    folder, _, latencies = measured
    done = subprocess.run([sys.executable, SUMMARISE, folder], capture_output=True, text=True, check=True)
    for name, text in timing_rows(RunData.load(folder)).items():
        assert f"| {name} | {text} |" in done.stdout
    assert f"99th percentile {np.quantile(latencies, 0.99):.0f} ms simulated ({len(latencies)} chunks)" in done.stdout


def test_a_run_that_is_not_there_is_one_line(tmp_path):
    done = subprocess.run([sys.executable, SUMMARISE, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"summarise.py: cannot read {tmp_path / 'metrics.jsonl'} (No such file or directory): give the folder of a run, for instance runs/<time>"
    ]
