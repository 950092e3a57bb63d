"""Images and videos that crash the process that decodes them, if tests/support/poison is on PYTHONPATH.

The kinds of crash and their colours are defined in poison/sitecustomize.py.
"""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.support import assets, clips
from tests.support.poison.sitecustomize import DEEDS

POISON = str(Path(__file__).parent / "poison")
"""To be put first on PYTHONPATH."""

DEADLY = ("abort", "kill", "segfault", "hang", "devour")
"""Deeds that no process survives; chatter decodes well."""


def picture(deed, *, height_px=60, width_px=80):
    """Return a valid PNG that triggers a deed when it is decoded."""
    flat_HWC = np.full((height_px, width_px, 3), DEEDS[deed][0][::-1], np.uint8)
    return assets.pillow(flat_HWC, "PNG")


def video(deed, *, frames, at_frame):
    """Return a lossless clip with one flat frame that triggers a deed."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("ffv1", rate=clips.RATE)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "bgr0"
        for number in range(frames):
            image_HWC = clips.picture(number)
            if number == at_frame:
                image_HWC[:] = DEEDS[deed][0]
            frame = av.VideoFrame.from_ndarray(image_HWC, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, clips.RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()
