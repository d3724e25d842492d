"""What keeps learning from making the robot worse: new weights act after a check only, and a drop of success is undone.

Nothing here changes what a learner learns as long as nothing is withheld or undone: checks draw from generators of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from mechanic_rl_ros.algorithms.snapshot import Snapshot
from mechanic_rl_ros.algorithms.success_record import Finding, SuccessRecord
from mechanic_rl_ros.algorithms.weight_check import objection, stored_observations
from mechanic_rl_ros.data import Episode, Outcome, Source
from mechanic_rl_ros.policy.tensors import check_tensors, shapes_of
from mechanic_rl_ros.policy.weights import LARGEST_WEIGHT, WeightsError

if TYPE_CHECKING:
    from mechanic_rl_ros.algorithms.learner import Learner

PATIENCE = 10  # versions withheld in a row before the learner goes back
COUNTERS = ("judged", "acting_version", "first_version", "withheld", "in_a_row", "rollbacks", "reason", "due")


class Guard:
    """Decides what acts, and when a learner has to go back.

    A version that fails the check (``weight_check``) is withheld: what acted goes on acting, learning goes on, and the next version is compared with
    what acts; and with what acted when the period began, so that ruin does not pass in small steps. After ``PATIENCE`` of them in a row the learner
    goes back to the newest snapshot instead of drifting on.

    When success drops (``SuccessRecord``), it goes back to the snapshot with which the best period began, and counts success anew. Networks, tuners and
    running figures return; the replay, random numbers and counters stay, and the version number grows, so that policies take the old weights as new.

    Two snapshots are enough: one of the best period, and the newest one, of which is not known yet how good it is. Each is taken when a period begins,
    from a version that acts. A period's beginning, and not its end: what all of the good episodes came after.

    Attributes:
        acting: What acts, as ``Learner.candidate`` gave it.
        acting_version: Its number.
        first: What acted when the period began.
        first_version: Episodes of earlier versions say nothing about what acts now.
        withheld: Versions that failed the check.
        rollbacks: How often the learner went back.
        reason: Why, until a version is accepted again; empty if nothing is wrong.
        snapshots: ``newest`` and, once there is one, ``best``.
    """

    def __init__(self, learner: Learner) -> None:
        """What the learner starts with acts."""
        self.acting: Mapping[str, Tensor] = learner.candidate()
        self.record = SuccessRecord()
        self.snapshots: dict[str, Snapshot] = {}
        self.withheld = self.in_a_row = self.rollbacks = 0
        self.reason = ""
        self.begin(learner)

    def begin(self, learner: Learner) -> None:
        """Counts success from this version on."""
        self.judged = self.acting_version = self.first_version = learner.version
        self.first = self.acting
        self.due = True  # whether the next version that acts becomes the newest snapshot
        self._keep(learner)

    def judge(self, learner: Learner) -> None:
        """Decides whether what the learner has learned since acts from now on."""
        if self.judged == learner.version:
            return
        self.judged, candidate = learner.version, learner.candidate()
        objection = self._objection(learner, candidate) if learner.config.guard else ""
        if not objection:
            self.acting, self.acting_version, self.in_a_row, self.reason = candidate, learner.version, 0, ""
            self._keep(learner)
            return
        self.withheld, self.in_a_row, self.reason = self.withheld + 1, self.in_a_row + 1, f"version {learner.version} withheld: {objection}"
        if self.in_a_row >= PATIENCE and self.snapshots:
            self._go_back(learner, "newest", f"{self.in_a_row} versions in a row were withheld, the last one because {objection}")

    def count(self, learner: Learner, episode: Episode) -> None:
        """Counts an episode for success, if its policy acted alone and is not older than what is counted; goes back if success has dropped."""
        if not self.snapshots or not learner.config.guard or episode.outcome is Outcome.ABORTED or chosen_by(episode) < self.first_version:
            return
        finding = self.record.add(episode.success, episode.best_of_n)
        if finding is Finding.BEST:
            self.snapshots["best"] = self.snapshots["newest"]
        elif finding is Finding.DROP:
            self._go_back(learner, "best", self.record.story())
            self.snapshots = {"newest": self.snapshots["best"]}
            self.record.restart()
        self.due = self.due or finding in (Finding.BEST, Finding.PERIOD)

    def state(self) -> dict[str, Any]:
        """Plain data for JSON; ``restore`` takes it back."""
        return {**{name: getattr(self, name) for name in COUNTERS}, "record": self.record.state()}

    def restore(self, state: dict[str, Any], acting: Mapping[str, Tensor], first: Mapping[str, Tensor], snapshots: dict[str, Snapshot]) -> None:
        """Takes back what ``state``, ``acting``, ``first`` and ``snapshots`` were."""
        for name in COUNTERS:
            setattr(self, name, state[name])
        self.record.restore(state["record"])
        self.acting, self.first, self.snapshots = acting, first, snapshots

    def _objection(self, learner: Learner, candidate: Mapping[str, Tensor]) -> str:
        try:
            check_tensors(candidate, shapes_of(self.acting), "weights", WeightsError, LARGEST_WEIGHT)
        except WeightsError as error:
            return str(error)
        rows = stored_observations(learner.practice, learner.demonstrations, learner.version)
        acting = {"the acting policy": self.acting} | ({} if learner.wanders else {"what acted when this period began": self.first})
        policies = {name: learner.policy_with(tensors) for name, tensors in acting.items()}
        return objection(policies, learner.policy_with(candidate), rows, learner.version, learner.farthest)

    def _keep(self, learner: Learner) -> None:
        if self.due and learner.config.guard and learner.can_be_saved:
            self.snapshots["newest"], self.first, self.due = learner.snapshot(), self.acting, False

    def _go_back(self, learner: Learner, name: str, why: str) -> None:
        learner.go_back(self.snapshots[name])
        self.judged = self.acting_version = self.first_version = learner.version
        self.acting = self.first = learner.candidate()
        self.in_a_row, self.rollbacks = 0, self.rollbacks + 1
        self.reason = f"went back to version {self.snapshots[name].version}, which is now version {learner.version}: {why}"


def chosen_by(episode: Episode) -> int:
    """The version that chose most of an episode; -1 if a person or an expert chose any of it, which then says little about the policy."""
    versions = episode.policy_versions[episode.sources == Source.POLICY]
    if not len(versions) or not np.isin(episode.sources, (Source.POLICY, Source.HOLD)).all():
        return -1
    numbers, counts = np.unique(versions, return_counts=True)
    return int(numbers[counts.argmax()])
