"""Choose by what changed: the share of pixels whose class differs between two runs of the same items."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import runs
from fsf_core.analysis.drift.classes import JointClasses, join_classes
from fsf_core.analysis.selection.candidates import Floats
from fsf_core.analysis.selection.choose import Choice, Request, select
from fsf_core.runs import RunReader

HELD_BYTES = 256 << 20
"""PNGs of one run that are in memory while the other run is read."""

BATCH_ROWS = 256
"""Masks that are in memory while a run is read."""

Keys = Mapping[tuple[str, int], int]
"""Id and frame index to the place in the result."""

Cell = Mapping[str, Any]
"""A cell of the column `mask`: the PNG, or the path of a TIFF."""


def select_changed(run: RunReader, other: RunReader, request: Request) -> Choice:
    """Choose frames of a run by how much their masks differ from those of another run; classes are matched by name.

    Raises:
        ConfigError: the condition does not fit the run.
        OutputError: the runs have no class in common, or a committed file is missing or damaged.
    """
    classes = join_classes(other.classes, run.classes)
    return select(run, request, changed=lambda keys: changed_shares(run, other, keys, classes), against=other.run_id)


def changed_shares(
    run: RunReader, other: RunReader, wanted: Sequence[tuple[str, int]], classes: JointClasses
) -> Floats:
    """Return the share of the pixels whose class differs, 0 to 1, of frames by id and frame index.

    NaN where the other run has no mask of the frame, or one of another size. The other run is read once for every
    HELD_BYTES of PNGs; masks that are TIFFs are read by rows.

    Args:
        run: the run.
        other: the run that it is compared with.
        wanted: the frames.
        classes: of the other run, and of the run.

    Raises:
        OutputError: a committed file is missing or damaged.
    """
    keys = {key: place for place, key in enumerate(wanted)}
    shares = np.full(len(keys), np.nan)
    compare = _Comparison(run.uri, other.uri, classes)
    held: dict[int, Cell] = {}
    held_bytes = 0
    for place, cell in _cells(run, keys):
        held[place] = cell
        held_bytes += len(cell["bytes"] or b"")
        if held_bytes > HELD_BYTES:
            _fill_in(shares, held, _cells(other, _of_held(keys, held)), compare)
            held, held_bytes = {}, 0
    if held:
        _fill_in(shares, held, _cells(other, _of_held(keys, held)), compare)
    return shares


def _of_held(keys: Keys, held: Mapping[int, Cell]) -> Keys:
    return {key: place for key, place in keys.items() if place in held}


def _fill_in(
    shares: Floats, held: Mapping[int, Cell], others: Iterator[tuple[int, Cell]], compare: "_Comparison"
) -> None:
    """Fill in the shares of the masks that are held."""
    for place, cell in others:
        shares[place] = compare.changed_share(held[place], cell)


@dataclass(frozen=True)
class _Comparison:
    """Of the masks of two runs."""

    run_uri: str
    other_uri: str
    classes: JointClasses

    def changed_share(self, cell: Cell, other: Cell) -> float:
        """Return the share of the pixels of one frame whose class differs; NaN where the masks have two sizes."""
        if cell["bytes"] is not None and cell["bytes"] == other["bytes"] and self.classes.same_ids:
            return 0.0
        with runs.open_mask(self.run_uri, cell) as mask, runs.open_mask(self.other_uri, other) as before:
            size = (mask.height_px, mask.width_px)
            if (before.height_px, before.width_px) != size:
                return float("nan")
            changed = 0
            for (_, b_HW), (_, a_HW) in zip(mask.bands(), before.bands(), strict=True):
                changed += int(np.count_nonzero(self.classes.of_a[a_HW] != self.classes.of_b[b_HW]))
        return changed / (size[0] * size[1])


def _cells(run: RunReader, keys: Keys) -> Iterator[tuple[int, Cell]]:
    """Yield place and mask of those of the frames of which the run has one."""
    ids = pa.array(sorted({item_id for item_id, _ in keys}), pa.string())
    frames = pa.array(sorted({frame for _, frame in keys}), pa.int64())
    columns = ["item_id", "frame_index", "mask"]
    for batch in run.iter_batches("masks", columns=columns, batch_rows=BATCH_ROWS) if keys else ():
        fit = pc.and_(
            pc.is_in(batch.column("item_id"), value_set=ids), pc.is_in(batch.column("frame_index"), value_set=frames)
        )
        for row in batch.filter(fit).to_pylist():
            place = keys.get((row["item_id"], row["frame_index"]))
            if place is not None:
                yield place, row["mask"]
