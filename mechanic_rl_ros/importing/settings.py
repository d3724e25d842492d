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

    def of_policy(self, name: str, latency: str = "") -> int:
        """A whole number that the policy says of itself, or its configuration outside of it.

        Args:
            name: Of it.
            latency: Where the policy may say it as a sum of that outer one and another one, as its authors write it, the name of that.

        Raises:
            UserError: There is none.
        """
        own = self.get(f"policy.{name}")
        if latency and own == f"${{eval:'${{{name}}}+${{{latency}}}'}}":
            return self.need(name, int) + (0 if self.get(latency) is None else self.need(latency, int))
        return self.need(name if own is None else f"policy.{name}", int)


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))
