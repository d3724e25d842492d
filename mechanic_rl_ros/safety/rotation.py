"""Rotations in the forms that messages carry."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def quaternion(rotation: ArrayLike) -> NDArray[np.float64]:
    """Unit quaternion (4,), w x y z with w at least 0, of a rotation matrix (3, 3).

    The rows of the matrix that the quaternion spans with itself are all multiples of it; the longest is the exactest
    (Shepperd 1978).
    """
    m = np.asarray(rotation, dtype=np.float64)
    trace = m.trace()
    diagonal = m.diagonal()
    products = np.empty((4, 4))  # 4 q q^T
    products[0, 0] = 1.0 + trace
    products[0, 1:] = products[1:, 0] = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    products[1:, 1:] = m + m.T
    products[[1, 2, 3], [1, 2, 3]] = 1.0 - trace + 2.0 * diagonal
    row = products[np.argmax(products.diagonal())]
    unit = row / np.linalg.norm(row)
    return -unit if unit[0] < 0.0 else unit
