"""Probabilities on the network's grid to a class map of any size, and its components. Knows no files.

A band is the interval between two neighbouring samples of the grid: band b is between sample b-1 and sample b, clamped
to the grid. Two bands cross in a tile of pixels, interpolated from the same four corners. Where all four have one
winner, so has the tile, because interpolation is a convex combination; elsewhere only the classes that can win in the
tile are compared. A row of the map is a few runs of one class, and all counting works on runs.
"""

# K classes, H×W output pixels, h×w cells of the grid

from typing import Any, NamedTuple

import numpy as np

from fsf_core.machine_code.compiling import compiled

# Up to this length, comparing every pixel of a border tile's row is faster than intersecting lines.
_SHORT_PX = 8


class Axis(NamedTuple):
    """Positions of the pixel centres between the samples of the grid, along one side."""

    band: Any
    """int32 [pixels], ascending, 0..cells."""
    weight: Any
    """float32 [pixels]: 0 at the sample before, approaching 1 at the sample after."""
    cells_per_px: float


class _Tiles(NamedTuple):
    """The bands of columns that contain pixels."""

    band: Any
    start: Any
    """First pixel of each, and the number of pixels at the end."""


class _Spans(NamedTuple):
    """A band of rows, split into border tiles and stretches of tiles with one winner."""

    end: Any
    """One past the last pixel."""
    winner: Any
    """Class, or -1 - b for border tile b."""


class _Borders(NamedTuple):
    """The border tiles of a band of rows."""

    start: Any
    """First pixel."""
    left: Any
    right: Any
    """Columns of the grid on either side."""
    floor: Any
    """Lower bound of the winner's probability anywhere in the tile."""
    rivals: Any
    """Number of classes that can win in the tile."""
    rival: Any
    """[b, i]: their classes, ascending."""
    corner: Any
    """float64 [b, i, 4]: probabilities at the upper edge, left and right, and their increase down to the lower edge."""


class _Runs(NamedTuple):
    """One row of the class map as runs of one class."""

    end: Any
    """One past the last pixel."""
    winner: Any
    label: Any
    """Index into the forest."""


class _Forest(NamedTuple):
    """Union-find over the components met so far."""

    parent: Any
    winner: Any
    px: Any
    """Pixels, valid at a root."""


@compiled
def draw(
    p_Khw: Any, winner_hw: Any, rows: Axis, columns: Axis, class_map_HW: Any, pixels_K: Any, components_K: Any,
    largest_K: Any,
) -> None:  # fmt: skip
    """Draw the class map row by row as runs of one class, and count pixels and components from the runs."""
    height_px, width_px = class_map_HW.shape
    tiles = _find_tiles(columns.band)
    spans = _Spans(np.empty(tiles.band.size, np.int32), np.empty(tiles.band.size, np.int32))
    borders = _new_borders(tiles.band.size, p_Khw.shape[0])
    line = np.empty((2, p_Khw.shape[0]), np.float64)
    runs = _new_runs(width_px)
    above = _new_runs(width_px)
    runs_above = 0
    forest = _new_forest(1024)
    labels = 0
    spans_found = 0
    for y in range(height_px):
        if y == 0 or rows.band[y] != rows.band[y - 1]:
            top = max(rows.band[y] - 1, 0)
            bottom = min(rows.band[y], p_Khw.shape[1] - 1)
            spans_found, borders_found = _split_band(winner_hw[top], winner_hw[bottom], tiles, spans, borders)
            _find_rivals(p_Khw, top, bottom, borders, borders_found)
        runs_found = _split_row(spans, spans_found, borders, columns, np.float64(rows.weight[y]), line, runs)
        _paint(runs, runs_found, class_map_HW[y], pixels_K)
        forest = _reserve(forest, labels + runs_found)
        labels = _label_runs(runs, runs_found, above, runs_above, forest, labels)
        runs, above = above, runs
        runs_above = runs_found
    _tally(forest, labels, components_K, largest_K)


