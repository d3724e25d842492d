"""The configuration inside a checkpoint of diffusion_policy, as OmegaConf keeps it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mechanic_rl_ros.errors import UserError


class Settings:
    """A configuration with references such as ``${horizon}`` followed."""

    def __init__(self, data: Any, path: Path) -> None:
        self.data, self.path = data, path

    def get(self, name: str, default: Any = None, depth: int = 0) -> Any:
        """Value at a dotted name."""
        value = self.data
        for part in name.split("."):
            value = self._followed(value.get(part) if isinstance(value, dict) else None, depth)
        return default if value is None else value

    def _followed(self, value: Any, depth: int) -> Any:
        reference = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
        if reference is None:
            return value
        return self.get(reference[1], depth=depth + 1) if depth < 8 else None

    def flag(self, name: str, default: bool) -> bool:
        """True or false at a dotted name.

        Raises:
            UserError: It is something else.
        """
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise UserError(f"{self.path}: {name} is {value!r}, neither true nor false: get a fresh copy of the checkpoint")
        return value

    def need(self, name: str, kind: type) -> Any:
        """Value at a dotted name, of a kind.

        Raises:
            UserError: There is none.
        """
        value = self.get(name)
        if not _is(value, kind):
            raise UserError(f"{self.path}: its configuration has no valid {name}: get a fresh copy of the checkpoint")
        return value

    def of_policy(self, name: str) -> int:
        """A whole number of the policy. It may refer to one of the same name outside it by more than a reference, such as a sum: then that one counts.

        Raises:
            UserError: There is none.
        """
        return self.need(f"policy.{name}" if _is(self.get(f"policy.{name}"), int) else name, int)


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
