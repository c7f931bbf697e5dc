"""Two clips in which the same is said, aligned by their content codes (dynamic time warping)."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def aligned(theirs: Array, ours: Array) -> NDArray[np.int64]:
    """Return for each row of `ours` the row of `theirs` that says the same, (n,).

    theirs, ours: codes, (m, CODE) and (n, CODE).
    """
    own = ours / np.linalg.norm(ours, axis=1, keepdims=True)
    other = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    cost = 1.0 - own @ other.T
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0.0
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        column = diagonal - row
        best = np.minimum(
            total[row - 1, column - 1],
            np.minimum(total[row - 1, column], total[row, column - 1]) + 0.05,
        )
        total[row, column] = best + cost[row - 1, column - 1]
    path = np.zeros(rows, np.int64)
    row, column = rows, columns
    while row > 0 and column > 0:
        path[row - 1] = column - 1
        before = (total[row - 1, column - 1], total[row - 1, column], total[row, column - 1])
        step = int(np.argmin(before))
        row, column = row - (step != 2), column - (step != 1)
    return path
