"""From pixels to the network's input. Knows a table of levels; the profile that made it is geometry's."""

# N images, C channels, H×W pixels

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsf_core.kernels.compiling import as_input, compiled


def to_network_input(
    frames_NHWC: NDArray[np.uint8], levels_C256: NDArray[np.float32], out_NCHW: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Scale, normalise and transpose by table: out[n, c, y, x] = levels[c, frames[n, y, x, c]], the same floats.

    Args:
        frames_NHWC: uint8 pixels as `geometry.fit` leaves them.
        levels_C256: float32 table of `geometry.Profile.levels`.
        out_NCHW: contiguous float32 to fill and return; a new one without it.
    """
    count, height, width, channels = frames_NHWC.shape
    shape = (count, channels, height, width)
    if frames_NHWC.dtype != np.uint8 or levels_C256.shape != (channels, 256) or levels_C256.dtype != np.float32:
        raise ValueError(
            f"found {frames_NHWC.dtype} frames with {channels} channels and {levels_C256.dtype} levels "
            f"{levels_C256.shape}; expected uint8 frames and float32 levels ({channels}, 256)"
        )
    if out_NCHW is None:
        out_NCHW = np.empty(shape, np.float32)
    elif out_NCHW.shape != shape or out_NCHW.dtype != np.float32 or not out_NCHW.flags.c_contiguous:
        raise ValueError(f"found {out_NCHW.dtype} out {out_NCHW.shape}; expected contiguous float32 {shape}")
    _look_up(
        as_input(frames_NHWC).reshape(count, height * width, channels),
        as_input(levels_C256),
        out_NCHW.reshape(count, channels, height * width),
    )
    return out_NCHW


@compiled
def _look_up(frames_NPC: Any, levels_C256: Any, out_NCP: Any) -> None:
    """out[n, c, p] = levels[c, frames[n, p, c]]."""
    for n in range(frames_NPC.shape[0]):
        for c in range(frames_NPC.shape[2]):
            for p in range(frames_NPC.shape[1]):
                out_NCP[n, c, p] = levels_C256[c, frames_NPC[n, p, c]]
