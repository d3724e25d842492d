"""The benchmark of an hour of random chunks in MuJoCo, for a minute."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmark" / "random_chunks.py"


def test_whatever_chunks_come_the_simulated_arm_keeps_every_limit_and_never_touches_the_table():
    done = subprocess.run([sys.executable, SCRIPT, "--minutes", "1", "--seed", "1"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "jerk" in done.stdout