@compiled
def measure(class_map_HW: Any, pixels_K: Any, components_K: Any, largest_K: Any) -> bool:
    """Count pixels and components of a given class map.

    Returns:
        False, with incomplete counts, if a class exceeds them.
    """
    height_px, width_px = class_map_HW.shape
    runs = _new_runs(width_px)
    above = _new_runs(width_px)
    runs_above = 0
    forest = _new_forest(1024)
    labels = 0
    changes = np.zeros((width_px + 7) // 8 * 8, np.uint8)
    for y in range(height_px):
        runs_found = _read_row(class_map_HW[y], changes, changes.view(np.uint64), runs)
        start = 0
        for i in range(runs_found):
            if runs.winner[i] >= pixels_K.size:
                return False
            pixels_K[runs.winner[i]] += runs.end[i] - start
            start = runs.end[i]
        forest = _reserve(forest, labels + runs_found)
        labels = _label_runs(runs, runs_found, above, runs_above, forest, labels)
        runs, above = above, runs
        runs_above = runs_found
    _tally(forest, labels, components_K, largest_K)
    return True


@compiled
def _read_row(row_W: Any, changes: Any, words: Any, runs: Any) -> int:
    """Find the runs of a row, eight pixels per step; return how many there are."""
    left = row_W[: row_W.size - 1]
    right = row_W[1:]
    for x in range(left.size):
        changes[x] = left[x] != right[x]
    n = 0
    for w in range(words.size):
        if words[w] != 0:
            for x in range(8 * w, 8 * w + 8):
                if changes[x] != 0:
                    n = _extend(runs, n, x + 1, np.int32(row_W[x]))
    return _extend(runs, n, row_W.size, np.int32(row_W[row_W.size - 1]))


@compiled
def _tally(forest: Any, labels: int, components_K: Any, largest_K: Any) -> None:
    """Count the components of each class and find the largest."""
    for label in range(labels):
        if forest.parent[label] == label:
            c = forest.winner[label]
            components_K[c] += 1
            largest_K[c] = max(largest_K[c], forest.px[label])


@compiled
def _find_tiles(band_W: Any) -> Any:
    """Return the bands that contain pixels, in order."""
    width = band_W.size
    band = np.empty(width, np.int32)
    start = np.empty(width + 1, np.int32)
    found = 0
    for x in range(width):
        if x == 0 or band_W[x] != band_W[x - 1]:
            band[found] = band_W[x]
            start[found] = x
            found += 1
    start[found] = width
    return _Tiles(band[:found], start[: found + 1])


@compiled
def _new_borders(tiles: int, classes: int) -> Any:
    """Allocate for a row of border tiles only, where every class can win; untouched pages take no memory."""
    return _Borders(
        np.empty(tiles, np.int32),
        np.empty(tiles, np.int32),
        np.empty(tiles, np.int32),
        np.empty(tiles, np.float32),
        np.empty(tiles, np.int32),
        np.empty((tiles, classes), np.int32),
        np.empty((tiles, classes, 4), np.float64),
    )


@compiled
def _new_runs(width_px: int) -> Any:
    """Allocate for a row in which every pixel is a run."""
    return _Runs(np.empty(width_px, np.int32), np.empty(width_px, np.int32), np.empty(width_px, np.int32))


@compiled
def _new_forest(labels: int) -> Any:
    """Allocate for this many labels."""
    return _Forest(np.empty(labels, np.int32), np.empty(labels, np.int32), np.empty(labels, np.int64))


@compiled
def _split_band(winner_above_w: Any, winner_below_w: Any, tiles: Any, spans: Any, borders: Any) -> Any:
    """Split a band of rows into spans; return how many there are, and how many border tiles."""
    last = winner_above_w.size - 1
    found = 0
    borders_found = 0
    previous = np.int32(0)
    for t in range(tiles.band.size):
        left = max(tiles.band[t] - 1, 0)
        right = min(tiles.band[t], last)
        c = np.int32(winner_above_w[left])
        if (winner_below_w[left] != c) | (winner_above_w[right] != c) | (winner_below_w[right] != c):
            borders.start[borders_found] = tiles.start[t]
            borders.left[borders_found] = left
            borders.right[borders_found] = right
            borders_found += 1
            c = np.int32(-borders_found)
        if t == 0 or c != previous:
            spans.winner[found] = c
            found += 1
        spans.end[found - 1] = tiles.start[t + 1]
        previous = c
    return found, borders_found


@compiled
def _find_rivals(p_Khw: Any, top: int, bottom: int, borders: Any, found: int) -> None:
    """Write the classes that can win in each border tile, with their corners.

    No class falls below its lowest corner within the tile, so a class whose highest corner is below the best of these
    floors wins nowhere. The test is exact; of a thousand classes it usually leaves two or three.
    """
    for b in range(found):
        borders.floor[b] = np.float32(-np.inf)
        borders.rivals[b] = 0
    # Classes outside, tiles inside: neighbouring tiles read neighbouring memory, class planes are far apart.
    for k in range(p_Khw.shape[0]):
        upper = p_Khw[k, top]
        lower = p_Khw[k, bottom]
        for b in range(found):
            x = borders.left[b]
            z = borders.right[b]
            borders.floor[b] = max(borders.floor[b], min(upper[x], upper[z], lower[x], lower[z]))
    for k in range(p_Khw.shape[0]):
        upper = p_Khw[k, top]
        lower = p_Khw[k, bottom]
        for b in range(found):
            x = borders.left[b]
            z = borders.right[b]
            if max(upper[x], upper[z], lower[x], lower[z]) >= borders.floor[b]:
                i = borders.rivals[b]
                borders.rival[b, i] = k
                borders.corner[b, i, 0] = upper[x]
                borders.corner[b, i, 1] = upper[z]
                borders.corner[b, i, 2] = np.float64(lower[x]) - np.float64(upper[x])
                borders.corner[b, i, 3] = np.float64(lower[z]) - np.float64(upper[z])
                borders.rivals[b] = i + 1


@compiled
def _split_row(spans: Any, found: int, borders: Any, columns: Any, weight: float, line: Any, runs: Any) -> int:
    """Split one row of pixels into runs; return how many there are.

    Args:
        spans: spans of the band of rows.
        found: number of spans.
        borders: the border tiles among them.
        columns: the axis along the row.
        weight: position of the row between the upper edge of the band (0) and the lower (1).
        line: scratch, [2, K]: value at the left edge and slope of every rival.
        runs: output.
    """
    n = 0
    corner = borders.corner
    for s in range(found):
        end = spans.end[s]
        if spans.winner[s] >= 0:
            n = _extend(runs, n, end, spans.winner[s])
            continue
        b = -1 - spans.winner[s]
        start = borders.start[b]
        if borders.rivals[b] == 2:  # noqa: PLR2004 # nearly everywhere: the sign of one difference decides
            lead = corner[b, 0, 0] - corner[b, 1, 0] + (corner[b, 0, 2] - corner[b, 1, 2]) * weight
            change = corner[b, 0, 1] - corner[b, 1, 1] + (corner[b, 0, 3] - corner[b, 1, 3]) * weight - lead
            first = 0 if lead + change * columns.weight[start] >= 0 else 1
            turn = _turn(start, end, columns, lead, change)
            if turn < end:
                n = _extend(runs, n, turn, borders.rival[b, first])
                first = 1 - first
            n = _extend(runs, n, end, borders.rival[b, first])
        else:
            rivals = borders.rivals[b]
            for i in range(rivals):
                line[0, i] = corner[b, i, 0] + corner[b, i, 2] * weight
                line[1, i] = corner[b, i, 1] + corner[b, i, 3] * weight - line[0, i]
            n = _cross(start, end, columns, line, borders.rival[b, :rivals], runs, n)
    return n


@compiled
def _extend(runs: Any, n: int, end: int, c: Any) -> int:
    """Append a run, or extend the last one if it has the same class; return how many there are."""
    if n > 0 and runs.winner[n - 1] == c:
        runs.end[n - 1] = end
        return n
    runs.end[n] = end
    runs.winner[n] = c
    return n + 1


@compiled
def _turn(start: int, end: int, columns: Any, lead: float, change: float) -> int:
    """Return the first pixel of start..end where lead + change * weight changes sign, or end.

    Zero counts as positive. The division only guesses; the pixels beside the guess decide.
    """
    weight = columns.weight
    above = lead + change * weight[start] >= 0
    if (lead + change * weight[end - 1] >= 0) == above:
        return end
    guess = (-lead / change - weight[start]) / columns.cells_per_px
    x = start + min(int(min(max(guess, 0.0), 1e9)), end - 1 - start)
    while x > start and (lead + change * weight[x - 1] >= 0) != above:
        x -= 1
    while (lead + change * weight[x] >= 0) == above:
        x += 1
    return x


@compiled
def _is_ahead(line: Any, i: int, w: int, weight: float) -> bool:
    """Return whether rival i beats rival w at this weight; the lower of the two wins a tie.

    Decided by the sign of one difference, as in _turn: where two lines almost meet, two sums can round to the same
    number while the difference does not round to zero, and the two rules would disagree.
    """
    a = min(i, w)
    b = max(i, w)
    return bool(((line[0, a] - line[0, b]) + (line[1, a] - line[1, b]) * weight >= 0) == (i < w))


@compiled
def _best(line: Any, rivals: int, weight: float) -> int:
    """Return the rival with the highest value at this weight; the lowest class wins a tie."""
    best = 0
    for i in range(1, rivals):
        if _is_ahead(line, i, best, weight):
            best = i
    return best


@compiled
def _cross(start: int, end: int, columns: Any, line: Any, rival: Any, runs: Any, n: int) -> int:
    """Append the winners along one row of a border tile, of any number of rivals.

    Along the row every class is a straight line, so each wins in at most one stretch, and the winner changes where the
    first steeper line crosses it.
    """
    if end - start <= _SHORT_PX:
        for x in range(start, end):
            n = _extend(runs, n, x + 1, rival[_best(line, rival.size, columns.weight[x])])
        return n
    w = _best(line, rival.size, columns.weight[start])
    final = _best(line, rival.size, columns.weight[end - 1])
    while w != final:
        turn = end
        steepest = w
        for i in range(rival.size):
            if line[1, i] > line[1, w]:
                if _is_ahead(line, i, w, columns.weight[start]):  # _best lost it to rounding
                    steepest = i if line[1, i] > line[1, steepest] else steepest
                    continue
                a = min(i, w)
                b = max(i, w)
                turn = min(turn, _turn(start, turn, columns, line[0, a] - line[0, b], line[1, a] - line[1, b]))
        if steepest != w:
            w = steepest
            continue
        if turn == end:
            break  # two lines closer than float64 resolves: either is right
        n = _extend(runs, n, turn, rival[w])
        start = turn
        w = _best(line, rival.size, columns.weight[start])
    return _extend(runs, n, end, rival[w])


@compiled
def _paint(runs: Any, found: int, row_W: Any, pixels_K: Any) -> None:
    """Write the pixels of the runs of a row, and count them."""
    start = 0
    for i in range(found):
        end = runs.end[i]
        row_W[start:end] = runs.winner[i]
        pixels_K[runs.winner[i]] += end - start
        start = end


@compiled
def _reserve(forest: Any, labels: int) -> Any:
    """Return the forest if it holds this many labels, else a larger copy."""
    size = forest.parent.size
    if labels <= size:
        return forest
    larger = _new_forest(2 * labels)
    for label in range(size):  # slice assignments add seconds of compilation
        larger.parent[label] = forest.parent[label]
        larger.winner[label] = forest.winner[label]
        larger.px[label] = forest.px[label]
    return larger


@compiled
def _root(parent: Any, label: int) -> int:
    """Return the root label of the component, shortening the path to it."""
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@compiled
def _label_runs(runs: Any, found: int, above: Any, found_above: int, forest: Any, labels: int) -> int:
    """Give every run the label of the runs of its class that touch it in the row above; return the number of labels."""
    first = 0
    start = 0
    for i in range(found):
        end = runs.end[i]
        c = runs.winner[i]
        while first < found_above and above.end[first] < start:
            first += 1
        label = -1
        j = first
        while j < found_above and (j == 0 or above.end[j - 1] <= end):
            if above.winner[j] == c:
                other = _root(forest.parent, above.label[j])
                if label >= 0 and other != label:
                    drop = max(label, other)
                    other = min(label, other)
                    forest.parent[drop] = other
                    forest.px[other] += forest.px[drop]
                label = other
            j += 1
        if label < 0:
            label = labels
            labels += 1
            forest.parent[label] = label
            forest.winner[label] = c
            forest.px[label] = 0
        forest.px[label] += end - start
        runs.label[i] = label
        start = end
    return labels
