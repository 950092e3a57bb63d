"""Connected regions of a class map: box, size, centre and probability of each. Knows no class names and no files.

A row is runs of one class; runs of one class that touch, at a corner too, are one region. Regions that a row does not
continue are complete and leave the memory of the loop, which grows with the width of the map and not with its area.
"""

# H×W pixels, h×w cells of the network's grid, R regions

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fsf_core.machine_code.compiling import allocating, as_input, compiled, inner

# Columns of the facts of a region, in the order of Found.
_CLASS, _PIXELS, _TOP, _LEFT, _BOTTOM, _RIGHT, _ROWS, _COLUMNS, _WON_PX, _FIRST, _FACTS = range(11)


_BLOCK_PX = 1 << 16
"""Pixels whose regions are written at a time."""


class Found(NamedTuple):
    """Regions by class, then by their first pixel in raster order; int64 [R] but for `won`."""

    class_id: Any
    pixels: Any
    top: Any
    """First row of the bounding box."""
    left: Any
    bottom: Any
    """Last row."""
    right: Any
    rows: Any
    """Sum of the rows of the pixels."""
    columns: Any
    won_px: Any
    """Pixels whose nearest cell the class of the region wins."""
    first: Any
    """Place of the first pixel in raster order."""
    won: Any
    """float64 [R]: sum of the probabilities of these cells over these pixels."""


class Cells(NamedTuple):
    """The network's grid beside the class map; a grid of no rows where there are no probabilities."""

    winner_hw: Any
    """uint16: winning class of every cell."""
    best_hw: Any
    """float32: its probability."""
    row_H: Any
    """int64: row of the grid that is nearest to every row of pixels."""
    column_W: Any
    start_w: Any
    """int64 [w + 1]: first pixel of every column of the grid, and the number of pixels at the end."""


_NO_CELLS = Cells(
    as_input(np.empty((0, 0), np.uint16)),
    as_input(np.empty((0, 0), np.float32)),
    as_input(np.empty(0, np.int64)),
    as_input(np.empty(0, np.int64)),
    as_input(np.zeros(1, np.int64)),
)


class _Runs(NamedTuple):
    """The runs of one row, without those of the background."""

    start: Any
    end: Any
    """One past the last pixel."""
    winner: Any
    label: Any


class _Open(NamedTuple):
    """The regions that the last row continued, and those that begin in this one."""

    parent: Any
    facts: Any
    won: Any
    """Sum of the probabilities over the pixels that WON_PX counts."""


class _Scan(NamedTuple):
    """What is kept from row to row."""

    runs: _Runs
    above: _Runs
    regions: _Open
    kept: _Open
    target: Any
    changes: Any
    counts: Any
    """int64: whether runs and above, and regions and kept, have changed places; runs above; regions continued."""


def find_regions(class_map_HW: Any, cells: Cells, min_px: int, most: int) -> Found:
    """Find the connected regions of at least min_px pixels of every class but 0.

    Args:
        class_map_HW: uint8 or uint16, of `as_input`.
        cells: the network's grid.
        min_px: regions of fewer pixels are left out.
        most: number of regions that there can be, which is not checked.
    """
    facts_RF = np.empty((most, _FACTS), np.int64)
    won_R = np.empty(most, np.float64)
    found = _find(class_map_HW, cells, min_px, facts_RF, won_R)
    order = np.argsort(facts_RF[:found, _CLASS] * class_map_HW.size + facts_RF[:found, _FIRST])  # all different
    return Found._make([*facts_RF[order].T, won_R[order]])


@compiled
def _find(class_map_HW: Any, cells: Any, min_px: int, facts_R: Any, won_R: Any) -> int:
    """Write the facts of every region of at least min_px pixels of a class other than 0; return how many there are.

    The order is that in which regions end. The outputs hold as many regions as there can be.
    """
    scan = _begin_scan(class_map_HW.shape[1])
    top = background = class_map_HW.shape[0] * 0  # not literals, for which numba would compile a version of its own
    found = _scan_rows(class_map_HW, top, background, cells, min_px, scan, facts_R, won_R)
    return found + _end_scan(scan, min_px, facts_R[found:], won_R[found:])


