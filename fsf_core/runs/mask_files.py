"""The masks of a run outside of its tables: TIFFs of pictures that were scored in windows.

A row of masks has the PNG, the path of a TIFF inside the run, or both. Knows no other column.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core import storage
from fsf_core.errors import FetchError, ItemError, LimitError, OutputError
from fsf_core.masks import ClassMap, decode_png

FOLDER = "masks_tiff"
"""Folder of the TIFFs inside the run."""

_BAND_PX = 1 << 24


def png_of(mask: Mapping[str, Any]) -> bytes:
    """Return the PNG of a cell of the column `mask`.

    Raises:
        LimitError: the picture is too large for one, and its mask is a TIFF.
    """
    png = mask["bytes"]
    if png is None:
        raise LimitError(
            f"the mask of this picture is a TIFF, {mask['path']} in the run, because it was larger than --max-pixels; "
            "open that file with RunReader.mask, rasterio or QGIS"
        )
    return bytes(png)


def class_map_of(run_uri: str, mask: Mapping[str, Any], *, step: int = 1) -> ClassMap:
    """Return every n-th pixel of the class map of a cell of the column `mask`, wherever it is.

    Args:
        run_uri: the run folder.
        mask: the cell.
        step: n; 1 for all pixels.

    Raises:
        OutputError: a TIFF is missing or damaged.
    """
    return (
        _read_tiff(run_uri, mask["path"], step) if mask["bytes"] is None else decode_png(mask["bytes"])[::step, ::step]
    )


@contextmanager
def open_mask(run_uri: str, mask: Mapping[str, Any]) -> "Iterator[OpenMask]":
    """Open the class map of a cell of the column `mask`, wherever it is, to be read by rows.

    Raises:
        OutputError: a TIFF is missing, or damaged, also where its rows are read. Other errors of the block pass
            through.
    """
    if mask["bytes"] is not None:
        class_map_HW = decode_png(mask["bytes"])
        height_px, width_px = class_map_HW.shape
        yield OpenMask(height_px, width_px, class_map_HW.dtype, lambda top, rows: class_map_HW[top : top + rows])
        return
    from fsf_core.media.rasters import read_mask  # loads OpenCV, which few readers need

    uri = storage.join(run_uri, mask["path"])
    with ExitStack() as stack:
        with _naming(uri):
            raster = read_mask(stack.enter_context(storage.open_binary(uri)))
        width_px = raster.width_px

        def read(top_px: int, rows: int) -> NDArray[Any]:
            with _naming(uri):
                return raster.read(top_px, 0, rows, width_px)

        yield OpenMask(raster.height_px, width_px, raster.dtype, read)


@dataclass(frozen=True)
class OpenMask:
    """A class map that is read by rows."""

    height_px: int
    width_px: int
    dtype: Any
    """Of its class ids."""
    _read: Callable[[int, int], NDArray[Any]]

    def bands(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield it in blocks of rows, each with the number of its first row; equal for masks of one size.

        Raises:
            OutputError: it is damaged there.
        """
        rows = max(1, _BAND_PX // self.width_px)
        for top in range(0, self.height_px, rows):
            yield top, self._read(top, min(rows, self.height_px - top))


def find_mask_problem(run_uri: str, path: str, *, height_px: int, width_px: int) -> str | None:
    """Read a mask that is a TIFF to its end, with the checksum of every tile; return what is wrong with it, or None."""
    try:
        with open_mask(run_uri, {"bytes": None, "path": path}) as mask:
            if (mask.height_px, mask.width_px) != (height_px, width_px):
                return f"{path} has {mask.width_px}x{mask.height_px} pixels, its row {width_px}x{height_px}"
            for _ in mask.bands():
                pass
    except OutputError as error:
        return str(error)
    return None


def _read_tiff(run_uri: str, path: str, step: int) -> ClassMap:
    """Read every n-th pixel of a mask that is a TIFF, in memory for these and for some rows."""
    with open_mask(run_uri, {"bytes": None, "path": path}) as mask:
        chosen_HW = np.empty((-(-mask.height_px // step), -(-mask.width_px // step)), mask.dtype)
        for top, rows_HW in mask.bands():
            chosen = rows_HW[-top % step :: step, ::step]
            at = -(-top // step)
            chosen_HW[at : at + len(chosen)] = chosen
        return chosen_HW


@contextmanager
def _naming(uri: str) -> Iterator[None]:
    """Name the mask in an error of a block that reads it.

    Raises:
        OutputError: it is missing, or damaged where it is read.
    """
    try:
        yield
    except (FetchError, ItemError) as error:
        raise OutputError(f"{storage.redact(uri)} cannot be read: {error}") from error
