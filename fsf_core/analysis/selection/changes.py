"""Choose by what changed: the share of pixels whose class differs between two runs of the same items."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fsf_core import masks
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

    NaN where the other run has no mask of the frame, or one of another size, or where one is too large for a PNG. The
    other run is read once for every HELD_BYTES of masks.

    Args:
        run: the run.
        other: the run that it is compared with.
        wanted: the frames.
        classes: of the other run, and of the run.
    """
    keys = {key: place for place, key in enumerate(wanted)}
    shares = np.full(len(keys), np.nan)
    held: dict[int, bytes] = {}
    held_bytes = 0
    for place, png in _pngs(run, keys):
        held[place] = png
        held_bytes += len(png)
        if held_bytes > HELD_BYTES:
            _compare(held, other, keys, classes, shares)
            held, held_bytes = {}, 0
    if held:
        _compare(held, other, keys, classes, shares)
    return shares


def _compare(held: Mapping[int, bytes], other: RunReader, keys: Keys, classes: JointClasses, shares: Floats) -> None:
    """Fill in the shares of the masks that are held."""
    held_keys = {key: place for key, place in keys.items() if place in held}
    for place, png in _pngs(other, held_keys):
        shares[place] = _changed_share(held[place], png, classes)


def _changed_share(png: bytes, other: bytes, classes: JointClasses) -> float:
    if png == other and classes.same_ids:
        return 0.0
    a_HW, b_HW = classes.of_a[masks.decode_png(other)], classes.of_b[masks.decode_png(png)]
    return float((a_HW != b_HW).mean()) if a_HW.shape == b_HW.shape else float("nan")


def _pngs(run: RunReader, keys: Keys) -> Iterator[tuple[int, bytes]]:
    """Yield place and PNG of those of the frames of which the run has one."""
    ids = pa.array(sorted({item_id for item_id, _ in keys}), pa.string())
    frames = pa.array(sorted({frame for _, frame in keys}), pa.int64())
    columns = ["item_id", "frame_index", "mask"]
    for batch in run.iter_batches("masks", columns=columns, batch_rows=BATCH_ROWS) if keys else ():
        fit = pc.and_(
            pc.is_in(batch.column("item_id"), value_set=ids), pc.is_in(batch.column("frame_index"), value_set=frames)
        )
        for row in batch.filter(fit).to_pylist():
            place = keys.get((row["item_id"], row["frame_index"]))
            if place is not None and row["mask"]["bytes"] is not None:
                yield place, row["mask"]["bytes"]
