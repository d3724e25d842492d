"""The learners by name."""

from __future__ import annotations

from mechanic_rl_ros.algorithms.awac import Awac
from mechanic_rl_ros.algorithms.cloning import Cloning, Dagger
from mechanic_rl_ros.algorithms.dppo import Dppo, Reinforce
from mechanic_rl_ros.algorithms.dsrl import Dsrl
from mechanic_rl_ros.algorithms.filtered_iql import FilteredIql
from mechanic_rl_ros.algorithms.learner import Learner
from mechanic_rl_ros.algorithms.sac import Sac
from mechanic_rl_ros.algorithms.td3 import Ddpg, Td3
from mechanic_rl_ros.errors import UserError

LEARNERS: dict[str, type[Learner]] = {kind.Config.SECTION: kind for kind in (FilteredIql, Cloning, Dagger, Awac, Dppo, Reinforce, Dsrl, Sac, Td3, Ddpg)}
"""Name, which is also the section of config/learner.yaml, to class."""

DEFAULT = FilteredIql.Config.SECTION


def learner_of(name: str) -> type[Learner]:
    """The learner called ``name``.

    Raises:
        UserError: There is none.
    """
    if name not in LEARNERS:
        raise UserError(f"unknown algorithm {name!r}: use one of {', '.join(LEARNERS)}")
    return LEARNERS[name]
