"""Class scores to probabilities and winners, on the network's grid. Knows nothing of the image's size."""

# K classes, h×w cells of the grid, P cells in any order

from typing import Any

import numpy as np

from fsf_core.machine_code.compiling import compiled, inner

# Cells of one step: what it writes stays in the cache.
_BLOCK = 1024

_FEW_CLASSES, _FEW_CELLS = 8, 1 << 25


@compiled
def softmax_planes(scores_KP: Any, out_KP: Any) -> None:
    """Write the softmax over the classes of every cell: minus the maximum, exp, divided by the sum.

    The exponential is Cephes' expf (range reduction by ln 2 in two parts, a polynomial of degree 6): within 2 units in
    the last place and the same bits on every processor.
    """
    scratch = np.empty((2, _BLOCK), np.float32)
    for start in range(0, scores_KP.shape[1], _BLOCK):
        _softmax(scores_KP, out_KP, start, min(start + _BLOCK, scores_KP.shape[1]), scratch)


@inner
def _softmax(scores_KP: Any, out_KP: Any, start: int, end: int, scratch: Any) -> None:
    """Write the softmax of a block of cells."""
    classes = scores_KP.shape[0]
    n = end - start
    top, total = scratch[0], scratch[1]
    plane = scores_KP[0, start:end]  # slices: LLVM vectorises an index only if it starts at 0
    for i in range(n):
        top[i] = plane[i]
        total[i] = np.float32(0)
    for k in range(1, classes):
        plane = scores_KP[k, start:end]
        for i in range(n):
            top[i] = max(top[i], plane[i])
    for k in range(classes):
        plane = scores_KP[k, start:end]
        out = out_KP[k, start:end]
        for i in range(n):
            x = plane[i] - top[i]
            clamped = np.float32(-87) if x < np.float32(-87) else x  # noqa: FURB136 # NaN stays NaN
            # Adding 1.5 * 2**23 rounds to an integer, which is in the lowest bits then.
            shifted = clamped * np.float32(1.44269504088896341) + np.float32(12582912)
            twos = shifted - np.float32(12582912)
            r = (clamped - twos * np.float32(0.693359375)) - twos * np.float32(-2.12194440e-4)
            y = np.float32(1.9875691500e-4)
            y = y * r + np.float32(1.3981999507e-3)
            y = y * r + np.float32(8.3334519073e-3)
            y = y * r + np.float32(4.1665795894e-2)
            y = y * r + np.float32(1.6666665459e-1)
            y = y * r + np.float32(5.0000001201e-1)
            y = y * (r * r) + r + np.float32(1)
            power = np.int32((np.float32(shifted).view(np.int32) << 23) + (127 << 23)).view(np.float32)
            out[i] = np.float32(0) if x < np.float32(-87) else y * power
        for i in range(n):
            total[i] += out[i]
    for k in range(classes):
        out = out_KP[k, start:end]
        for i in range(n):
            out[i] /= total[i]


