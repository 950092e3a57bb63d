"""The regions of frames as rows of the table regions, a list per unit."""

# R regions

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from fsf_core.masks import Regions
from fsf_core.stages import units

FrameRegions = tuple[int, Regions]
"""Index of a frame, and its regions."""


def region_column(found: Sequence[Sequence[FrameRegions]]) -> pa.ListArray:
    """Return the column `regions` of units: a list of units.REGION, ordered by frame and region.

    Built from arrays: a frame may have millions of regions.

    Args:
        found: the frames of every unit that have a mask.
    """
    frames = [frame for unit in found for frame in unit]
    offsets = np.cumsum([0, *(sum(len(regions) for _, regions in unit) for unit in found)], dtype=np.int32)
    columns = [_column(name, frames) for name in units.REGION.names]
    rows = pa.StructArray.from_arrays(columns, fields=list(units.REGION))
    return pa.ListArray.from_arrays(pa.array(offsets), rows)


def _column(name: str, frames: Sequence[FrameRegions]) -> pa.Array:
    """Return one column over the regions of all frames."""
    kind = units.REGION.field(name).type
    arrays: list[np.ndarray]
    if name == "frame_index":
        arrays = [np.full(len(regions), index, np.int64) for index, regions in frames]
    elif name == "region":
        arrays = [np.arange(len(regions), dtype=np.int32) for _, regions in frames]
    else:
        arrays = [getattr(regions, f"{name}_R") for _, regions in frames]
    values = np.concatenate(arrays) if arrays else np.empty(0)
    return pa.array(values, kind, mask=np.isnan(values) if name == "mean_probability" else None)
