"""The wanted pixels of a baseline JPEG, in memory that stays from one picture to the next."""

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.media.images.sparse import bits, pixels, samples
from fsf_core.media.images.sparse.grid import Grid
from fsf_core.media.images.sparse.header import Baseline
from fsf_core.media.images.sparse.layout import Layout, Shape, make_layout
from fsf_core.media.images.stored import Pixels

_KEPT_BYTES = 64 << 20


class _Memory(threading.local):
    """Arrays of a thread that are used again: the first touch of a page costs 2 µs, a third of all decoding."""

    def __init__(self) -> None:
        self._kept: dict[str, NDArray[Any]] = {}

    def lend(self, name: str, size: int, dtype: type[np.generic]) -> NDArray[Any]:
        """Return an array of a size, with any content, until the next call for the name."""
        kept = self._kept.get(name)
        if kept is None or kept.size < size:
            self._kept.pop(name, None)
            kept = np.empty(size, dtype)
            if kept.nbytes <= _KEPT_BYTES:
                self._kept[name] = kept
        return kept[:size]


_MEMORY = _Memory()


def decode(data: bytes, baseline: Baseline, grid: Grid, orientation: int) -> Pixels | None:
    """Decode the wanted pixels.

    Args:
        data: the file.
        baseline: its header.
        grid: wanted pixels of the upright picture.
        orientation: EXIF's number, 1 to 8, of how the stored pixels are turned to be upright; any other is none.

    Returns:
        uint8 H×W×3, BGR, upright, of any content where it is not wanted; valid until this thread's next call. None if
        the image data are damaged or unusual.
    """
    shape = Shape(
        baseline.height_px, baseline.width_px, tuple((each.across, each.down) for each in baseline.components)
    )
    layout = make_layout(shape, grid, orientation)
    found = _samples(data, baseline, layout)
    if found is None:
        return None
    picture = _MEMORY.lend("picture", 3 * baseline.height_px * baseline.width_px, np.uint8)
    pixels.paint(found, layout.chroma, layout.apart, layout.rows, layout.columns, picture)
    return picture.reshape(*layout.upright_hw, 3)


def _samples(data: bytes, baseline: Baseline, layout: Layout) -> NDArray[np.uint8] | None:
    """Return the samples of all components; None if the image data are damaged or unusual."""
    components, restart_units = baseline.components, baseline.restart_units
    units = layout.order.units_across * sum(len(starts) for starts, _ in layout.bands)
    ends = np.zeros(-(-units // restart_units) if restart_units else 1, np.int64)
    clean = _MEMORY.lend("clean", len(data) - baseline.scan_at + bits.PAD_BYTES, np.uint8)
    if not bits.unstuff(np.frombuffer(data, np.uint8), baseline.scan_at, restart_units > 0, clean, ends):
        return None
    coding = bits.Coding(
        bits.make_codes(tuple((each.dc, each.ac) for each in components)),
        np.stack([each.quantisation for each in components]),
        restart_units,
    )
    state = bits.new_state()
    coefficients = _MEMORY.lend("coefficients", layout.coefficients, np.int16)
    coefficients.fill(0)
    found = _MEMORY.lend("samples", layout.samples, np.uint8)
    for starts, strips in layout.bands:
        if not bits.decode_units(clean, ends, coding, layout.order, state, starts, layout.lanes, coefficients):
            return None
        if not samples.invert(coefficients, strips, layout.block_rows, found):
            return None
    return found if bits.is_complete(state, ends) else None