@compiled
def grid_winners(
    scores_KP: Any, width: int, softmax_KP: Any, winner_P: Any, best_P: Any, wins_K: Any, summed_K: Any, margin: Any
) -> int:  # fmt: skip
    """Write the winning class of every cell and its probability, and count and sum these by class.

    The lowest class wins a tie. Block by block, so that what the softmax writes is still in the cache.

    Args:
        scores_KP: logits, if there is room for their softmax; else what wins as it is, such as probabilities.
        width: columns of the grid.
        softmax_KP: output; without cells for none.
        winner_P: output.
        best_P: output; empty if they are not wanted.
        wins_K: cells, added to.
        summed_K: probabilities, added to.
        margin: of the cells that are counted.

    Returns:
        Cells whose two largest probabilities differ by less than the margin; -1 if a probability is not finite.
    """
    classes = scores_KP.shape[0]
    size = max(1, _BLOCK // width) * width
    scratch = np.empty((3, size), np.float32)
    best_class = np.empty(size, np.int32)
    fixed = np.empty(size, np.int32)
    # Of few classes the winner's probability is at least 1/8: no sum has more than 53 bits, in any order.
    exact = softmax_KP.size > 0 and classes <= _FEW_CLASSES and winner_P.size < _FEW_CELLS
    uncertain = 0
    finite = True
    for start in range(0, winner_P.size, size):
        end = min(start + size, winner_P.size)
        best = best_P[start:end] if best_P.size > 0 else scratch[2, : end - start]
        if softmax_KP.size > 0:
            _softmax(scores_KP, softmax_KP, start, end, scratch)
            finite &= _is_finite(scratch[1, : end - start])  # the sums: each is NaN if one of its terms is
            uncertain += _winners(softmax_KP, start, winner_P[start:end], best, best_class, scratch, margin)
        else:
            for k in range(classes):
                finite &= _is_finite(scores_KP[k, start:end])
            uncertain += _winners(scores_KP, start, winner_P[start:end], best, best_class, scratch, margin)
        if exact:
            _add_few(best, best_class[: end - start], fixed, wins_K, summed_K)
            continue
        for row in range(0, end - start, width):
            _add_stretches(best[row : row + width], best_class[row : row + width], wins_K, summed_K)
    return uncertain if finite else -1


@inner
def _winners(p_KP: Any, start: int, winner_P: Any, best: Any, best_class: Any, scratch: Any, margin: Any) -> int:
    """Write the winners of a block of cells; return how many are uncertain."""
    classes, n = p_KP.shape[0], winner_P.size
    second = scratch[0]
    plane = p_KP[0, start : start + n]
    for i in range(n):
        best[i] = plane[i]
        second[i] = np.float32(-np.inf)
        best_class[i] = 0
    for k in range(1, classes):
        plane = p_KP[k, start : start + n]
        for i in range(n):
            best_class[i] = k if plane[i] > best[i] else best_class[i]
            second[i] = max(second[i], min(best[i], plane[i]))
            best[i] = max(best[i], plane[i])
    uncertain = 0
    for i in range(n):
        winner_P[i] = best_class[i]
        uncertain += best[i] - second[i] < margin
    return uncertain


@inner
def _is_finite(values: Any) -> bool:
    """Return whether there is no NaN and no infinity."""
    wrong = 0
    for i in range(values.size):
        wrong += not abs(values[i]) < np.inf
    return wrong == 0


@inner
def _add_few(best: Any, best_class: Any, fixed: Any, wins_K: Any, summed_K: Any) -> None:
    """Count cells by class and add up their probabilities, which are whole multiples of 2**-27, as whole numbers."""
    for i in range(best_class.size):
        fixed[i] = np.int32(best[i] * np.float32(1 << 27))
    for k in range(wins_K.size):
        wins = 0
        summed = 0
        for i in range(best_class.size):
            wins += best_class[i] == k
            summed += fixed[i] if best_class[i] == k else 0
        wins_K[k] += wins
        summed_K[k] += summed / (1 << 27)


@inner
def _add_stretches(best: Any, best_class: Any, wins_K: Any, summed_K: Any) -> None:
    """Count the cells of a row by class and add up their probabilities: neighbours mostly agree, once per stretch."""
    x = 0
    width = best.size
    while x < width:
        c = best_class[x]
        start = x
        summed = 0.0
        while x < width and best_class[x] == c:
            summed += best[x]
            x += 1
        wins_K[c] += x - start
        summed_K[c] += summed


@compiled
def won_cells(p_Khw: Any, winner_hw: Any, won_hw: Any, wins_K: Any, summed_K: Any, margin: Any) -> int:
    """Write the probability of the class that each cell has, and count and sum these by class.

    The same as grid_winners, for winners that other scores decided. With fewer rows than the grid, won_hw holds the
    probabilities of the last ones.

    Returns:
        Cells whose winner and the most probable other class differ by less than the margin; -1 if a probability is not
        finite.
    """
    classes, height, width = p_Khw.shape
    uncertain = 0
    other = np.empty(width, np.float32)
    poison = np.zeros(width, np.float32)
    for y in range(height):
        winner = winner_hw[y]
        won = won_hw[y % won_hw.shape[0]]
        for x in range(width):
            other[x] = np.float32(-np.inf)
        for k in range(classes):
            plane = p_Khw[k, y]
            for x in range(width):
                poison[x] += np.float32(0) * plane[x]
                won[x] = plane[x] if winner[x] == k else won[x]
                other[x] = other[x] if winner[x] == k else max(other[x], plane[x])
        for x in range(width):
            uncertain += abs(won[x] - other[x]) < margin
            wins_K[winner[x]] += 1
            summed_K[winner[x]] += won[x]
    return -1 if np.isnan(poison).any() else uncertain
