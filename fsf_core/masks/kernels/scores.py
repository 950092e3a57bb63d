"""Class scores to probabilities and winners, on the network's grid. Knows nothing of the image's size."""

# K classes, h×w cells of the grid, P cells in any order

from typing import Any

import numpy as np

from fsf_core.machine_code.compiling import compiled

# Cells of one softmax step: their maximum, sum and scale stay in the L1 cache.
_BLOCK = 1024


@compiled
def softmax_planes(scores_KP: Any, out_KP: Any) -> None:
    """Write the softmax over the classes of every cell: minus the maximum, exp, divided by the sum.

    The exponential is Cephes' expf (range reduction by ln 2 in two parts, a polynomial of degree 6): within 2 units in
    the last place and the same bits on every processor.
    """
    classes, cells = scores_KP.shape
    top = np.empty(_BLOCK, np.float32)
    total = np.empty(_BLOCK, np.float32)
    power = np.empty(_BLOCK, np.float32)
    power_bits = power.view(np.int32)
    for start in range(0, cells, _BLOCK):
        n = min(_BLOCK, cells - start)
        plane = scores_KP[0, start : start + n]  # slices: LLVM vectorises an index only if it starts at 0
        for i in range(n):
            top[i] = plane[i]
            total[i] = np.float32(0)
        for k in range(1, classes):
            plane = scores_KP[k, start : start + n]
            for i in range(n):
                top[i] = max(top[i], plane[i])
        for k in range(classes):
            plane = scores_KP[k, start : start + n]
            out = out_KP[k, start : start + n]
            for i in range(n):
                x = plane[i] - top[i]
                clamped = max(x, np.float32(-87))
                # Adding 1.5 * 2**23 rounds to an integer.
                twos = (clamped * np.float32(1.44269504088896341) + np.float32(12582912)) - np.float32(12582912)
                r = (clamped - twos * np.float32(0.693359375)) - twos * np.float32(-2.12194440e-4)
                y = np.float32(1.9875691500e-4)
                y = y * r + np.float32(1.3981999507e-3)
                y = y * r + np.float32(8.3334519073e-3)
                y = y * r + np.float32(4.1665795894e-2)
                y = y * r + np.float32(1.6666665459e-1)
                y = y * r + np.float32(5.0000001201e-1)
                y = y * (r * r) + r + np.float32(1)
                power_bits[i] = (np.int32(twos) + np.int32(127)) << np.int32(23)
                out[i] = np.float32(0) if x < np.float32(-87) else y + (x - x)  # x - x propagates NaN and infinity
            for i in range(n):
                out[i] *= power[i]
                total[i] += out[i]
        for k in range(classes):
            out = out_KP[k, start : start + n]
            for i in range(n):
                out[i] /= total[i]


@compiled
def grid_winners(p_Khw: Any, winner_hw: Any, best_hw: Any, wins_K: Any, summed_K: Any, margin: Any) -> int:
    """Write the winning class of every cell and its probability, and count and sum these by class.

    The lowest class wins a tie. With fewer rows than the grid, best_hw holds the probabilities of the last ones.

    Returns:
        Cells whose two largest probabilities differ by less than the margin; -1 if a probability is not finite.
    """
    classes, height, width = p_Khw.shape
    uncertain = 0
    second = np.empty(width, np.float32)
    best_class = np.empty(width, np.int32)
    poison = np.zeros(width, np.float32)  # stays 0 until a NaN or an infinity makes it NaN
    for y in range(height):
        plane = p_Khw[0, y]
        best = best_hw[y % best_hw.shape[0]]
        for x in range(width):
            best[x] = plane[x]
            second[x] = np.float32(-np.inf)
            best_class[x] = 0
            poison[x] += np.float32(0) * plane[x]
        for k in range(1, classes):
            plane = p_Khw[k, y]
            for x in range(width):
                poison[x] += np.float32(0) * plane[x]
                best_class[x] = k if plane[x] > best[x] else best_class[x]
                second[x] = max(second[x], min(best[x], plane[x]))
                best[x] = max(best[x], plane[x])
        winner = winner_hw[y]
        for x in range(width):
            winner[x] = best_class[x]
            uncertain += best[x] - second[x] < margin
        x = 0
        while x < width:  # neighbours mostly agree: sum in registers, write once per stretch
            c = best_class[x]
            start = x
            summed = 0.0
            while x < width and best_class[x] == c:
                summed += best[x]
                x += 1
            wins_K[c] += x - start
            summed_K[c] += summed
    return -1 if np.isnan(poison).any() else uncertain


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
