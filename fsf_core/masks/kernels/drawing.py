"""From probabilities on the network's grid to a class map of any size, and its components. Knows no files.

A band is what lies between two neighbouring samples of the grid: band b has sample b-1 before it and sample b after
it, held inside the grid. Two bands cross in a tile of pixels, interpolated from the same four corners. Where the four
have one winner, so has the tile, because interpolation is a convex combination; elsewhere only the classes that can
win somewhere in the tile are compared. A row of the map is a few runs of one class, and all counting is done on runs.
"""

# K classes, H×W output pixels, h×w cells of the grid

from typing import Any, NamedTuple

import numpy as np

from fsf_core.masks.kernels.compiling import compiled

# In a row of a border tile up to this long, every pixel is compared sooner than lines are crossed.
_SHORT_PX = 8


class Axis(NamedTuple):
    """Where the centres of the pixels lie between the samples of the grid, along one side."""

    band: Any
    """int32 [pixels], ascending, 0..cells."""
    weight: Any
    """float32 [pixels]: 0 at the sample before, towards 1 at the sample after."""
    cells_per_px: float


class _Tiles(NamedTuple):
    """The bands of columns that have pixels."""

    band: Any
    start: Any
    """First pixel, and one past the last."""


class _Spans(NamedTuple):
    """A band of rows, cut into border tiles and stretches of tiles with one winner."""

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
    """What the winner has at least, wherever in the tile."""
    rivals: Any
    """How many classes can win in the tile."""
    rival: Any
    """[b, i]: their classes, ascending."""
    corner: Any
    """[b, i, 4]: float64 probability at the upper edge left and right, and what the lower edge has more than that."""


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
    tiles = _tiles(columns.band)
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
            spans_found, borders_found = _cut_band(winner_hw[top], winner_hw[bottom], tiles, spans, borders)
            _find_rivals(p_Khw, top, bottom, borders, borders_found)
        runs_found = _cut_row(spans, spans_found, borders, columns, np.float64(rows.weight[y]), line, runs)
        _paint(runs, runs_found, class_map_HW[y], pixels_K)
        forest = _with_room(forest, labels + runs_found)
        labels = _join(runs, runs_found, above, runs_above, forest, labels)
        runs, above = above, runs
        runs_above = runs_found
    _tally(forest, labels, components_K, largest_K)


@compiled
def measure(class_map_HW: Any, pixels_K: Any, components_K: Any, largest_K: Any) -> bool:
    """Count pixels and components of a class map that was drawn elsewhere.

    Returns:
        False, and nothing of use in the counts, where a class is beyond them.
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
        forest = _with_room(forest, labels + runs_found)
        labels = _join(runs, runs_found, above, runs_above, forest, labels)
        runs, above = above, runs
        runs_above = runs_found
    _tally(forest, labels, components_K, largest_K)
    return True


@compiled
def _read_row(row_W: Any, changes: Any, words: Any, runs: Any) -> int:
    """Find the runs of a row, eight pixels a step; returns how many there are."""
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
def _tiles(band_W: Any) -> Any:
    """The bands that have pixels, in order."""
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
    """Room for a row of nothing but border tiles where every class can win; what is not touched takes no memory."""
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
    """Room for a row in which every pixel is a run."""
    return _Runs(np.empty(width_px, np.int32), np.empty(width_px, np.int32), np.empty(width_px, np.int32))


@compiled
def _new_forest(labels: int) -> Any:
    """Room for this many labels."""
    return _Forest(np.empty(labels, np.int32), np.empty(labels, np.int32), np.empty(labels, np.int64))


@compiled
def _cut_band(winner_above_w: Any, winner_below_w: Any, tiles: Any, spans: Any, borders: Any) -> Any:
    """Cut a band of rows into spans; returns how many there are, and how many border tiles."""
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
    """For every border tile the classes that can win in it, with their corners.

    Nowhere in the tile is a class below its lowest corner. A class whose highest corner is below the best of these
    floors therefore wins nowhere. That is exact, and of a thousand classes it usually leaves two or three.
    """
    for b in range(found):
        borders.floor[b] = np.float32(-np.inf)
        borders.rivals[b] = 0
    # Classes outside, tiles inside: neighbouring tiles read neighbouring memory, class planes lie far apart.
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
def _cut_row(spans: Any, found: int, borders: Any, columns: Any, weight: float, line: Any, runs: Any) -> int:
    """Cut one row of pixels into runs; returns how many there are.

    Args:
        spans: of the band of rows.
        found: how many spans there are.
        borders: the border tiles among them.
        columns: the axis along the row.
        weight: how far the row lies from the upper to the lower edge of the band.
        line: room for the value at the left edge and the slope of every rival.
        runs: where to write.
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
        if borders.rivals[b] == 2:  # noqa: PLR2004 # nearly everywhere: the sign of one difference tells two apart
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
    """Append a run, or lengthen the last one when it has the same class; returns how many there are."""
    if n > 0 and runs.winner[n - 1] == c:
        runs.end[n - 1] = end
        return n
    runs.end[n] = end
    runs.winner[n] = c
    return n + 1