class Scan:
    """All regions of a class map that comes in blocks of rows, those of class 0 too, without probabilities."""

    def __init__(self, width_px: int) -> None:
        self._state = _begin_scan(width_px)
        # All that can end within a block: those that the row above it continued, and every pixel.
        self._block_rows = max(1, _BLOCK_PX // width_px)
        most = (self._block_rows + 2) * width_px
        self._facts_RF, self._won_R = np.empty((most, _FACTS), np.int64), np.empty(most, np.float64)
        self._rows = 0

    def add(self, rows_HW: Any) -> Iterator[Found]:
        """Add rows below those before, of `as_input`; yields the regions that end, in the order in which they do."""
        for start in range(0, len(rows_HW), self._block_rows):
            block_HW = rows_HW[start : start + self._block_rows]
            found = _scan_rows(block_HW, self._rows, -1, _NO_CELLS, 1, self._state, self._facts_RF, self._won_R)
            self._rows += len(block_HW)
            if found:
                yield self._found(found)

    def end(self) -> Found:
        """Return the regions that reach the last row."""
        return self._found(_end_scan(self._state, 1, self._facts_RF, self._won_R))

    def _found(self, found: int) -> Found:
        return Found._make([*self._facts_RF[:found].T.copy(), self._won_R[:found].copy()])


@compiled
def _begin_scan(width_px: int) -> Any:
    """Allocate what is kept between rows."""
    return _Scan(
        _new_runs(width_px),
        _new_runs(width_px),
        _new_open(2 * width_px),
        _new_open(2 * width_px),
        np.empty(2 * width_px, np.int32),
        np.zeros((width_px + 7) // 8 * 8, np.uint8),
        np.zeros(3, np.int64),
    )


@compiled
def _scan_rows(
    rows_HW: Any, top: int, background: int, cells: Any, min_px: int, scan: Any, facts_R: Any, won_R: Any
) -> int:
    """Add rows, and write the facts of the regions that end in them; return how many there are.

    Args:
        rows_HW: of the class map.
        top: row of the class map that is their first.
        background: class without regions; -1 for none.
        cells: the network's grid.
        min_px: regions of fewer pixels are left out.
        scan: what the rows before have left, and these leave.
        facts_R: holds as many regions as can end in these rows.
        won_R: likewise.
    """
    height_px, width_px = rows_HW.shape
    words = scan.changes.view(np.uint64)
    odd, runs_above, carried = scan.counts[0], scan.counts[1], scan.counts[2]
    runs, above, regions, kept = scan.runs, scan.above, scan.regions, scan.kept
    if odd != 0:
        runs, above, regions, kept = above, runs, kept, regions
    found = 0
    for y in range(height_px):
        runs_found = _read_row(rows_HW[y], scan.changes, words, runs, background)
        labels = _label_row(runs, runs_found, above, runs_above, regions, carried, (top + y) * width_px, top + y)
        if cells.winner_hw.shape[0] > 0:
            _add_probabilities(runs, runs_found, regions, cells, cells.row_H[top + y])
        carried = _carry(runs, runs_found, regions, labels, kept, scan.target)
        found = _emit(regions, labels, scan.target, min_px, facts_R, won_R, found)
        regions, kept = kept, regions
        runs, above = above, runs
        runs_above = runs_found
        odd = 1 - odd
    scan.counts[0], scan.counts[1], scan.counts[2] = odd, runs_above, carried
    return found


@compiled
def _end_scan(scan: Any, min_px: int, facts_R: Any, won_R: Any) -> int:
    """Write the facts of the regions that reach the last row; return how many there are."""
    odd, carried = scan.counts[0], scan.counts[2]
    regions = scan.kept if odd != 0 else scan.regions
    for label in range(carried):
        regions.parent[label] = label
        scan.target[label] = -1
    return _emit(regions, carried, scan.target, min_px, facts_R, won_R, 0)


@allocating
def _new_runs(width_px: int) -> Any:
    """Allocate for a row in which every pixel is a run."""
    return _Runs(
        np.empty(width_px, np.int32),
        np.empty(width_px, np.int32),
        np.empty(width_px, np.int32),
        np.empty(width_px, np.int32),
    )


@allocating
def _new_open(labels: int) -> Any:
    """Allocate for this many regions."""
    return _Open(np.empty(labels, np.int32), np.empty((labels, _FACTS), np.int64), np.empty(labels, np.float64))


@inner
def _read_row(row_W: Any, changes: Any, words: Any, runs: Any, background: int) -> int:
    """Find the runs of a row that are not of the background, eight pixels per step; return how many there are."""
    left = row_W[: row_W.size - 1]
    right = row_W[1:]
    for x in range(left.size):
        changes[x] = left[x] != right[x]
    found = 0
    start = 0
    for w in range(words.size):
        if words[w] != 0:
            for x in range(8 * w, 8 * w + 8):
                if changes[x] != 0:
                    found = _append(runs, found, start, x + 1, np.int32(row_W[x]), background)
                    start = x + 1
    return _append(runs, found, start, row_W.size, np.int32(row_W[row_W.size - 1]), background)


@inner
def _append(runs: Any, found: int, start: int, end: int, c: Any, background: int) -> int:
    """Append a run unless it is of the background; return how many there are."""
    if c == background:
        return found
    runs.start[found] = start
    runs.end[found] = end
    runs.winner[found] = c
    return found + 1


@inner
def _root(parent: Any, label: int) -> int:
    """Return the root label of the region, shortening the path to it."""
    while parent[label] != label:
        parent[label] = parent[parent[label]]
        label = parent[label]
    return label


@inner
def _label_row(
    runs: Any, found: int, above: Any, found_above: int, regions: Any, carried: int, offset: int, y: int
) -> int:
    """Add every run to the region of the runs of its class that touch it in the row above, or begin one.

    Returns:
        The number of labels, the carried ones first.
    """
    parent = regions.parent
    for label in range(carried):
        parent[label] = label
    labels = carried
    first = 0
    for i in range(found):
        start = runs.start[i]
        end = runs.end[i]
        while first < found_above and above.end[first] < start:
            first += 1
        label = -1
        j = first
        while j < found_above and above.start[j] <= end:
            if above.winner[j] == runs.winner[i]:
                other = _root(parent, above.label[j])
                if label >= 0 and other != label:
                    drop = max(label, other)
                    other = min(label, other)
                    parent[drop] = other
                    _join(regions, other, drop)
                label = other
            j += 1
        if label < 0:
            label = labels
            labels += 1
            parent[label] = label
            _begin(regions, label, runs.winner[i], y, start, offset + start)
        _extend(regions.facts[label], y, start, end)
        runs.label[i] = label
    return labels


@inner
def _begin(regions: Any, label: int, c: int, y: int, start: int, first: int) -> None:
    """Begin a region without pixels."""
    facts = regions.facts[label]
    for column in range(_FACTS):
        facts[column] = 0
    facts[_CLASS] = c
    facts[_TOP] = y
    facts[_LEFT] = start
    facts[_RIGHT] = start
    facts[_FIRST] = first
    regions.won[label] = 0.0


@inner
def _extend(facts: Any, y: int, start: int, end: int) -> None:
    """Add a run to a region."""
    n = np.int64(end) - start
    facts[_PIXELS] += n
    facts[_LEFT] = min(facts[_LEFT], start)
    facts[_RIGHT] = max(facts[_RIGHT], end - 1)
    facts[_BOTTOM] = y
    facts[_ROWS] += n * y
    facts[_COLUMNS] += n * (np.int64(start) + end - 1) // 2


@inner
def _join(regions: Any, into: int, label: int) -> None:
    """Add one region to another."""
    a = regions.facts[into]
    b = regions.facts[label]
    a[_PIXELS] += b[_PIXELS]
    a[_TOP] = min(a[_TOP], b[_TOP])
    a[_LEFT] = min(a[_LEFT], b[_LEFT])
    a[_BOTTOM] = max(a[_BOTTOM], b[_BOTTOM])
    a[_RIGHT] = max(a[_RIGHT], b[_RIGHT])
    a[_FIRST] = min(a[_FIRST], b[_FIRST])
    a[_ROWS] += b[_ROWS]
    a[_COLUMNS] += b[_COLUMNS]
    a[_WON_PX] += b[_WON_PX]
    regions.won[into] += regions.won[label]


@inner
def _add_probabilities(runs: Any, found: int, regions: Any, cells: Any, row: int) -> None:
    """Add the probabilities of the nearest cells to the regions of the runs, where the class wins the cell."""
    winner_w = cells.winner_hw[row]
    best_w = cells.best_hw[row]
    for i in range(found):
        label = _root(regions.parent, runs.label[i])
        c = runs.winner[i]
        first = cells.column_W[runs.start[i]]
        last = cells.column_W[runs.end[i] - 1]
        won_px = 0
        won = 0.0
        for column in range(first, last + 1):
            px = cells.start_w[column + 1] - cells.start_w[column] if winner_w[column] == c else 0
            won_px += px
            won += np.float64(best_w[column]) * px
        # The first and the last cell may reach out of the run.
        before = runs.start[i] - cells.start_w[first] if winner_w[first] == c else 0
        behind = cells.start_w[last + 1] - runs.end[i] if winner_w[last] == c else 0
        regions.facts[label, _WON_PX] += won_px - before - behind
        regions.won[label] += won - np.float64(best_w[first]) * before - np.float64(best_w[last]) * behind


@inner
def _carry(runs: Any, found: int, regions: Any, labels: int, kept: Any, target: Any) -> int:
    """Copy the regions that have a run in this row, under labels without gaps, and give these to the runs.

    Writes to `target` the new label of every region that is copied, -1 for the others.
    """
    for label in range(labels):
        target[label] = -1
    carried = 0
    for i in range(found):
        label = _root(regions.parent, runs.label[i])
        if target[label] < 0:
            target[label] = carried
            for column in range(_FACTS):
                kept.facts[carried, column] = regions.facts[label, column]
            kept.won[carried] = regions.won[label]
            carried += 1
        runs.label[i] = target[label]
    return carried


@inner
def _emit(regions: Any, labels: int, target: Any, min_px: int, facts_R: Any, won_R: Any, found: int) -> int:
    """Write the complete regions that are large enough; return how many are written."""
    for label in range(labels):
        if regions.parent[label] == label and target[label] < 0 and regions.facts[label, _PIXELS] >= min_px:
            for column in range(_FACTS):
                facts_R[found, column] = regions.facts[label, column]
            won_R[found] = regions.won[label]
            found += 1
    return found
