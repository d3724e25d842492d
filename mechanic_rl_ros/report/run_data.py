"""A run's records as columns that can be drawn."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mechanic_rl_ros.errors import UserError
from mechanic_rl_ros.metrics import FILE, Record, read_metrics


@dataclass
class RunData:
    """Records of a run by kind, in the order in which they were written."""

    folder: Path
    records: dict[str, list[Record]]

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> RunData:
        """Reads the metrics of a run folder.

        Raises:
            UserError: There are none, or they cannot be read.
        """
        path = Path(folder) / FILE
        try:
            lines = read_metrics(path)
        except OSError as error:
            raise UserError(f"cannot read {path} ({error.strerror}): give the folder of a run, for instance runs/<time>") from error
        if not lines:
            raise UserError(f"{path} holds no records: the run ended before anything happened")
        records: dict[str, list[Record]] = defaultdict(list)
        for line in lines:
            records[line["kind"]].append(line)
        return cls(Path(folder), dict(records))

    @property
    def run(self) -> Record:
        """The last record of kind ``run``; empty when there is none."""
        return self.records.get("run", [{}])[-1]

    @property
    def start(self) -> float:
        """Unix seconds at which the run began, for the first time if it was stopped and went on."""
        began = self.records.get("run", [{}])[0].get("started")
        return float(began or min((line["wall"] for lines in self.records.values() for line in lines if "wall" in line), default=0.0))

    @property
    def evaluations(self) -> dict[str, Record]:
        """The last evaluation of each name."""
        return {line["name"]: line for line in self.records.get("evaluation", [])}

    @property
    def successes(self) -> NDArray[np.bool_]:
        """Whether each episode ended in success; aborted episodes are left out."""
        return np.array([line["outcome"] == "success" for line in self.finished_episodes], bool)

    @property
    def finished_episodes(self) -> list[Record]:
        """Episodes that were not aborted."""
        return [line for line in self.records.get("episode", []) if line["outcome"] != "aborted"]

    @property
    def scales(self) -> dict[str, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Updates and the scale after each of them, of every network that had one; of an update that was made twice, the last time."""
        found: dict[str, dict[int, float]] = defaultdict(dict)
        for line in self.records.get("scales", []):
            for name, values in line["scales"].items():
                found[name].update(zip(range(line["updates"] - len(values) + 1, line["updates"] + 1), values, strict=True))
        ordered = {name: sorted(values.items()) for name, values in found.items()}
        return {name: (np.array([u for u, _ in pairs], np.int64), np.array([v for _, v in pairs], np.float64)) for name, pairs in ordered.items()}

    def column(self, kind: str, field: str) -> NDArray[np.float64]:
        """One field as numbers, NaN where it is missing."""
        values = [line.get(field) for line in self.records.get(kind, [])]
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)

    def minutes(self, kind: str) -> NDArray[np.float64]:
        """When the records of a kind were written, minutes since the start."""
        return (self.column(kind, "wall") - self.start) / 60


def rolling_counts(successes: NDArray[np.bool_], window: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Successes and episodes within the last ``window`` episodes, at each episode."""
    total = np.concatenate([[0], np.cumsum(successes)])
    ends = np.arange(1, len(successes) + 1)
    starts = np.maximum(ends - window, 0)
    return total[ends] - total[starts], ends - starts
