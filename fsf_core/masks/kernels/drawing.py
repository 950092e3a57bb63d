"""Probabilities on the network's grid to a class map of any size, and its components. Knows no files.

A band is the interval between two neighbouring samples of the grid: band b is between sample b-1 and sample b, clamped
to the grid. Two bands cross in a tile of pixels, interpolated from the same four corners. Where all four have one
winner, so has the tile, because interpolation is a convex combination; elsewhere only the classes that can win in the
tile are compared. A row of the map is a few runs of one class, and all counting works on runs.
"""

# K classes, H×W output pixels, h×w cells of the grid

from typing import Any, NamedTuple

import numpy as np

from fsf_core.machine_code.compiling import allocating, compiled, inner, trailing_zeros

# As a literal, numba would compile what is called with it once more.
_ZERO: Any = np.int64(0)

# Up to this length, comparing every pixel of a border tile's row is faster than intersecting lines.
_SHORT_PX = 8

# Entries of a loop that is vectorised; at least as many as a vector holds, four at a time.
_VECTOR = 32

# More than a tile has, and few enough to be added to a position.
_FAR_PX = 1e8

# Components for which there is room at first, beside those that a row can begin.
_FOREST = 1024

# Up to as many rivals are compared with each other.
_FEW = 8

# What is left of a difference when rounding has taken all that it can, as a share of the largest number.
_CLEARLY = 1e-9


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
    changes: Any
    """uint8, in whole words: whether a tile is no continuation of the one before it."""
    columns: Any
    """uint8: the same between two columns of the grid, by band."""


class _Borders(NamedTuple):
    """The border tiles of a band of rows, from left to right; room for whole vectors of them.

    Where bands of columns have no pixels, one winner can follow another without a border tile between them: then an
    entry without pixels is.
    """

    start: Any
    """First pixel."""
    end: Any
    """One past the last pixel."""
    before: Any
    """Class of the pixels between the entry before and this one; -1 where there are none."""
    left: Any
    right: Any
    """Columns of the grid on either side."""
    weight: Any
    """float64 [2, b]: weight of the first and of the last pixel."""
    floor: Any
    """Lower bound of the winner's probability anywhere in the tile."""
    rivals: Any
    """Number of classes that can win in the tile; 0 for an entry without pixels."""
    rival: Any
    """[b, i]: their classes, ascending."""
    corner: Any
    """float64 [b, i, 4]: probabilities at the upper edge, left and right, and their increase down to the lower edge."""
    gap: Any
    """float64 [4, b]: the same for the difference between two rivals."""
    pruned: Any
    """Border tiles of two rivals that had more."""


class _Cuts(NamedTuple):
    """How one row of pixels cuts the border tiles; meaningless where more than two classes can win."""

    lead: Any
    """float64: by how much the first rival leads at the left edge of the tile."""
    change: Any
    """float64: the increase of the lead up to the right edge."""
    state: Any
    """uint8: 1 if the first rival wins at the first pixel, plus 2 if it is the other at the last one."""
    guess: Any
    """Pixel before the first one at which it is the other, if the division is right."""


class _Runs(NamedTuple):
    """One row of the class map as runs of one class, from 1 on: each begins where the one before it ends."""

    end: Any
    """One past the last pixel; that of run 0 is 0."""
    winner: Any
    """Class; that of run 0 is none."""
    label: Any
    """Index into the forest."""


class _Drawing(NamedTuple):
    """What is drawn, and what is known while it is."""

    class_map_HW: Any
    pixels_K: Any
    tiles: Any
    borders: Any
    cuts: Any
    line: Any
    """float64 [2, K]: value at the left edge and slope of every rival in a row of a border tile."""
    runs_2: Any


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
    tiles = _find_tiles(columns.band, winner_hw.shape[1])
    borders = _new_borders(tiles.band.size, p_Khw.shape[0])
    line = np.empty((2, p_Khw.shape[0]), np.float64)
    drawing = _Drawing(class_map_HW, pixels_K, tiles, borders, _new_cuts(borders.start.size), line, _new_runs(width_px))
    forest = _new_forest(_FOREST + width_px)
    y, labels = _ZERO, _ZERO
    while y < height_px:
        forest = _reserve(forest, labels + width_px)
        y, labels = _draw_rows(p_Khw, winner_hw, rows, columns, drawing, forest, y, labels)
    _tally(forest, labels, components_K, largest_K)


