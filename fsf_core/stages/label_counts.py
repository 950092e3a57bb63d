"""Labels counted against the masks of their frames: what the mask stage adds to the units of a labelled manifest.

Knows class maps and encoded labels. Knows no files and no figures made of the counts.
"""

# H×W pixels, K classes

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import masks
from fsf_core.errors import LabelError
from fsf_core.masks import confusion
from fsf_core.masks.confusion import Cells
from fsf_core.masks.labels import decode_label
from fsf_core.stages import units

_SIZE_AT = 16
"""Offset of width and height in a PNG."""


def count_label(label: bytes | None, class_map_HW: masks.ClassMap, palette_K3: NDArray[np.uint8]) -> Cells | None:
    """Count a label against the mask of its frame; None for a frame without a label.

    Args:
        label: as it is stored.
        class_map_HW: the mask.
        palette_K3: RGB of every class.

    Raises:
        LabelError: it cannot be read, has another size than the mask, or a colour that is no class's.
    """
    if label is None:
        return None
    _require_size(label, *class_map_HW.shape)
    num_classes = len(palette_K3)
    label_HW = decode_label(label, palette_K3=palette_K3, num_classes=num_classes)
    return confusion.count(label_HW, class_map_HW, num_classes)


def append_counts(table: pa.Table, counts: Sequence[Sequence[Cells | None]]) -> pa.Table:
    """Return units with their counts instead of their labels.

    Args:
        table: units with `labels` and `label_sha256`; with the frames that have a mask.
        counts: of every unit, an entry per frame.

    Returns:
        The units with `label_sha256` and `label_ignored_px`, an entry per frame, and `confusion`, a list of CELL.
    """
    ignored = [[cells and cells.ignored_px for cells in each] for each in counts]
    digests = table.column("label_sha256").to_pylist()
    kept = [each[: len(frames)] for each, frames in zip(digests, ignored, strict=True)]
    at = table.column_names.index("label_sha256")
    table = table.set_column(at, "label_sha256", pa.array(kept, units.DIGESTS)).drop_columns(["labels"])
    table = table.append_column("label_ignored_px", pa.array(ignored, pa.list_(pa.int64())))
    return table.append_column("confusion", _as_lists([_together(each) for each in counts]))


def _together(cells: Sequence[Cells | None]) -> Cells:
    """Add up the counts of the labelled frames of a unit."""
    found = [each for each in cells if each is not None]
    return found[0] if len(found) == 1 else confusion.merge(found)


def _as_lists(cells: Sequence[Cells]) -> pa.ListArray:
    """Return the rows of each unit as a list."""
    columns = [each.columns() for each in cells]
    values: list[Any] = [
        np.concatenate([np.empty(0, field.type.to_pandas_dtype()), *(each[field.name] for each in columns)])
        for field in units.CELL
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(values, units.CELL, strict=True)]
    offsets = np.cumsum([0, *(len(each.pixels) for each in cells)])
    rows = pa.StructArray.from_arrays(arrays, fields=list(units.CELL))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), rows, type=pa.list_(units.CELL))


def _require_size(label: bytes, height_px: int, width_px: int) -> None:
    """Compare the size in the header of a PNG with that of the mask, before anything is decoded.

    Raises:
        LabelError: they differ.
    """
    if not label.startswith(masks.PNG_SIGNATURE) or len(label) < _SIZE_AT + 8:
        return  # refused with its reason when it is decoded
    width, height = struct.unpack_from(">II", label, _SIZE_AT)
    if (height, width) != (height_px, width_px):
        raise LabelError(
            f"the label has {width}×{height} pixels, expected the {width_px}×{height_px} of its mask; export the label "
            "at the size of the image"
        )
