"""What a user may not expect of a video's masks is in their notes; of a plain video there is nothing to note."""

import io
from fractions import Fraction

import numpy as np
import pytest

from fsf_core.media.video import index_video
from tests.support.clips import MATRICES, clip, oriented

COS, SIN = np.cos(np.radians(30)), np.sin(np.radians(30))
PLAIN = clip(frames=2)


def hdr(trc):
    options = {"x265-params": f"log-level=none:transfer={trc}"}
    return {"codec": "libx265", "pixel_format": "yuv420p10le", "options": options}


NOTED = {
    "a bare stream": (
        clip(frames=2, container="h264", rate=10),
        "the file holds no times, pts_s counts its frames at 10 per second",
    ),
    "DVD": (
        clip("mpeg2video", container="vob", frames=2, width_px=720, height_px=576, pixel_aspect=Fraction(16, 15)),
        "its pixels are not square (16:15), masks are in stored pixels",
    ),
    "an angle": (
        oriented(PLAIN, (COS, SIN, -SIN, COS)),
        "the turn of 30° that the file asks for is no right angle and was not made",
    ),
    "PQ": (clip(frames=2, **hdr("smpte2084")), "its colours are HDR (PQ) and were not tone-mapped"),
    "HLG": (clip(frames=2, **hdr("arib-std-b67")), "its colours are HDR (HLG) and were not tone-mapped"),
    "interlaced": (
        clip(frames=2, options={"flags": "+ildct+ilme", "x264-params": "tff=1:cpu-independent=1"}),
        "it is interlaced, each frame holds two fields",
    ),
    "alpha": (
        clip("prores_ks", container="mov", frames=2, pixel_format="yuva444p10le"),
        "its alpha channel was ignored",
    ),
}


@pytest.mark.parametrize("case", NOTED)
def test_what_was_done_is_noted(case):
    data, note = NOTED[case]

    assert index_video(io.BytesIO(data)).notes == (note,)


@pytest.mark.parametrize("orientation", MATRICES)
def test_a_video_that_is_shown_as_it_should_be_has_no_notes(orientation):
    assert index_video(io.BytesIO(oriented(PLAIN, MATRICES[orientation]))).notes == ()
