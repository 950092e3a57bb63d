"""The columns in which class maps and figures of a fused model go from the infer stage to the mask stage.

The figures are what a class map does not tell of the probabilities it was made from. A unit has values in these
columns, or its scores in `outputs`; the columns that are not for it are empty.
"""

# N frames, K classes, h×w cells of the network's grid

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fsf_core import masks
from fsf_core.model.fused_figures import FIGURES, LARGEST, WINNERS
from fsf_core.stages import units

CLASS_MAPS = "class_maps"
"""Column of units: binary, one class map per frame at its original size; missing for plain models."""

_FIGURES, _WINNERS, _LARGEST = "figures", "winners", "largest"
COLUMNS = (_FIGURES, _WINNERS, _LARGEST)
"""Columns of figures: binary, the bytes of float32 [N, 2K+2], uint16 [N, h, w] and float32 [N, h, w]. The first is
missing for models of class maps, the others unless regions are wanted."""


CELL_BYTES = 6
"""Bytes of a cell in the last two."""


class FusedFigures(NamedTuple):
    """Figures of one frame, as fields of FrameMask."""

    mean_probability_K: NDArray[np.float64]
    confidence: float
    uncertain_share: float
    grid: masks.GridWinners | None
    finite: bool
    """Whether every probability was."""


def to_columns(
    figures: Mapping[str, NDArray[Any] | Sequence[NDArray[Any]]], counts: Sequence[int], *, planes: bool
) -> dict[str, pa.LargeBinaryArray]:
    """Return the columns of units.

    Args:
        figures: outputs of a fused model by name, of all frames in order: one array, or a list where grids differ; may
            be empty if there are none.
        counts: frames of every unit.
        planes: whether the outputs on the grid are among them.
    """
    frames = sum(counts)
    if not frames:
        return dict.fromkeys(COLUMNS if planes else COLUMNS[:1], units.from_bytes(np.empty(0, np.uint8), counts))
    parts = [np.asarray(figures[name]).reshape(frames, -1) for name in FIGURES]
    numbers_NF = np.concatenate(parts, axis=1, dtype=np.float32)  # in this order; _figures_of reads it
    columns = {_FIGURES: _binary(numbers_NF, counts)}
    if planes:
        columns[_WINNERS] = _binary(_as_uint16(figures[WINNERS]), counts)
        columns[_LARGEST] = _binary(figures[LARGEST], counts)
    return columns


def _as_uint16(ids: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.uint16] | list[NDArray[np.uint16]]:
    return ids.astype(np.uint16) if isinstance(ids, np.ndarray) else [one.astype(np.uint16) for one in ids]


def _binary(values: NDArray[Any] | Sequence[NDArray[Any]], counts: Sequence[int]) -> pa.LargeBinaryArray:
    """Return the arrays of all frames as one binary value per unit."""
    if not isinstance(values, np.ndarray):
        return units.stack(values, counts)
    frame_bytes = values.nbytes // len(values)
    return units.from_bytes(np.ascontiguousarray(values).reshape(-1).view(np.uint8), [n * frame_bytes for n in counts])


def has_class_maps(table: pa.Table, at: int) -> bool:
    """Return whether a unit has class maps rather than scores; False for one without frames."""
    return table.schema.get_field_index(CLASS_MAPS) >= 0 and len(units.value(table, CLASS_MAPS, at)) > 0


def of_unit(table: pa.Table, at: int, grids: Sequence[tuple[int, int]]) -> Iterator[FusedFigures | None]:
    """Yield the figures of every frame of a unit; None where the model has none.

    Args:
        table: units with the columns of this module that exist; this one has class maps.
        at: row of the unit.
        grids: rows and columns of the network's grid for every frame of the unit.
    """
    frames = len(grids)
    if _FIGURES not in table.column_names or not frames:
        yield from (None for _ in range(frames))
        return
    numbers_NF = _values(table, at, _FIGURES, np.float32).reshape(frames, -1).astype(np.float64)
    found: list[masks.GridWinners | None] = [None] * frames
    if _WINNERS in table.column_names:
        winners_Nhw = units.split(_values(table, at, _WINNERS, np.uint8), np.uint16, grids)
        largest_Nhw = units.split(_values(table, at, _LARGEST, np.uint8), np.float32, grids)
        found = [
            masks.GridWinners(winner_hw=winner_hw, probability_hw=largest_hw)
            for winner_hw, largest_hw in zip(winners_Nhw, largest_Nhw, strict=True)
        ]
    for numbers_F, grid in zip(numbers_NF, found, strict=True):
        yield _figures_of(numbers_F, grid)


def _values(table: pa.Table, at: int, name: str, dtype: type[np.generic]) -> NDArray[Any]:
    """Return a value of a binary column as an array, without a copy."""
    return units.value(table, name, at).view(dtype)


def _figures_of(numbers_F: NDArray[np.float64], grid: masks.GridWinners | None) -> FusedFigures:
    """Return the figures of one frame."""
    classes = len(numbers_F) // 2 - 1
    won_means_K, won_shares_K, (uncertain_share, mean) = np.split(numbers_F, [classes, 2 * classes])
    return FusedFigures(
        mean_probability_K=won_means_K / np.where(won_shares_K > 0, won_shares_K, np.nan),
        confidence=float(won_means_K.sum()),
        uncertain_share=float(uncertain_share),
        grid=grid,
        finite=bool(np.isfinite(mean)),
    )