@inner
def _draw_rows(
    p_Khw: Any, winner_hw: Any, rows: Any, columns: Any, drawing: Any, forest: Any, first: int, labels: int
) -> Any:  # fmt: skip
    """Draw rows from the first one on, while the forest has room; return the next one and the number of labels."""
    height_px, width_px = drawing.class_map_HW.shape
    borders, cuts = drawing.borders, drawing.cuts
    found, pruned, behind = _ZERO, _ZERO, np.int32(0)
    y = first
    while y < height_px and labels + width_px <= forest.parent.size:
        if y == first or rows.band[y] != rows.band[y - 1]:
            top = max(rows.band[y] - 1, 0)
            bottom = min(rows.band[y], p_Khw.shape[1] - 1)
            found, behind = _find_borders(winner_hw[top], winner_hw[bottom], drawing.tiles, columns, borders)
            _find_rivals(p_Khw, top, bottom, borders, found)
            pruned = _pair_rivals(borders, found)
        runs = _row_of(drawing.runs_2, y)
        weight = np.float64(rows.weight[y])
        _cut_row(borders, found, pruned, weight, 1 / columns.cells_per_px, cuts)
        runs_found = _join_row(borders, found, columns, weight, cuts, drawing.line, runs)
        runs_found = _extend(runs, runs_found, width_px, behind if behind >= 0 else runs.winner[runs_found])
        _paint(runs, runs_found, drawing.class_map_HW[y], drawing.pixels_K)
        labels = _label_runs(runs, runs_found, _row_of(drawing.runs_2, y + 1), forest, labels)
        y += 1
    return y, labels