@compiled
def _turn(start: int, end: int, columns: Any, lead: float, change: float) -> int:
    """The first pixel of start..end at which lead + change * weight is on another side of zero than at start, or end.

    Zero counts as above. The division only guesses: the pixels beside the guess decide.
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
    """Whether rival i wins against rival w at this weight; the lower of the two wins a tie.

    By the sign of one difference, as in _turn: where two lines almost meet, two sums may round to one number whose
    difference is none, and a winner by the one rule would never be left by the other.
    """
    a = min(i, w)
    b = max(i, w)
    return bool(((line[0, a] - line[0, b]) + (line[1, a] - line[1, b]) * weight >= 0) == (i < w))


@compiled
def _best(line: Any, rivals: int, weight: float) -> int:
    """The rival with the highest value at this weight; the lowest class wins a tie."""
    best = 0
    for i in range(1, rivals):
        if _is_ahead(line, i, best, weight):
            best = i
    return best


@compiled
def _cross(start: int, end: int, columns: Any, line: Any, rival: Any, runs: Any, n: int) -> int:
    """Append the winners along one row of a border tile, of any number of rivals.

    Along the row every class is a straight line, so each wins in one stretch at most, and the winner changes where the
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
                if _is_ahead(line, i, w, columns.weight[start]):  # by less than the comparison of three could tell
                    steepest = i if line[1, i] > line[1, steepest] else steepest
                    continue
                a = min(i, w)
                b = max(i, w)
                turn = min(turn, _turn(start, turn, columns, line[0, a] - line[0, b], line[1, a] - line[1, b]))
        if steepest != w:
            w = steepest
            continue
        if turn == end:
            break  # two lines closer than float64 can tell: either is right
        n = _extend(runs, n, turn, rival[w])
        start = turn
        w = _best(line, rival.size, columns.weight[start])
    return _extend(runs, n, end, rival[w])


@compiled
def _paint(runs: Any, found: int, row_W: Any, pixels_K: Any) -> None:
    """Write the runs of a row and count their pixels."""
    start = 0
    for i in range(found):
        end = runs.end[i]
        row_W[start:end] = runs.winner[i]
        pixels_K[runs.winner[i]] += end - start
        start = end


@compiled
def _with_room(forest: Any, labels: int) -> Any:
    """The forest, or a copy of it at least twice as large."""
    size = forest.parent.size
    if labels <= size:
        return forest
    larger = _new_forest(2 * labels)
    for label in range(size):  # slices would add seconds of compilation
        larger.parent[label] = forest.parent[label]
        larger.winner[label] = forest.winner[label]
        larger.px[label] = forest.px[label]
    return larger


@compiled
def _root(parent: Any, label: int) -> int:
    """The label that stands for the component, shortening the way there."""
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@compiled
def _join(runs: Any, found: int, above: Any, found_above: int, forest: Any, labels: int) -> int:
    """Label every run like the runs of its class that touch it from above or at a corner; returns the labels used."""
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
