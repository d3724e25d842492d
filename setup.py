"""Entry points only: CMakeLists.txt installs the modules and asks this file for the executables."""

from pathlib import Path

from setuptools import setup

PACKAGE = Path(__file__).parent / "mechanic_rl_ros"
NODES = sorted(path.stem for path in (PACKAGE / "nodes").glob("*_node.py"))
MOCKS = sorted(path.stem for path in (PACKAGE / "mocks").glob("mock_*.py"))

setup(
    name="mechanic_rl_ros",
    version="0.1.0",
    packages=[],
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "mechanic-rl = mechanic_rl_ros.cli.main:main",
            *(f"{node} = mechanic_rl_ros.nodes.{node}:main" for node in NODES),
            *(f"{mock} = mechanic_rl_ros.mocks.{mock}:main" for mock in MOCKS),
        ]
    },
)