@compiled
def measure(class_map_HW: Any, pixels_K: Any, components_K: Any, largest_K: Any) -> bool:
    """Count pixels and components of a given class map.

    Returns:
        False, with incomplete counts, if a class exceeds them.
    """
    height_px, width_px = class_map_HW.shape
    runs_2 = _new_runs(width_px)
    forest = _new_forest(_FOREST + width_px)
    changes = np.zeros((width_px + 7) // 8 * 8, np.uint8)
    y, labels = _ZERO, _ZERO
    while y < height_px:
        forest = _reserve(forest, labels + width_px)
        y, labels = _measure_rows(class_map_HW, changes, changes.view(np.uint64), runs_2, forest, y, labels, pixels_K)
        if labels < 0:
            return False
    _tally(forest, labels, components_K, largest_K)
    return True


@inner
def _measure_rows(
    class_map_HW: Any, changes: Any, words: Any, runs_2: Any, forest: Any, first: int, labels: int, pixels_K: Any
) -> Any:  # fmt: skip
    """Count rows from the first one on, while the forest has room; return the next one and the number of labels.

    The number is -1 if a class exceeds the counts.
    """
    y = first
    while y < class_map_HW.shape[0] and labels + class_map_HW.shape[1] <= forest.parent.size:
        runs = _row_of(runs_2, y)
        found = _read_row(class_map_HW[y], changes, words, runs)
        for i in range(1, found + 1):
            if runs.winner[i] >= pixels_K.size:
                return y, -1
            pixels_K[runs.winner[i]] += runs.end[i] - runs.end[i - 1]
        labels = _label_runs(runs, found, _row_of(runs_2, y + 1), forest, labels)
        y += 1
    return y, labels


@inner
def _row_of(runs_2: Any, y: int) -> Any:
    """Return the runs of an even or an odd row."""
    return _Runs(runs_2.end[y & 1], runs_2.winner[y & 1], runs_2.label[y & 1])


@inner
def _read_row(row_W: Any, changes: Any, words: Any, runs: Any) -> Any:
    """Find the runs of a row, eight pixels per step; return how many there are."""
    left = row_W[: row_W.size - 1]
    right = row_W[1:]
    for x in range(left.size):
        changes[x] = left[x] != right[x]
    n = _ZERO
    for w in range(words.size):
        changed = words[w]
        while changed != 0:
            x = 8 * w + (trailing_zeros(changed) >> 3)
            n += 1
            runs.end[n] = x + 1
            runs.winner[n] = row_W[x]
            changed &= changed - np.uint64(1)
    return _extend(runs, n, row_W.size, np.int32(row_W[row_W.size - 1]))


@inner
def _tally(forest: Any, labels: int, components_K: Any, largest_K: Any) -> None:
    """Count the components of each class and find the largest."""
    for label in range(labels):
        if forest.parent[label] == label:
            c = forest.winner[label]
            components_K[c] += 1
            largest_K[c] = max(largest_K[c], forest.px[label])


@allocating
def _find_tiles(band_W: Any, cells: int) -> Any:
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
    changes = np.zeros((found + 7) // 8 * 8, np.uint8)
    return _Tiles(band[:found], start[: found + 1], changes, np.zeros(cells + 1, np.uint8))


@allocating
def _new_borders(tiles: int, classes: int) -> Any:
    """Allocate for a row of border tiles only, where every class can win; untouched pages take no memory."""
    room = _whole_vectors(tiles)
    return _Borders(
        np.zeros(room, np.int32),
        np.zeros(room, np.int32),
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.zeros((2, room), np.float64),
        np.empty(room, np.float32),
        np.zeros(room, np.int32),
        np.zeros((room, classes + 1), np.int32),
        np.empty((room, classes, 4), np.float64),
        np.zeros((4, room), np.float64),
        np.empty(room, np.int32),
    )


@inner
def _whole_vectors(entries: int) -> int:
    """Return the number of entries in whole vectors: the rest of a loop is not vectorised."""
    return (entries + _VECTOR - 1) // _VECTOR * _VECTOR


@allocating
def _new_cuts(room: int) -> Any:
    """Allocate for as many border tiles."""
    return _Cuts(
        np.empty(room, np.float64), np.empty(room, np.float64), np.empty(room, np.uint8), np.empty(room, np.int32)
    )


@allocating
def _new_runs(width_px: int) -> Any:
    """Allocate for two rows in which every pixel is a run; the odd one, above the first row, is of no class."""
    shape = (2, width_px + 2)
    runs_2 = _Runs(np.empty(shape, np.int32), np.empty(shape, np.int32), np.empty(shape, np.int32))
    for y in range(2):
        runs_2.end[y, 0] = 0
        runs_2.winner[y, 0] = -2
        runs_2.end[y, 1] = width_px
        runs_2.winner[y, 1] = -1
    return runs_2


@allocating
def _new_forest(labels: int) -> Any:
    """Allocate for this many labels."""
    return _Forest(np.empty(labels, np.int32), np.empty(labels, np.int32), np.empty(labels, np.int64))


@inner
def _find_borders(above_w: Any, below_w: Any, tiles: Any, columns: Any, borders: Any) -> Any:
    """Find the border tiles of a band of rows; return how many entries there are, and the class behind the last one.

    The class behind it is -1 if the last tile is one of them.
    """
    _mark_changes(above_w, below_w, tiles)
    words = tiles.changes.view(np.uint64)
    last = above_w.size - 1
    found = 0
    behind = -1  # the last tile that was looked at
    for w in range(words.size):
        changed = words[w]
        while changed != 0:
            t = 8 * w + (trailing_zeros(changed) >> 3)
            changed &= changed - np.uint64(1)
            border = tiles.columns[tiles.band[t]] != 0
            borders.start[found] = tiles.start[t]
            borders.end[found] = tiles.start[t + 1] if border else tiles.start[t]
            borders.before[found] = above_w[max(tiles.band[t - 1] - 1, 0)] if t - 1 > behind else -1
            borders.left[found] = max(tiles.band[t] - 1, 0)
            borders.right[found] = min(tiles.band[t], last)
            borders.weight[0, found] = columns.weight[tiles.start[t]]
            borders.weight[1, found] = columns.weight[tiles.start[t + 1] - 1]
            found += 1
            behind = t if border else t - 1
    if behind == tiles.band.size - 1:
        return found, np.int32(-1)
    return found, np.int32(above_w[max(tiles.band[tiles.band.size - 1] - 1, 0)])


@inner
def _mark_changes(above_w: Any, below_w: Any, tiles: Any) -> None:
    """Mark the border tiles, and tiles whose winner is not that of the tile before them."""
    last = above_w.size - 1
    tiles.columns[0] = above_w[0] != below_w[0]
    tiles.columns[last + 1] = above_w[last] != below_w[last]
    inner = tiles.columns[1 : last + 1]
    above_right, below_right = above_w[1:], below_w[1:]
    for x in range(inner.size):
        c = above_w[x]
        inner[x] = (below_w[x] != c) | (above_right[x] != c) | (below_right[x] != c)
    changes = tiles.changes
    if tiles.band.size == tiles.columns.size:
        for t in range(tiles.columns.size):
            changes[t] = tiles.columns[t]
        return
    previous = np.int32(-1)
    for t in range(tiles.band.size):  # neighbours without a common column
        c = np.int32(above_w[max(tiles.band[t] - 1, 0)])
        border = tiles.columns[tiles.band[t]] != 0
        changes[t] = border | ((previous >= 0) & (c != previous))
        previous = np.int32(-1) if border else c


@inner
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


@inner
def _pair_rivals(borders: Any, found: int) -> int:
    """Prune the rivals of each border tile, and write how two of them differ; return how many are so pruned to two."""
    pruned = 0
    for b in range(found):
        rivals = borders.rivals[b]
        if borders.start[b] == borders.end[b]:
            borders.rivals[b] = 0
            borders.rival[b, :2] = borders.before[b]
            borders.gap[:, b] = 0
        elif rivals == 2:  # noqa: PLR2004 # nearly everywhere
            for i in range(4):
                borders.gap[i, b] = borders.corner[b, 0, i] - borders.corner[b, 1, i]
        elif rivals <= _FEW:
            borders.rivals[b] = _prune(borders.rival[b], borders.corner[b], rivals)
            if borders.rivals[b] == 2:  # noqa: PLR2004
                borders.pruned[pruned] = b
                pruned += 1
    return pruned


@inner
def _prune(rival: Any, corner: Any, rivals: int) -> int:
    """Drop the rivals that another one beats at every corner, by more than rounding takes; return how many remain."""
    most = 0.0
    for i in range(rivals):
        most = max(most, abs(corner[i, 0]), abs(corner[i, 1]), abs(corner[i, 2]), abs(corner[i, 3]))
    least = _CLEARLY * most
    beaten = 0
    for i in range(rivals):
        for j in range(rivals):
            upper_left = corner[j, 0] - corner[i, 0]
            upper_right = corner[j, 1] - corner[i, 1]
            lower_left = upper_left + (corner[j, 2] - corner[i, 2])
            lower_right = upper_right + (corner[j, 3] - corner[i, 3])
            if min(upper_left, upper_right, lower_left, lower_right) > least:
                beaten |= 1 << i
    kept = 0
    for i in range(rivals):
        rival[kept] = rival[i]
        for e in range(4):
            corner[kept, e] = corner[i, e]
        kept += 1 - (beaten >> i & 1)
    return kept


@inner
def _cut_row(borders: Any, found: int, pruned: int, weight: float, px_per_cell: float, cuts: Any) -> None:
    """Find where a row of pixels may change its class inside each border tile of two rivals.

    Args:
        borders: of the band of rows.
        found: how many there are.
        pruned: how many of them had more rivals.
        weight: position of the row between the upper edge of the band (0) and the lower (1).
        px_per_cell: width of a band of columns.
        cuts: output.
    """
    gap, lead, change, guess, state = borders.gap, cuts.lead, cuts.change, cuts.guess, cuts.state
    first, last, start = borders.weight[0], borders.weight[1], borders.start
    n = _whole_vectors(found)
    for b in range(n):
        lead[b] = gap[0, b] + gap[2, b] * weight
    for b in range(n):
        change[b] = gap[1, b] + gap[3, b] * weight - lead[b]
    for i in range(pruned):  # as in _cross, whose sums round in another way
        b = borders.pruned[i]
        corner = borders.corner[b]
        one = corner[0, 0] + corner[0, 2] * weight
        other = corner[1, 0] + corner[1, 2] * weight
        lead[b] = one - other
        change[b] = (corner[0, 1] + corner[0, 3] * weight - one) - (corner[1, 1] + corner[1, 3] * weight - other)
    for b in range(n):
        ahead = lead[b] + change[b] * first[b] >= 0
        state[b] = np.uint8(ahead) + 2 * np.uint8((lead[b] + change[b] * last[b] >= 0) != ahead)
    for b in range(n):
        px = (-lead[b] / change[b] - first[b]) * px_per_cell
        px = px if px > 0 else 0.0
        guess[b] = start[b] + np.int32(min(px, _FAR_PX))


@inner
def _join_row(borders: Any, found: int, columns: Any, weight: float, cuts: Any, line: Any, runs: Any) -> Any:
    """Join a row up to its last border tile to runs; return how many there are.

    Args:
        borders: of the band of rows.
        found: how many there are.
        columns: the axis along the row.
        weight: position of the row between the upper edge of the band (0) and the lower (1).
        cuts: of this row.
        line: scratch, [2, K]: value at the left edge and slope of every rival.
        runs: output.
    """
    n = _ZERO
    for b in range(found):
        start = np.int64(borders.start[b])
        end = np.int64(borders.end[b])
        before = borders.before[b]
        n = _extend(runs, n, start, before if before >= 0 else runs.winner[n])
        if borders.rivals[b] > 2:  # noqa: PLR2004 # rarely
            corner = borders.corner
            rivals = borders.rivals[b]
            for i in range(rivals):
                line[0, i] = corner[b, i, 0] + corner[b, i, 2] * weight
                line[1, i] = corner[b, i, 1] + corner[b, i, 3] * weight - line[0, i]
            n = _cross(start, end, columns, line, borders.rival[b, :rivals], runs, n)
            continue
        ahead = cuts.state[b] & 1
        turns = cuts.state[b] >> 1
        x = min(cuts.guess[b] + 1, end - 1)
        lead = cuts.lead[b]
        change = cuts.change[b]
        left = lead + change * columns.weight[max(x - 1, 0)] >= 0
        right = lead + change * columns.weight[x] >= 0
        turn = x if turns else end
        if turns & ((left != ahead) | (right == ahead)):  # rarely: the guess is another pixel
            turn = _turn(start, end, columns, lead, change)
        n = _extend(runs, n, turn, borders.rival[b, 1 - ahead])
        n = _extend(runs, n, end, borders.rival[b, (1 - ahead) ^ turns])
    return n


@inner
def _extend(runs: Any, n: Any, end: Any, c: Any) -> Any:
    """Append a run, or extend the last one if it has the same class; return how many there are."""
    n += runs.winner[n] != c
    runs.end[n] = end
    runs.winner[n] = c
    return n


@inner
def _turn(start: Any, end: Any, columns: Any, lead: Any, change: Any) -> Any:
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


@inner
def _is_ahead(line: Any, i: int, w: int, weight: float) -> bool:
    """Return whether rival i beats rival w at this weight; the lower of the two wins a tie.

    Decided by the sign of one difference, as in _turn: where two lines almost meet, two sums can round to the same
    number while the difference does not round to zero, and the two rules would disagree.
    """
    a = min(i, w)
    b = max(i, w)
    return bool(((line[0, a] - line[0, b]) + (line[1, a] - line[1, b]) * weight >= 0) == (i < w))


@inner
def _best(line: Any, rivals: int, weight: float) -> int:
    """Return the rival with the highest value at this weight; the lowest class wins a tie."""
    best = 0
    for i in range(1, rivals):
        if _is_ahead(line, i, best, weight):
            best = i
    return best


@inner
def _cross(start: Any, end: Any, columns: Any, line: Any, rival: Any, runs: Any, n: Any) -> Any:
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


@inner
def _paint(runs: Any, found: int, row_W: Any, pixels_K: Any) -> None:
    """Write the pixels of the runs of a row, and count them."""
    for i in range(1, found + 1):
        start = runs.end[i - 1]
        end = runs.end[i]
        row_W[start:end] = runs.winner[i]
        pixels_K[runs.winner[i]] += end - start


@allocating
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


@inner
def _root(parent: Any, label: int) -> int:
    """Return the root label of the component, shortening the path to it."""
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@inner
def _label_runs(runs: Any, found: int, above: Any, forest: Any, labels: int) -> int:
    """Give every run the label of the runs of its class that touch it in the row above; return the number of labels."""
    width_px = runs.end[found]
    first = 1
    for i in range(1, found + 1):
        start = runs.end[i - 1]
        end = runs.end[i]
        c = runs.winner[i]
        while above.end[first] < start:
            first += 1
        label = -1
        j = first
        while above.end[j - 1] <= end:
            if above.winner[j] == c:
                other = _root(forest.parent, above.label[j])
                if label >= 0 and other != label:
                    drop = max(label, other)
                    other = min(label, other)
                    forest.parent[drop] = other
                    forest.px[other] += forest.px[drop]
                label = other
            if above.end[j] == width_px:
                break
            j += 1
        if label < 0:
            label = labels
            labels += 1
            forest.parent[label] = label
            forest.winner[label] = c
            forest.px[label] = 0
        forest.px[label] += end - start
        runs.label[i] = label
    return labels
