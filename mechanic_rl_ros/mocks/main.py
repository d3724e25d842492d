"""How a mock is started by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mechanic_rl_ros.nodes.base import Node, run


def start(node_class: Callable[[], Node], text: str | None) -> None:
    """Runs a mock; ``--help`` shows ``text``, the docstring of its module."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(text or "")
        return
    run(node_class)
