"""Rotation matrices as quaternions."""

import numpy as np
import pytest

from mechanic_rl_ros.safety.rotation import quaternion

TURNS = [np.eye(3), np.diag([1.0, -1.0, -1.0]), np.diag([-1.0, 1.0, -1.0]), np.diag([-1.0, -1.0, 1.0])]
RANDOM = [np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0] for seed in range(20)]


@pytest.mark.parametrize("rotation", TURNS + [q * np.sign(np.linalg.det(q)) for q in RANDOM])
def test_a_quaternion_turns_as_its_matrix_does(rotation):
    w, *axis = quaternion(rotation)
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    assert w >= 0.0
    np.testing.assert_allclose(np.eye(3) + 2 * w * cross + 2 * cross @ cross, rotation, atol=1e-12)
